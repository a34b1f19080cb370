#include "nodes/hop_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <type_traits>

#include "base/reasons.h"
#include "base/utf8.h"
#include "httptext/header.h"
#include "httptext/hop.h"
#include "httptext/multipart.h"
#include "httptext/number.h"
#include "httptext/percent.h"
#include "httptext/same_word.h"

namespace keelback::nodes {
namespace {

using httptext::Header;
using httptext::number;
using nlohmann::json;
using std::chrono::nanoseconds;

constexpr std::string_view kArgumentsPart = "arguments";
constexpr std::string_view kResultPart = "result";
constexpr std::string_view kJsonType = "application/json";
constexpr std::string_view kFormType = "multipart/form-data";
constexpr std::string_view kStreamType = "text/event-stream";

// ---- requests

// Whether a header's value comes out as it went in.
bool fits_header(std::string_view text) {
  const auto control = [](unsigned char c) { return c < 32 || c == 127; };
  return std::ranges::none_of(text, control) && !text.starts_with(' ') && !text.ends_with(' ');
}

// Whether a name in a part's Content-Disposition does. Browsers escape a quote as %22, and nobody
// can tell that from a name that has these letters.
bool fits_part(std::string_view text) {
  for (const std::string_view escaped : {"%22", "%0D", "%0A"}) {
    if (text.find(escaped) != text.npos) return false;
  }
  return is_utf8(text);
}

std::optional<std::string> cannot_travel(const Attachment& attachment) {
  const auto wrong = [](std::string_view what) {
    return fmt::format("{} of an attachment cannot be sent to another node", what);
  };
  if (attachment.name == kArgumentsPart) return wrong("The name \"arguments\"");
  if (!fits_part(attachment.name)) return wrong("The name");
  if (!fits_part(attachment.filename)) return wrong("The file name");
  if (!fits_header(attachment.content_type)) return wrong("The type");
  if (!fits_header(attachment.dtype)) return wrong("The element type");
  return std::nullopt;
}

// The fields of a request. The signature is made of the same list.
class Fields {
 public:
  Fields(std::string_view method, std::string_view target) : method_(method), target_(target) {}
  void add(Header header, std::string value) { list_.emplace_back(header, std::move(value)); }
  void add_if(Header header, const std::string& value) {
    if (!value.empty()) add(header, value);
  }
  std::string head(std::string_view authority, std::string_view body, const Sender& sender) {
    add(Header::kContentDigest, httptext::content_digest(body));
    httptext::SignedHead signed_head{.method = method_, .target = target_};
    for (const auto& [header, value] : list_) signed_head.set(header, value);
    add(Header::kHop, httptext::sign_hop(sender.token, sender.node, signed_head));
    std::string text;
    auto to = std::back_inserter(text);
    fmt::format_to(to, "{} {} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", method_, target_,
                   authority, body.size());
    for (const auto& [header, value] : list_) {
      fmt::format_to(to, "{}: {}\r\n", httptext::to_string(header), value);
    }
    text += "\r\n";
    return text;
  }

