#include "host/hello.h"

#include <nlohmann/json.hpp>

#include "base/json_text.h"

namespace keelback::host {
namespace {

using Json = nlohmann::json;

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

core::FunctionsAnnounced functions_of(const Application& application) {
  core::FunctionsAnnounced out;
  out.health = application.health;
  for (const FunctionInfo& each : application.functions) {
    core::FunctionSpec spec;
    spec.name = each.name;
    spec.idempotent = each.idempotent;
    spec.stream = each.stream;
    spec.timeout = each.timeout;
    spec.max_workers = each.max_workers;
    spec.concurrency = each.concurrency;
    spec.batch = each.batch;
    spec.batch_wait = each.batch_wait;
    spec.interruptible = each.interruptible;
    out.functions.push_back(std::move(spec));
  }
  return out;
}

PythonError python_error_of(std::string_view json) {
  const Json object = parse_json<Json>(json);
  if (!object.is_object()) return {.message = std::string(json.substr(0, 4096))};
  const auto errors = object.find("errors");
  const bool listed = errors != object.end() && errors->is_array() && !errors->empty();
  return {.type = text_of(object, "type"),
          .message = text_of(object, "message"),
          .traceback = text_of(object, "traceback"),
          .errors = listed ? errors->dump() : std::string()};
}

std::string step_of(std::string_view json) {
  const Json object = parse_json<Json>(json);
  return object.is_object() ? text_of(object, "step") : "";
}

}  // namespace keelback::host
