// GET /openapi.json: what is fixed about the service, and one path per function of the application.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

#include "httptext/percent.h"
#include "keelback/outcome.h"
#include "server/json.h"
#include "server/providing.h"
#include "server/request.h"
#include "server/target.h"
#include "server/views.h"

namespace keelback::server {
namespace {

// The application's types and ours are side by side in the document.
constexpr std::string_view kProblem = "Problem";
std::string component(std::string_view type) {
  return type == kProblem ? "Application.Problem" : std::string(type);
}

// A reference to a type of HELLO's `$defs` as one to ours; nothing else is touched.
void point_to_component(Json& reference) {
  constexpr std::string_view kDefinitions = "#/$defs/";
  if (!reference.is_string()) return;
  const auto text = reference.get<std::string>();
  if (!text.starts_with(kDefinitions)) return;
  reference =
      "#/components/schemas/" + component(std::string_view(text).substr(kDefinitions.size()));
}

// A schema of HELLO, whose types are its `$defs`, as a part of this document. A text that only
// looks like a reference, such as a value of an enum, stays what it is.
Json in_document(Json schema) {
  if (schema.is_array()) {
    for (Json& each : schema) each = in_document(std::move(each));
  } else if (schema.is_object()) {
    for (auto& [key, value] : schema.items()) {
      if (key == "$ref") point_to_component(value);
      if (key == "discriminator" && value.contains("mapping")) {
        for (Json& each : value["mapping"]) point_to_component(each);
      }
      value = in_document(std::move(value));
    }
  }
  return schema;
}

// Empty: anything.
Json schema_of(const std::string& text) {
  return text.empty() ? Json::object() : in_document(parsed(text));
}

// What is sent beside the JSON. No JSON value fits such a parameter.
bool is_attachment(const Json& schema) {
  if (const auto members = schema.find("anyOf"); members != schema.end()) {
    return std::ranges::any_of(*members, is_attachment);
  }
  const auto format = schema.find("format");
  return format != schema.end() && *format == "binary";
}

// The two ways to give arguments: by name and by position. Each only where Python allows it.
Json arguments_schema(const std::vector<FunctionInfo::Parameter>& parameters) {
  Json by_name = {{"type", "object"},
                  {"properties", Json::object()},
                  {"required", Json::array()},
                  {"additionalProperties", false}};
  Json by_position = {{"type", "array"}, {"prefixItems", Json::array()}, {"items", false}};
  std::size_t least = 0;
  bool name_works = true;
  bool position_works = true;
  for (const FunctionInfo::Parameter& parameter : parameters) {
    const std::string& name = parameter.name;
    const std::string& kind = parameter.kind;
    const Json schema = schema_of(parameter.schema);
    const bool attached = is_attachment(schema);
    const bool required = parameter.required;
    if (attached) {
      position_works = false;
    } else if (kind == "var_positional") {
      by_position["items"] = schema;
    } else if (kind == "var_keyword") {
      by_name["additionalProperties"] = schema;
    } else {
      if (kind == "positional_only") {
        name_works = name_works && !required;
      } else {
        by_name["properties"][name] = schema;
        if (required) by_name["required"].push_back(name);
      }
      if (kind == "keyword_only") {
        position_works = position_works && !required;
      } else {
        by_position["prefixItems"].push_back(schema);
        least += required ? 1 : 0;
      }
    }
  }
  if (by_position["prefixItems"].empty()) by_position.erase("prefixItems");
  if (least > 0) by_position["minItems"] = least;
  Json forms = Json::array();
  if (name_works) forms.push_back(std::move(by_name));
  if (position_works) forms.push_back(std::move(by_position));
  if (forms.empty()) return Json::object();
  return forms.size() == 1 ? forms[0] : Json{{"oneOf", std::move(forms)}};
}

Json reference(const char* what) { return {{"$ref", fmt::format("#/components/{}", what)}}; }

Json call_parameters() {
  constexpr Header kShown[] = {Header::kSession,     Header::kAffinity,    Header::kSessionOpen,
                               Header::kDeadlineMs,  Header::kExpectEpoch, Header::kPriority,
                               Header::kBatchKey,    Header::kIdempotent,  Header::kIdempotencyKey,
                               Header::kTraceparent, Header::kCall,        Header::kParent,
                               Header::kAttachment,  Header::kDtype,       Header::kShape,
                               Header::kArguments,   Header::kHop};
  Json list = Json::array();
  for (Header header : kShown) {
    Json schema = {{"type", "string"}};
    if (header == Header::kAffinity) schema["enum"] = {"strict_queue", "strict_fail_fast", "hint"};
    if (header == Header::kSessionOpen) schema["enum"] = {"any", "new", "existing"};
    if (header == Header::kPriority) schema["enum"] = {"high", "normal", "low"};
    if (header == Header::kIdempotent) schema["enum"] = {"true", "false"};
    if (header == Header::kDeadlineMs) schema = {{"type", "integer"}, {"minimum", 1}};
    if (header == Header::kParent) schema = {{"type", "integer"}, {"minimum", 1}};
    list.push_back({{"name", to_string(header)}, {"in", "header"}, {"schema", std::move(schema)}});
    if (header == Header::kAttachment) {
      list.back()["description"] =
          "The attachment's name. A body that is not JSON needs at least one Keelback-* header "
          "(else 415); this one may be any text beside multipart/form-data";
    }
    if (header == Header::kParent) {
      list.back()["description"] =
          "The call on whose behalf this one is made: `call` of a request for a provided function. "
          "The call is cancelled if that one does not run, and ends with it";
    }
    if (header == Header::kHop) {
      list.back()["description"] =
          "Of a call that another node of the cluster sends: its name and its signature, which "
          "stands for the token. If it is wrong, the reply is 401";
    }
    if (header == Header::kBatchKey) {
      list.back()["description"] =
          "Of a function that takes batches: only calls with the same go together";
    }
    if (header == Header::kIdempotencyKey) {
      list.back()["description"] =
          "The same key and body get the same answer for calls.idempotency_ttl; another body is "
          "refused with 422";
    }
  }
  return list;
}

Json call_responses(const FunctionInfo& function) {
  const bool stream = function.stream;
  Json result = schema_of(function.result_schema);
  if (stream) result = {{"type", "array"}, {"items", std::move(result)}};
  Json ok = {{"description", "The function's result"},
             {"content", {{"application/json", {{"schema", std::move(result)}}}}}};
  ok["content"]["multipart/form-data"] = {
      {"schema",
       {{"type", "object"},
        {"description",
         "If the function returned attachments: the part \"result\" is the JSON, where "
         "{\"$attachment\": name} stands for the part of that name"}}}};
  ok["content"]["application/octet-stream"] = {
      {"schema", {{"type", "string"}, {"format", "binary"}}}};
  ok["content"]["text/event-stream"] = {
      {"schema",
       {{"type", "string"},
        {"description", stream ? "item events, then one end or error event"
                               : "one item event, then one end or error event"}}}};
  return {{"200", std::move(ok)},
          {"422", reference("responses/NotThisRequest")},
          {"default", reference("responses/Problem")}};
}

Json problem_response(const char* description) {
  return {{"description", description},
          {"content", {{"application/problem+json", {{"schema", reference("schemas/Problem")}}}}}};
}

Json function_path(const FunctionInfo& function) {
  Json operation = {{"operationId", "call_" + function.name},
                    {"tags", {"functions"}},
                    {"summary", "Call " + function.name}};
  if (!function.doc.empty()) operation["description"] = function.doc;
  operation["parameters"] = call_parameters();
  operation["requestBody"] = {
      {"content",
       {{"application/json", {{"schema", arguments_schema(function.parameters)}}},
        {"multipart/form-data",
         {{"schema",
           {{"type", "object"},
            {"description", "The part \"arguments\" is the JSON, every other part an attachment"},
            {"properties", {{"arguments", {{"type", "object"}}}}},
            {"additionalProperties", {{"type", "string"}, {"format", "binary"}}}}}}},
        {"application/octet-stream", {{"schema", {{"type", "string"}, {"format", "binary"}}}}}}}};
  operation["responses"] = call_responses(function);
  return {{"post", std::move(operation)}};
}

// A change that is refused has `errors` of its own: a key and why, for each setting.
void describe_config_change(Json& operation) {
  const Json change = {{"schema", {{"type", "object"}}}};
  operation["requestBody"] = {
      {"required", true},
      {"content", {{"application/json", change}, {"application/merge-patch+json", change}}}};
  const Json text = {{"type", "string"}};
  const Json refusal = {{"type", "object"},
                        {"required", {"type", "title", "status", "detail"}},
                        {"properties",
                         {{"type", text},
                          {"title", text},
                          {"status", {{"type", "integer"}}},
                          {"detail", text},
                          {"errors",
                           {{"type", "array"},
                            {"items",
                             {{"type", "object"},
                              {"required", {"key", "why"}},
                              {"properties", {{"key", text}, {"why", text}}}}}}}}}};
  operation["responses"]["4XX"] = {
      {"description", "Nothing was changed"},
      {"content", {{"application/problem+json", {{"schema", refusal}}}}}};
}

// What is beyond the route table of the routes for clients that provide functions.
void describe_provide(Json& operation) {
  operation["summary"] = "Provide functions to Python code";
  operation["parameters"] = Json::array({{{"name", "names"},
                                          {"in", "query"},
                                          {"required", true},
                                          {"style", "form"},
                                          {"explode", false},
                                          {"schema",
                                           {{"type", "array"},
                                            {"minItems", 1},
                                            {"maxItems", kProvidedNamesMax},
                                            {"uniqueItems", true},
                                            {"items", {{"type", "string"}, {"minLength", 1}}}}}}});
  operation["responses"]["200"] = {
      {"description",
       "The stream lasts as long as the names are provided. Event request: {id, name, arguments, "
       "call, session, deadline_ms}; event cancel: {id}"},
      {"content", {{"text/event-stream", {{"schema", {{"type", "string"}}}}}}}};
}

void describe_answer(Json& operation) {
  operation["summary"] = "Answer a request of Python code";
  operation["requestBody"] = {
      {"required", true},
      {"content",
       {{"application/json", {{"schema", Json::object()}}},
        {"application/problem+json",
         {{"schema",
           {{"type", "object"},
            {"properties",
             {{"type", {{"type", "string"}}},
              {"title", {{"type", "string"}}},
              {"detail", {{"type", "string"}}},
              {"error",
               {{"type", "object"},
                {"properties",
                 {{"type", {{"type", "string"}}}, {"message", {{"type", "string"}}}}}}}}}}}}}}}};
  operation["responses"]["204"] = {{"description", "The Python code has the answer"}};
  operation["responses"]["409"] = problem_response("Nobody waits for an answer to this request");
}

Json object_schema(Json properties) {
  Json required = Json::array();
  for (const auto& [name, schema] : properties.items()) required.push_back(name);
  return {
      {"type", "object"}, {"required", std::move(required)}, {"properties", std::move(properties)}};
}

void describe_cluster(Json& operation) {
  const Json text = {{"type", "string"}};
  const Json flag = {{"type", "boolean"}};
  const Json number = {{"type", "integer"}, {"minimum", 0}};
  const Json incarnation = {{"type", "string"}, {"pattern", "^[0-9a-f]{16}$"}};
  const Json node = object_schema({{"name", text},
                                   {"url", text},
                                   {"incarnation", incarnation},
                                   {"self", flag},
                                   {"draining", flag},
                                   {"retired", flag},
                                   {"digest", text},
                                   {"schema", number}});
  const Json database =
      object_schema({{"up", flag}, {"weaknesses", {{"type", "array"}, {"items", text}}}});
  const Json phase = {{"type", "string"},
                      {"enum", {"joining", "member", "displaced", "leaving", "left"}}};
  const Json cluster =
      object_schema({{"node", text},
                     {"incarnation", incarnation},
                     {"phase", phase},
                     {"draining", flag},
                     {"trouble", text},
                     {"serves_sessions", flag},
                     {"sessions", number},
                     {"database", database},
                     {"nodes", {{"type", "array"}, {"items", node}}},
                     {"counters", {{"type", "object"}, {"additionalProperties", number}}}});
  operation["summary"] = "The cluster as this node knows it";
  operation["responses"].erase("2XX");
  operation["responses"]["200"] = {{"description", "This node, the nodes, and what happened"},
                                   {"content", {{"application/json", {{"schema", cluster}}}}}};
  operation["responses"]["404"] = problem_response("This daemon is no node of a cluster");
}

// Every route but the calls, from the route table itself.
void add_service_paths(Json& paths) {
  for (const RouteRow& row : routes()) {
    if (row.route == Route::kCall) continue;
    std::string path(row.pattern);
    const auto hole = path.find("{}");
    std::string parameter;
    if (hole != std::string::npos) {
      parameter = row.route == Route::kRecycle ? "slot" : "id";
      path.replace(hole, 2, "{" + parameter + "}");
    }
    Json operation = {{"tags", {"service"}}};
    if (!parameter.empty()) {
      operation["parameters"] = Json::array({{{"name", parameter},
                                              {"in", "path"},
                                              {"required", true},
                                              {"schema", {{"type", "string"}}}}});
    }
    operation["responses"] = {{"2XX", {{"description", "Done"}}},
                              {"default", reference("responses/Problem")}};
    if (row.route == Route::kConfig && row.method == "PATCH") describe_config_change(operation);
    if (row.route == Route::kCluster) describe_cluster(operation);
    if (row.route == Route::kProvide) describe_provide(operation);
    if (row.route == Route::kAnswer) describe_answer(operation);
    std::string method(row.method);
    for (char& c : method) c = static_cast<char>(c | 32);
    paths[path][method] = std::move(operation);
  }
}

Json problem_schema() {
  Json outcomes = Json::array();
  for (int i = 1; i < kOutcomeKinds; ++i) {
    outcomes.push_back(to_string(static_cast<OutcomeKind>(i)));
  }
  return {{"type", "object"},
          {"required", {"type", "title", "status", "detail"}},
          {"properties",
           {{"type", {{"type", "string"}}},
            {"title", {{"type", "string"}}},
            {"status", {{"type", "integer"}}},
            {"detail", {{"type", "string"}}},
            {"outcome", {{"type", "string"}, {"enum", std::move(outcomes)}}},
            {"effect", {{"type", "string"}, {"enum", {"none", "maybe", "done"}}}},
            {"reason", {{"type", "string"}}},
            {"errors",
             {{"type", "array"},
              {"items",
               {{"type", "object"},
                {"required", {"loc", "msg", "type"}},
                {"properties",
                 {{"loc",
                   {{"type", "array"}, {"items", {{"type", Json::array({"string", "integer"})}}}}},
                  {"msg", {{"type", "string"}}},
                  {"type", {{"type", "string"}}}}}}}}},
            {"python", {{"type", "object"}}},
            {"worker", {{"type", "string"}}},
            {"death", {{"type", "object"}}},
            {"dump", {{"type", "string"}}},
            {"dump_at", {{"type", "string"}}},
            {"attempts", {{"type", "integer"}}},
            {"retry_after_ms", {{"type", "integer"}}}}}};
}

}  // namespace

std::string openapi_json(const Application* application) {
  Json paths = Json::object();
  std::string app = "Keelback";
  if (application != nullptr) {
    if (!application->name.empty()) app = application->name;
    for (const FunctionInfo& function : application->functions) {
      paths["/v1/call/" + httptext::percent_encode(function.name)] = function_path(function);
    }
  }
  Json schemas = {{kProblem, problem_schema()}};
  if (application != nullptr && !application->definitions.empty()) {
    const Json definitions = parsed(application->definitions);
    for (const auto& [name, definition] : definitions.items()) {
      schemas[component(name)] = in_document(definition);
    }
  }
  add_service_paths(paths);
  const Json document = {
      {"openapi", "3.1.0"},
      {"info", {{"title", app}, {"version", "1"}}},
      {"paths", std::move(paths)},
      {"components",
       {{"schemas", std::move(schemas)},
        {"responses",
         {{"Problem", problem_response("What went wrong")},
          {"NotThisRequest",
           problem_response("quarantined: this very request killed workers before; bad_request: "
                            "arguments do not fit the function's annotations (errors says where), "
                            "or its Idempotency-Key was used for another request")}}},
        {"securitySchemes", {{"bearer", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
      {"security", Json::array({Json::object(), Json{{"bearer", Json::array()}}})}};
  return dump(document);
}

}  // namespace keelback::server