 private:
  std::string_view method_;
  std::string_view target_;
  std::vector<std::pair<Header, std::string>> list_;
};

std::string_view word(Affinity affinity) {
  switch (affinity) {
    case Affinity::kStrictQueue:
      return "strict_queue";
    case Affinity::kStrictFailFast:
      return "strict_fail_fast";
    case Affinity::kHint:
      return "hint";
  }
  return {};
}

void add_session(const Call& call, Fields& fields) {
  if (call.session.empty()) return;
  fields.add(Header::kSession, call.session);
  if (call.affinity) fields.add(Header::kAffinity, std::string(word(*call.affinity)));
  if (call.open == SessionOpen::kNew) fields.add(Header::kSessionOpen, "new");
  if (call.open == SessionOpen::kExisting) fields.add(Header::kSessionOpen, "existing");
  if (const auto& fence = call.expect_epoch) {
    fields.add(Header::kExpectEpoch, fence->birth == 0
                                         ? fmt::format("{}", fence->epoch)
                                         : fmt::format("{:016x}.{}", fence->birth, fence->epoch));
  }
}

std::string form_of(const Call& call, std::string_view boundary) {
  std::string form;
  std::size_t bytes = call.payload.size() + 512;
  for (const Attachment& each : call.attachments) bytes += each.data.size() + 2048;
  form.reserve(bytes);
  httptext::append_part_head(form, boundary, {.name = kArgumentsPart, .content_type = kJsonType});
  form += call.payload;
  for (const Attachment& each : call.attachments) {
    std::string array;
    if (!each.dtype.empty()) {
      array = fmt::format("Keelback-Dtype: {}\r\nKeelback-Shape: {}\r\n", each.dtype,
                          fmt::join(each.shape, ","));
    }
    // Both are always there, if empty: a part without them would be a field, which is text.
    httptext::append_part_head(form, boundary,
                               {.name = each.name,
                                .filename = each.filename,
                                .content_type = each.content_type,
                                .headers = array});
    form += each.data.view();
  }
  httptext::append_multipart_end(form, boundary);
  return form;
}

// ---- replies

// 0 for what no call takes.
nanoseconds of_milliseconds(double value) {
  constexpr double kMost = 1e12;
  if (!(value > 0 && value < kMost)) return {};
  return nanoseconds(static_cast<std::int64_t>(std::llround(value * 1e6)));
}

std::optional<Effect> effect_from(std::string_view name) {
  for (const Effect effect : {Effect::kNone, Effect::kMaybe, Effect::kDone}) {
    if (to_string(effect) == name) return effect;
  }
  return std::nullopt;
}

WorkerRef worker_from(std::string_view text) {
  WorkerRef worker;
  const auto dot = text.find('.');
  if (dot == text.npos) return worker;
  worker.slot = number<decltype(worker.slot)>(text.substr(0, dot)).value_or(0);
  worker.generation = number<decltype(worker.generation)>(text.substr(dot + 1)).value_or(0);
  return worker;
}

// What follows `name` in "queue;dur=0.125, run;dur=3.500".
nanoseconds timing(std::string_view text, std::string_view name) {
  const std::string key = fmt::format("{};dur=", name);
  const auto at = text.find(key);
  if (at == text.npos) return {};
  text.remove_prefix(at + key.size());
  double value = 0;
  static_cast<void>(std::from_chars(text.data(), text.data() + text.size(), value));
  return of_milliseconds(value);
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}
template <class T>
std::optional<T> number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  const bool fits = std::is_floating_point_v<T> ? found->is_number() : found->is_number_integer();
  if (!fits) return std::nullopt;
  return found->get<T>();
}

DeathRole role_from(std::string_view name) {
  for (const DeathRole role : {DeathRole::kCulprit, DeathRole::kBystander, DeathRole::kSuspect}) {
    if (to_string(role) == name) return role;
  }
  return DeathRole::kNone;
}

Death death_from(const json& object) {
  Death death;
  death.cause = text_of(object, "cause");
  death.signal = number_of<int>(object, "signal");
  death.exit_code = number_of<int>(object, "exit_code");
  const auto oom = object.find("oom_suspected");
  death.oom_suspected = oom != object.end() && oom->is_boolean() && oom->get<bool>();
  death.step = text_of(object, "step");
  death.detail = text_of(object, "detail");
  death.stderr_tail = text_of(object, "stderr_tail");
  death.role = role_from(text_of(object, "role"));
  return death;
}

std::optional<PythonError> python_from(const json& object) {
  const auto found = object.find("python");
  if (found == object.end() || !found->is_object()) return std::nullopt;
  PythonError python{.type = text_of(*found, "type"),
                     .message = text_of(*found, "message"),
                     .traceback = text_of(*found, "traceback")};
  if (const auto errors = object.find("errors"); errors != object.end()) {
    python.errors = errors->dump(-1, ' ', false, json::error_handler_t::replace);
  }
  return python;
}

// "/v1/calls/17/dump"
std::uint64_t call_of_dump(std::string_view address) {
  constexpr std::string_view kBefore = "/v1/calls/";
  constexpr std::string_view kAfter = "/dump";
  if (!address.starts_with(kBefore) || !address.ends_with(kAfter)) return 0;
  address.remove_prefix(kBefore.size());
  address.remove_suffix(kAfter.size());
  return number<std::uint64_t>(address).value_or(0);
}

// What is in both: the object of an event "end", and a problem document.
bool read_common(const json& object, Outcome& outcome) {
  const auto kind = outcome_kind_from(text_of(object, "outcome"));
  const auto effect = effect_from(text_of(object, "effect"));
  if (!kind || !effect) return false;
  outcome.kind = *kind;
  outcome.effect = *effect;
  outcome.worker = worker_from(text_of(object, "worker"));
  outcome.attempts = number_of<std::uint32_t>(object, "attempts").value_or(0);
  outcome.birth = number<std::uint64_t>(text_of(object, "birth"), 16).value_or(0);
  outcome.epoch = number_of<std::uint32_t>(object, "epoch").value_or(0);
  return true;
}

bool read_problem(const json& object, Outcome& outcome) {
  if (!read_common(object, outcome)) return false;
  outcome.message = text_of(object, "detail");
  outcome.reason = text_of(object, "reason");
  outcome.python = python_from(object);
  if (const auto death = object.find("death"); death != object.end() && death->is_object()) {
    outcome.death = death_from(*death);
  }
  outcome.dump = text_of(object, "dump");
  outcome.call = call_of_dump(text_of(object, "dump_at"));
  if (const auto ms = number_of<std::int64_t>(object, "retry_after_ms")) {
    constexpr std::int64_t kMost = 1'000'000'000;
    outcome.retry_after = std::chrono::milliseconds(std::clamp<std::int64_t>(*ms, 0, kMost));
  }
  // One of two reasons for 422 of this kind; the other one has errors.
  outcome.key_reused = outcome.kind == OutcomeKind::kBadRequest &&
                       number_of<int>(object, "status") == 422 &&
                       (!outcome.python || outcome.python->errors.empty());
  return true;
}

json object_of(std::string_view text) {
  json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return object.is_object() ? object : json(json::value_t::discarded);
}

std::string_view type_of(const ReplyHead& head) {
  std::string_view type = head.get("content-type");
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  return type;
}

// False: it is no form of a node.
bool read_form(const ReplyHead& head, std::string&& bytes, Outcome& outcome) {
  const std::string boundary = httptext::boundary_of(head.get("content-type"));
  if (boundary.empty()) return false;
  // Shared by the attachments that lie in it.
  const auto body = std::make_shared<const std::string>(std::move(bytes));
  const auto parts = httptext::parse_multipart(*body, boundary, httptext::kFormPartsMax);
  if (!parts || parts->empty() || parts->front().name != kResultPart) return false;
  outcome.payload = parts->front().data;
  for (const httptext::Part& part : std::span(*parts).subspan(1)) {
    Attachment attachment;
    attachment.name = part.name;
    attachment.filename = part.filename.value_or("");
    attachment.content_type = part.content_type;
    attachment.dtype = part.dtype;
    if (part.shape && !httptext::read_shape(*part.shape, attachment.shape)) return false;
    attachment.data = Buffer(std::as_bytes(std::span(part.data)), body);
    outcome.attachments.push_back(std::move(attachment));
  }
  return true;
}

Answer foreign(std::string why) { return {Answer::Kind::kForeign, {}, std::move(why)}; }

// A reply without Keelback-Outcome.
Answer read_refusal(const ReplyHead& head, std::string_view body) {
  const json problem = object_of(body);
  if (!problem.is_object() || !text_of(problem, "type").starts_with("urn:keelback:http:")) {
    return foreign(fmt::format("the answer has status {} and is no outcome", head.status));
  }
  if (text_of(problem, "type") == fmt::format("urn:keelback:http:{}", kNoSession)) {
    return {Answer::Kind::kOutcome,
            {.kind = OutcomeKind::kBadRequest,
             .effect = Effect::kNone,
             .message = text_of(problem, "detail"),
             .reason = std::string(kNoSession)},
            {}};
  }
  return {Answer::Kind::kRefused,
          {},
          fmt::format("it was refused with {}: {}", head.status, text_of(problem, "detail"))};
}

}  // namespace

