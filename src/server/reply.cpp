#include "server/reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/reasons.h"
#include "server/json.h"

namespace keelback::server {
namespace {

using std::chrono::nanoseconds;

std::int64_t ceil_ms(nanoseconds duration) {
  return std::chrono::ceil<std::chrono::milliseconds>(duration).count();
}
std::int64_t ceil_s(nanoseconds duration) {
  return std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(duration).count());
}

std::string_view title(OutcomeKind kind) {
  switch (kind) {
    case OutcomeKind::kOk:
      return "The function returned";
    case OutcomeKind::kError:
      return "The function raised an exception";
    case OutcomeKind::kTimeout:
      return "The deadline passed";
    case OutcomeKind::kCancelled:
      return "The call was cancelled";
    case OutcomeKind::kWorkerDied:
      return "The worker died with the call in it";
    case OutcomeKind::kOverloaded:
      return "The pool is overloaded";
    case OutcomeKind::kCircuitOpen:
      return "The function's circuit breaker is open";
    case OutcomeKind::kQuarantined:
      return "This request killed workers before";
    case OutcomeKind::kSessionBusy:
      return "The session's worker is busy";
    case OutcomeKind::kSessionExpired:
      return "The session has expired";
    case OutcomeKind::kSessionLost:
      return "The session and its state are lost";
    case OutcomeKind::kSessionLimit:
      return "The session table is full";
    case OutcomeKind::kStaleEpoch:
      return "The session is no longer the one you know";
    case OutcomeKind::kUnknownFunction:
      return "There is no such function";
    case OutcomeKind::kBadRequest:
      return "The request is wrong";
    case OutcomeKind::kTooLarge:
      return "The payload is too large";
    case OutcomeKind::kNotReady:
      return "No worker is up";
    case OutcomeKind::kShuttingDown:
      return "The pool is shutting down";
  }
  return {};
}

Json death_json(const Death& death) {
  Json json = {{"cause", death.cause},
               {"signal", nullptr},
               {"exit_code", nullptr},
               {"oom_suspected", death.oom_suspected}};
  if (death.signal) json["signal"] = *death.signal;
  if (death.exit_code) json["exit_code"] = *death.exit_code;
  if (!death.step.empty()) json["step"] = death.step;
  if (!death.detail.empty()) json["detail"] = death.detail;
  if (death.role != DeathRole::kNone) json["role"] = to_string(death.role);
  json["stderr_tail"] = death.stderr_tail;
  return json;
}

Json outcome_base(OutcomeKind kind, Effect effect, std::string_view detail) {
  return {{"type", fmt::format("urn:keelback:outcome:{}", to_string(kind))},
          {"title", title(kind)},
          {"status", http_status(kind)},
          {"detail", detail},
          {"outcome", to_string(kind)},
          {"effect", to_string(effect)}};
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

void append_head(std::string& out, const Head& head) {
  auto to = std::back_inserter(out);
  fmt::format_to(to, "HTTP/1.1 {} {}\r\nDate: {}\r\n", head.status, reason_phrase(head.status),
                 head.date);
  if (!head.node.empty()) fmt::format_to(to, "Keelback-Node: {}\r\n", head.node);
  if (!head.content_type.empty()) fmt::format_to(to, "Content-Type: {}\r\n", head.content_type);
  if (head.content_length) fmt::format_to(to, "Content-Length: {}\r\n", *head.content_length);
  if (!head.keep_alive) {
    out += "Connection: close\r\n";
  } else if (!head.http11) {
    out += "Connection: keep-alive\r\n";
  }
}

void append_outcome_headers(std::string& out, const Outcome& outcome, std::string_view call_name,
                            nanoseconds total) {
  auto to = std::back_inserter(out);
  if (outcome.worker.generation != 0) {
    fmt::format_to(to, "Keelback-Worker: {}.{}\r\n", outcome.worker.slot,
                   outcome.worker.generation);
  }
  if (outcome.birth != 0) {
    fmt::format_to(to, "Keelback-Birth: {:016x}\r\nKeelback-Epoch: {}\r\n", outcome.birth,
                   outcome.epoch);
  }
  fmt::format_to(to,
                 "Keelback-Call: {}\r\nKeelback-Attempts: {}\r\nKeelback-Outcome: {}\r\n"
                 "Keelback-Effect: {}\r\n"
                 "Server-Timing: queue;dur={:.3f}, run;dur={:.3f}, total;dur={:.3f}\r\n",
                 call_name, outcome.attempts, to_string(outcome.kind), to_string(outcome.effect),
                 milliseconds(outcome.queued), milliseconds(outcome.ran), milliseconds(total));
  if (outcome.retry_after) {
    fmt::format_to(to, "Retry-After: {}\r\nKeelback-Retry-After-Ms: {}\r\n",
                   ceil_s(*outcome.retry_after), ceil_ms(*outcome.retry_after));
  }
}

std::string problem_of(const Outcome& outcome) {
  Json json = outcome_base(outcome.kind, outcome.effect, outcome.message);
  json["status"] = http_status(outcome);
  if (!outcome.reason.empty()) json["reason"] = outcome.reason;
  if (outcome.reason == kNotOwner) json["title"] = "Another node owns the session";
  if (outcome.key_reused) json["title"] = "The idempotency key was used for another request";
  if (outcome.python) {
    json["python"] = {{"type", outcome.python->type},
                      {"message", outcome.python->message},
                      {"traceback", outcome.python->traceback}};
    if (!outcome.python->errors.empty()) {
      json["title"] = "The arguments do not fit the function's annotations";
      json["errors"] = parsed(outcome.python->errors);
    }
  }
  if (outcome.worker.generation != 0) json["worker"] = to_string(outcome.worker);
  if (outcome.death) json["death"] = death_json(*outcome.death);
  if (!outcome.dump.empty()) json["dump"] = outcome.dump;
  if (may_run_on(outcome)) json["dump_at"] = fmt::format("/v1/calls/{}/dump", outcome.call);
  json["attempts"] = outcome.attempts;
  if (outcome.birth != 0) {
    json["birth"] = fmt::format("{:016x}", outcome.birth);
    json["epoch"] = outcome.epoch;
  }
  if (outcome.retry_after) json["retry_after_ms"] = ceil_ms(*outcome.retry_after);
  return dump(json);
}

Response refused_call(OutcomeKind kind, std::string_view detail) {
  Json json = outcome_base(kind, Effect::kNone, detail);
  json["attempts"] = 0;
  return {http_status(kind), kProblemJson, dump(json),
          fmt::format("Keelback-Attempts: 0\r\nKeelback-Outcome: {}\r\nKeelback-Effect: none\r\n",
                      to_string(kind))};
}

Response problem(int status, std::string_view name, std::string_view detail) {
  return {status,
          kProblemJson,
          dump({{"type", fmt::format("urn:keelback:http:{}", name)},
                {"title", reason_phrase(status)},
                {"status", status},
                {"detail", detail}}),
          {}};
}

bool may_run_on(const Outcome& outcome) {
  return outcome.kind == OutcomeKind::kTimeout && outcome.effect == Effect::kMaybe &&
         outcome.dump.empty() && outcome.call != 0;
}

}  // namespace keelback::server
