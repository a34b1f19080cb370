#include "server/handlers.h"

#include <fmt/format.h>

#include <limits>

#include "base/check.h"
#include "base/utf8.h"
#include "httptext/number.h"
#include "httptext/same_word.h"
#include "server/client_name.h"
#include "server/connection.h"
#include "server/hop.h"
#include "server/json.h"
#include "server/providing.h"
#include "server/sse.h"
#include "server/views.h"

namespace keelback::server {
namespace {

constexpr std::uint64_t kSmallBody = 64 << 10;    // of requests that need none: read and dropped
constexpr std::uint64_t kPartHeaders = 64 << 10;  // of a multipart body, beside its data
constexpr std::uint64_t kConfigBody = 1 << 20;
constexpr std::size_t kPageDefault = 100;
constexpr std::size_t kPageMax = 1000;
constexpr std::string_view kCallPrefix = "/v1/call/";

std::string client_of(const Connection& connection, const Request& request) {
  return client_name(request, connection.peer(),
                     connection.hub().config.settings().server.trusted_proxies);
}

// Orders of operators, which are logged. (Clients make calls all the time.)
bool is_order(Route route, const Request& request) {
  return (route == Route::kConfig && request.method == "PATCH") || route == Route::kReload ||
         route == Route::kDrain || route == Route::kRecycle || route == Route::kRelease ||
         route == Route::kProvide;
}

// What belongs to those who run the daemon, not to those who call functions: docs/security.md.
bool is_operating(Route route) {
  switch (route) {
    case Route::kPool:
    case Route::kCluster:
    case Route::kWorkers:
    case Route::kRecycle:
    case Route::kSessions:
    case Route::kQuarantine:
    case Route::kRelease:
    case Route::kConfig:
    case Route::kReload:
    case Route::kDrain:
    case Route::kProvide:
    case Route::kAnswer:
    case Route::kMetrics:
      return true;
    default:
      return false;
  }
}

bool is_open(Route route) { return route == Route::kLivez || route == Route::kReadyz; }

// The common case without a Target: POST /v1/call/NAME where nothing is escaped.
bool match_plain_call(const Request& request, Admission& admission) {
  const std::string_view target = request.target;
  if (request.method != "POST" || !target.starts_with(kCallPrefix)) return false;
  const std::string_view name = target.substr(kCallPrefix.size());
  if (name.empty() || name.find_first_of("%?/#") != std::string_view::npos || !is_utf8(name)) {
    return false;
  }
  admission.route = Route::kCall;
  admission.parameter = name;
  return true;
}

// Fills route and parameter, or the refusal.
void match(const Request& request, Admission& admission) {
  if (match_plain_call(request, admission)) return;
  if (request.method == "OPTIONS" && request.target == "*") {
    admission.answer = Response{204, {}, {}, "Allow: GET, HEAD, POST, PATCH, DELETE, OPTIONS\r\n"};
    return;
  }
  auto target = parse_target(request.target);
  if (!target) {
    admission.refusal = problem(400, "bad_target", target.error());
    return;
  }
  Match found = match_route(request.method, *target);
  if (!found.path_known) {
    admission.refusal = problem(404, "no_such_route",
                                fmt::format("there is no route {}; the nearest is {}", target->path,
                                            nearest_route(target->path)));
    return;
  }
  if (request.method == "OPTIONS") {
    admission.answer = Response{204, {}, {}, fmt::format("Allow: {}\r\n", found.allow)};
  } else if (!found.route) {
    admission.refusal =
        problem(405, "no_such_method",
                fmt::format("{} takes {}, not {}", target->path, found.allow, request.method));
    admission.refusal->headers = fmt::format("Allow: {}\r\n", found.allow);
  }
  admission.route = found.route;
  admission.parameter = std::move(found.parameter);
  admission.target = std::move(*target);
}

std::string body_limit(BodyKind kind, const Settings& settings) {
  std::string text = fmt::format("calls.payload_max is {}", settings.calls.payload_max.count);
  if (kind != BodyKind::kJsonOnly) {
    text += fmt::format(", attachments.max {}", settings.attachments.max.count);
  }
  return text;
}

void admit_call(Hub& hub, const Request& request, Admission& admission) {
  const Settings& settings = hub.config.settings();
  const auto kind = body_kind(request);
  if (!kind) {
    admission.refusal = problem(415, "not_json",
                                "the arguments of a call are Content-Type: application/json; with "
                                "attachments multipart/form-data or application/octet-stream");
    return;
  }
  // A browser lets any web page send these types, but not a header of ours.
  if (*kind != BodyKind::kJsonOnly && !request.has_ours()) {
    admission.refusal =
        problem(415, "no_keelback_header",
                "a call whose body is not JSON has a Keelback-* header, for example "
                "Keelback-Attachment");
    return;
  }
  admission.body_kind = *kind;
  if (const auto stray = stray_header(*kind, request)) {
    admission.refusal =
        refused_call(OutcomeKind::kBadRequest,
                     fmt::format("{} means nothing with this Content-Type", to_string(*stray)));
    return;
  }
  auto headers = read_call_headers(request);
  if (!headers) {
    admission.refusal = refused_call(OutcomeKind::kBadRequest, headers.error());
    return;
  }
  admission.headers = std::move(*headers);
  if (!admission.headers.name.empty() && hub.named_calls.contains(admission.headers.name)) {
    admission.refusal = problem(
        409, "name_in_use", fmt::format("a call named {} is in flight", admission.headers.name));
    return;
  }
  admission.keep_body = true;
  admission.body_max = settings.calls.payload_max.count;
  if (*kind != BodyKind::kJsonOnly)
    admission.body_max += settings.attachments.max.count + kPartHeaders;
  if (request.content_length > admission.body_max) {
    admission.refusal = refused_call(
        OutcomeKind::kTooLarge, fmt::format("the body has {} bytes; {}", request.content_length,
                                            body_limit(*kind, settings)));
  }
}

void admit_config(const Request& request, Admission& admission) {
  if (request.method != "PATCH") return;
  std::string_view type = request.get(Header::kContentType);
  type = type.substr(0, type.find(';'));
  if (!is_json_type(type) && type != "application/merge-patch+json") {
    admission.refusal =
        problem(415, "not_json", "a change of the configuration is Content-Type: application/json");
    return;
  }
  admission.keep_body = true;
  admission.body_max = kConfigBody;
}

void admit_answer(Hub& hub, const Request& request, Admission& admission) {
  if (!answer_kind(request.get(Header::kContentType))) {
    admission.refusal = problem(415, "not_json",
                                "a result is Content-Type: application/json, an error "
                                "application/problem+json");
    return;
  }
  admission.keep_body = true;
  admission.body_max = hub.config.settings().calls.payload_max.count;
}

// ---- routes

Response get_health(Hub& hub, Route route, bool authorised) {
  if (route == Route::kLivez) return {.body = R"({"live":true})"};
  const host::PoolInfo info = hub.driver.info();
  const PoolStats& stats = info.stats;
  const bool draining = stats.draining || hub.draining();
  nlohmann::ordered_json json = {{"ready", stats.ready && !draining}};
  if (authorised) {  // a reason may quote what a worker printed
    json["reasons"] = stats.reasons;
    if (draining && stats.reasons.empty()) json["reasons"].push_back("draining");
    // The pool serves calls all the same, so a load balancer must not send them elsewhere.
    auto degraded = degraded_reasons(info, hub.driver.cluster());
    if (!degraded.empty()) json["degraded"] = std::move(degraded);
  }
  return {.status = stats.ready && !draining ? 200 : 503, .body = dump(json)};
}

Response get_application(Hub& hub, Route route) {
  const auto application = hub.driver.application();
  if (route == Route::kOpenapi) return {.body = openapi_json(application.get())};
  if (application) return {.body = functions_json(*application, hub.driver.info().stats)};
  return problem(503, "not_ready", "no worker has announced the application's functions yet");
}

Response get_sessions(Hub& hub, const Target& target) {
  std::size_t limit = kPageDefault;
  if (const std::string* text = target.query_value("limit")) {
    const auto value = httptext::number<std::size_t>(*text);
    if (!value || *value == 0 || *value > kPageMax) {
      return problem(400, "bad_query", fmt::format("limit must be from 1 to {}", kPageMax));
    }
    limit = *value;
  }
  const std::string* const after = target.query_value("after");
  return {
      .body = sessions_json(
          hub.driver.sessions(after == nullptr ? std::string_view() : *after, limit), hub.node)};
}

std::string etag_header(const ConfigPort::Document& document) {
  return fmt::format("ETag: \"{}\"\r\n", document.etag);
}

Response get_config(Hub& hub) {
  ConfigPort::Document document = hub.config.document();
  std::string headers = etag_header(document);
  return {.body = std::move(document.json), .headers = std::move(headers)};
}

Response patch_config(Hub& hub, const Request& request) {
  std::optional<std::string_view> if_match;
  if (request.has(Header::kIfMatch) && request.get(Header::kIfMatch) != "*") {
    if_match = request.get(Header::kIfMatch);
    if (if_match->size() >= 2 && if_match->front() == '"' && if_match->back() == '"') {
      if_match = if_match->substr(1, if_match->size() - 2);
    }
  }
  auto result = hub.config.patch(request.body, if_match);
  if (result) {
    std::string headers = etag_header(*result);
    return {.body = std::move(result->json), .headers = std::move(headers)};
  }
  using Kind = ConfigPort::PatchError::Kind;
  const bool stale = result.error().kind == Kind::kStale;
  nlohmann::ordered_json errors = nlohmann::ordered_json::array();
  std::string detail = stale ? "the configuration has changed since If-Match; nothing was changed"
                             : "nothing was changed";
  for (const auto& item : result.error().items) {
    errors.push_back({{"key", item.key}, {"why", item.why}});
    detail += fmt::format("; {}{}{}", item.key, item.key.empty() ? "" : ": ", item.why);
  }
  Response response =
      stale ? problem(412, "stale_config", detail) : problem(400, "bad_config", detail);
  auto json = nlohmann::ordered_json::parse(response.body);
  json["errors"] = std::move(errors);
  response.body = dump(json);
  if (stale) response.headers = etag_header(hub.config.document());
  return response;
}

Response get_pool(Hub& hub) {
  const host::PoolInfo info = hub.driver.info();
  return {.body = pool_json(info, degraded_reasons(info, hub.driver.cluster()),
                            hub.http_rejected.load(std::memory_order_relaxed))};
}

Response get_cluster(Hub& hub) {
  if (const auto info = hub.driver.cluster()) return {.body = cluster_json(*info)};
  return problem(404, "no_cluster",
                 "this daemon is no node of a cluster: cluster.store is not set");
}

Response get_quarantine(Hub& hub) {
  return {.body = quarantine_json(hub.driver.quarantine(), hub.driver.info().stats.quarantined)};
}

Response get_metrics(Hub& hub) {
  const host::PoolInfo info = hub.driver.info();
  const ServerCounts counts{hub.http_rejected.load(std::memory_order_relaxed), hub.connections(),
                            hub.options.log_lost ? hub.options.log_lost() : 0, hub.provided};
  return {.content_type = kMetricsType,
          .body = metrics_text(info, counts, hub.durations, hub.driver.cluster())};
}

Response get_call_dump(Hub& hub, const std::string& name) {
  CallId call = hub.late_names.find(name);
  if (const auto id = httptext::number<std::uint64_t>(name); !call && id) call = CallId{*id};
  if (const auto text = call ? hub.driver.dump(call) : std::nullopt) {
    return {.content_type = "text/plain; charset=utf-8", .body = *text};
  }
  return problem(
      404, "no_such_dump",
      "there are no stacks of this call: it was not stopped, not yet, or ten minutes ago");
}

Response cancel_call(Hub& hub, const std::string& name) {
  CallId call;
  if (const auto found = hub.named_calls.find(name); found != hub.named_calls.end()) {
    call = found->second;
  } else if (const auto id = httptext::number<std::uint64_t>(name)) {
    call = CallId{*id};
  }
  if (call && hub.driver.cancel(call)) return {.status = 202, .body = R"({"cancel":"requested"})"};
  return problem(404, "no_such_call", "no such call is in flight");
}

Response release(Hub& hub, const std::string& text) {
  const auto fingerprint = httptext::number<std::uint64_t>(text, 16);
  if (fingerprint && hub.driver.release(*fingerprint)) return {.status = 204, .content_type = {}};
  return problem(404, "no_such_fingerprint", "no such request is in quarantine");
}

Response recycle(Hub& hub, const std::string& text) {
  const auto slot = httptext::number<std::uint32_t>(text);
  if (slot && hub.driver.recycle(*slot)) {
    return {.status = 202, .body = fmt::format(R"({{"slot":{},"recycling":true}})", *slot)};
  }
  return problem(404, "no_such_slot", "there is no such worker slot");
}

void provide(Connection& connection, const Admission& admission, const Request& request) {
  auto names = read_provided_names(admission.target);
  if (!names) return connection.reply(problem(400, "bad_query", names.error()));
  if (request.method == "HEAD") return connection.reply({.content_type = kEventStream});
  connection.provide(std::move(*names));
}

Response answer_host_request(Hub& hub, const std::string& text, Request& request) {
  const auto id = httptext::number<std::uint64_t>(text);
  if (!id) return problem(404, "no_such_request", "the id of a request is a number");
  const auto nobody_waits = [] {
    return problem(409, "nobody_waits",
                   "nobody waits for an answer to this request: it was answered or cancelled, its "
                   "provider has gone, or there never was such a request");
  };
  const auto found = hub.host_requests.find(*id);
  if (found == hub.host_requests.end()) return nobody_waits();
  auto reply =
      read_answer(*answer_kind(request.get(Header::kContentType)), std::move(request.body));
  if (!reply) return problem(400, "bad_answer", reply.error());
  const bool ok = reply->ok;
  found->second->on_answered(*id);
  if (!hub.driver.answer(*id, std::move(*reply))) {
    ++hub.provided.cancelled;
    return nobody_waits();
  }
  ++(ok ? hub.provided.answered : hub.provided.failed);
  return {.status = 204, .content_type = {}};
}

Response drain(Hub& hub) {
  hub.drain();
  if (hub.options.on_drain) {
    hub.options.on_drain();
  } else {
    hub.driver.drain(hub.config.settings().server.drain_timeout, [] {});
  }
  return {.status = 202, .body = R"({"draining":true})"};
}

void reload(Connection& connection) {
  connection.hub().driver.reload([held = connection.shared_from_this()](const std::string& error) {
    if (!error.empty()) {
      return held->reply(problem(500, "reload_failed", "the old code still serves: " + error));
    }
    held->reply({.body = reloaded_json(held->hub().driver.info().stats)});
  });
}

Response answer(Hub& hub, const Admission& admission, Request& request) {
  switch (*admission.route) {
    case Route::kLivez:
    case Route::kReadyz:
      return get_health(hub, *admission.route, admission.authorised);
    case Route::kMetrics:
      return get_metrics(hub);
    case Route::kOpenapi:
    case Route::kFunctions:
      return get_application(hub, *admission.route);
    case Route::kPool:
      return get_pool(hub);
    case Route::kCluster:
      return get_cluster(hub);
    case Route::kWorkers:
      return {.body = workers_json(hub.driver.workers())};
    case Route::kSessions:
      return get_sessions(hub, admission.target);
    case Route::kQuarantine:
      return get_quarantine(hub);
    case Route::kConfig:
      return request.method == "PATCH" ? patch_config(hub, request) : get_config(hub);
    case Route::kCallDump:
      return get_call_dump(hub, admission.parameter);
    case Route::kCancelCall:
      return cancel_call(hub, admission.parameter);
    case Route::kRelease:
      return release(hub, admission.parameter);
    case Route::kRecycle:
      return recycle(hub, admission.parameter);
    case Route::kDrain:
      return drain(hub);
    case Route::kAnswer:
      return answer_host_request(hub, admission.parameter, request);
    case Route::kProvide:
    case Route::kCall:
    case Route::kReload:
    case Route::kEndSession:
      break;
  }
  CHECK(!"a route without an answer");
  return {};
}

}  // namespace

Admission admit(Hub& hub, const Request& request, const Door& door) {
  Admission admission;
  admission.body_max = kSmallBody;
  match(request, admission);
  const bool open = admission.route && is_open(*admission.route);
  const Settings& settings = hub.config.settings();
  const Settings::ServerSection& server = settings.server;
  Door seen = door;
  if (server.unix_token == Switch::kOn) seen.trusted = false;
  if (request.has(Header::kHop)) {
    auto sender = check_hop(request, settings.cluster.token, admission.route);
    if (!sender) {
      admission.refusal = std::move(sender.error());
      return admission;
    }
    admission.hop = std::move(*sender);
    seen.trusted = true;  // the signature stands for the token
  }
  Access access =
      check_access(request, seen, server.token, {hub.names, server.allowed_hosts}, open);
  admission.authorised = access.authorised;
  // A client without the token learns nothing, not even which routes exist.
  if (access.refusal) admission.refusal = std::move(access.refusal);
  if (admission.refusal) return admission;
  if (!door.operating && admission.route && is_operating(*admission.route)) {
    admission.refusal = problem(403, "not_here",
                                "this address has no operating routes; those of "
                                "server.admin_listen have them");
    return admission;
  }
  if (const auto header = request.repeated()) {
    admission.refusal =
        problem(400, "repeated_header", fmt::format("{} came twice", to_string(*header)));
    return admission;
  }
  if (request.has(Header::kExpect) && request.http11 &&
      request.get(Header::kExpect) != "100-continue") {
    admission.refusal = problem(417, "bad_expectation", "only 100-continue can be expected");
    return admission;
  }
  if (request.has(Header::kContentEncoding) &&
      !httptext::same_word(request.get(Header::kContentEncoding), "identity")) {
    admission.refusal =
        problem(415, "content_encoding",
                fmt::format("a body comes as it is; Content-Encoding {} is not decoded",
                            request.get(Header::kContentEncoding)));
    admission.refusal->headers = "Accept-Encoding: identity\r\n";
    return admission;
  }
  if (admission.route == Route::kCall) admit_call(hub, request, admission);
  if (admission.route == Route::kConfig) admit_config(request, admission);
  if (admission.route == Route::kAnswer) admit_answer(hub, request, admission);
  if (!admission.refusal && request.content_length > admission.body_max) {
    admission.refusal = problem(413, "too_large", "the body is too large");
  }
  return admission;
}

void log_refusal(Connection& connection, const Response& refusal, const Request& request) {
  connection.hub().log_refusal(fmt::format("{} {} of {} is refused with {}.", request.method,
                                           request.target.substr(0, kLoggedTarget),
                                           client_of(connection, request), refusal.status));
}

void run(Connection& connection, Admission& admission, Request& request) {
  Hub& hub = connection.hub();
  if (!admission.answer && is_order(*admission.route, request)) {
    hub.log_order(fmt::format("{} {} of {}.", request.method,
                              request.target.substr(0, kLoggedTarget),
                              client_of(connection, request)));
  }
  if (admission.answer) {
    connection.reply(std::move(*admission.answer));
  } else if (admission.route == Route::kReload) {
    reload(connection);
  } else if (admission.route == Route::kEndSession) {
    connection.end_session();
  } else if (admission.route == Route::kProvide) {
    provide(connection, admission, request);
  } else {
    connection.reply(answer(hub, admission, request));
  }
}

}  // namespace keelback::server