std::optional<std::string> cannot_travel(const Call& call) {
  const auto wrong = [](std::string_view what) {
    return fmt::format("{} cannot be sent to another node.", what);
  };
  if (call.function.empty() || !is_utf8(call.function)) return wrong("The name of the function");
  if (!fits_header(call.session) || !is_utf8(call.session)) return wrong("The id of the session");
  if (!fits_header(call.batch_key)) return wrong("The batch key");
  if (!fits_header(call.idempotency_key)) return wrong("The idempotency key");
  if (!fits_header(call.traceparent)) return wrong("The traceparent");
  for (const Attachment& each : call.attachments) {
    if (auto why = cannot_travel(each)) return *why + ".";
  }
  return std::nullopt;
}

RequestText call_request(const Call& call, const Envelope& envelope, const Sender& sender) {
  using std::chrono::milliseconds;
  RequestText text;
  const std::string target = "/v1/call/" + httptext::percent_encode(call.function);
  Fields fields("POST", target);
  text.has_form = !call.attachments.empty();
  if (text.has_form) text.form = form_of(call, envelope.boundary);
  fields.add(Header::kContentType,
             text.has_form ? fmt::format("{}; boundary={}", kFormType, envelope.boundary)
                           : std::string(kJsonType));
  fields.add(Header::kAccept, std::string(envelope.stream ? kStreamType : kFormType));
  fields.add(Header::kCall, std::string(envelope.name));
  add_session(call, fields);
  if (call.deadline) {
    const auto left = std::chrono::floor<milliseconds>(*call.deadline);
    fields.add(Header::kDeadlineMs, fmt::format("{}", std::max(left, milliseconds(1)).count()));
  }
  if (call.priority == Priority::kHigh) fields.add(Header::kPriority, "high");
  if (call.priority == Priority::kLow) fields.add(Header::kPriority, "low");
  fields.add_if(Header::kBatchKey, call.batch_key);
  if (call.idempotent) fields.add(Header::kIdempotent, "true");
  fields.add_if(Header::kIdempotencyKey, call.idempotency_key);
  fields.add_if(Header::kTraceparent, call.traceparent);
  text.head = fields.head(envelope.authority, text.body(call), sender);
  return text;
}

std::string cancel_request(std::string_view name, std::string_view authority,
                           const Sender& sender) {
  const std::string target = "/v1/calls/" + httptext::percent_encode(name);
  return Fields("DELETE", target).head(authority, "", sender);
}

RequestText end_request(std::string_view session, std::string_view authority,
                        const Sender& sender) {
  const std::string target = "/v1/sessions/" + httptext::percent_encode(session);
  RequestText text;
  text.head = Fields("DELETE", target).head(authority, "", sender);
  return text;
}

std::string_view ReplyHead::get(std::string_view lower_name) const {
  const auto found = std::ranges::find(fields, lower_name, [](const auto& f) { return f.first; });
  return found == fields.end() ? std::string_view() : std::string_view(found->second);
}

Answer read_reply(const ReplyHead& head, std::string&& body) {
  if (head.status == 421) return {Answer::Kind::kNotOwner, {}, {}};
  Answer answer{.kind = Answer::Kind::kOutcome};
  Outcome& outcome = answer.outcome;
  if (head.status == 204) {
    outcome.kind = OutcomeKind::kOk;
    outcome.effect = Effect::kDone;
    return answer;
  }
  const auto kind = outcome_kind_from(head.get("keelback-outcome"));
  const auto effect = effect_from(head.get("keelback-effect"));
  if (!kind || !effect) return read_refusal(head, body);
  if (*kind == OutcomeKind::kOk) {
    outcome.kind = *kind;
    outcome.effect = *effect;
    outcome.worker = worker_from(head.get("keelback-worker"));
    outcome.attempts = number<std::uint32_t>(head.get("keelback-attempts")).value_or(0);
    outcome.birth = number<std::uint64_t>(head.get("keelback-birth"), 16).value_or(0);
    outcome.epoch = number<std::uint32_t>(head.get("keelback-epoch")).value_or(0);
    if (!httptext::same_word(type_of(head), kFormType)) {
      outcome.payload = std::move(body);
    } else if (!read_form(head, std::move(body), outcome)) {
      return foreign("the answer's attachments cannot be read");
    }
  } else if (!read_problem(object_of(body), outcome)) {
    return foreign(fmt::format("the answer has status {} and no problem document", head.status));
  }
  outcome.queued = timing(head.get("server-timing"), "queue");
  outcome.ran = timing(head.get("server-timing"), "run");
  return answer;
}

Answer read_last_event(std::string_view name, std::string_view data) {
  Answer answer{.kind = Answer::Kind::kOutcome};
  const json object = object_of(data);
  const bool end = name == "end";
  const bool fits = object.is_object() && (end ? read_common(object, answer.outcome)
                                               : read_problem(object, answer.outcome));
  if (!fits || end != answer.outcome.ok()) return foreign("the stream's last event is no outcome");
  if (end) {
    answer.outcome.queued = of_milliseconds(number_of<double>(object, "queue_ms").value_or(0));
    answer.outcome.ran = of_milliseconds(number_of<double>(object, "run_ms").value_or(0));
  }
  return answer;
}

}  // namespace keelback::nodes
