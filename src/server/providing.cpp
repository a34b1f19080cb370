#include "server/providing.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/json_text.h"
#include "httptext/same_word.h"
#include "server/call_headers.h"
#include "server/json.h"
#include "server/sse.h"

namespace keelback::server {
namespace {

using Error = std::optional<std::string>;  // nullopt: fine

Error add_name(std::string_view name, std::vector<std::string>& names) {
  if (name.empty()) return "names has an empty name";
  if (name.size() > kProvidedNameMax) {
    return fmt::format("a name is longer than {} bytes", kProvidedNameMax);
  }
  if (std::ranges::find(names, name) != names.end()) {
    return fmt::format("names has {} twice", name);
  }
  if (names.size() == kProvidedNamesMax) {
    return fmt::format("a connection provides at most {} names", kProvidedNamesMax);
  }
  names.emplace_back(name);
  return std::nullopt;
}

Error add_names(std::string_view list, std::vector<std::string>& names) {
  for (;;) {
    const auto comma = list.find(',');
    if (auto wrong = add_name(list.substr(0, comma), names)) return wrong;
    if (comma == std::string_view::npos) return std::nullopt;
    list.remove_prefix(comma + 1);
  }
}

// The member as a text, empty if it is not there. False: it is something else.
bool read_text(const Json& object, const char* key, std::string& out) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return true;
  if (!found->is_string()) return false;
  out = found->get<std::string>();
  return true;
}

// {"error": {"type", "message"}}, or the type, title and detail of RFC 9457.
std::expected<host::HostReply, std::string> read_error(const std::string& body) {
  const Json problem = parse_json<Json>(body);
  if (!problem.is_object()) return std::unexpected("a problem document is a JSON object");
  host::HostReply reply{.ok = false};
  if (const auto error = problem.find("error"); error != problem.end()) {
    if (!error->is_object() || !read_text(*error, "type", reply.error_type) ||
        !read_text(*error, "message", reply.error_message)) {
      return std::unexpected("error is an object; its type and message are texts");
    }
  } else {
    std::string title;
    if (!read_text(problem, "type", reply.error_type) || !read_text(problem, "title", title) ||
        !read_text(problem, "detail", reply.error_message)) {
      return std::unexpected("type, title and detail of a problem document are texts");
    }
    if (reply.error_type == "about:blank") reply.error_type.clear();  // RFC 9457: it says nothing
    if (reply.error_message.empty()) {
      reply.error_message = std::move(title);
    } else if (reply.error_type.empty()) {
      reply.error_type = std::move(title);
    }
  }
  if (reply.error_type.empty() && reply.error_message.empty()) {
    return std::unexpected(
        "the problem document says nothing: give it a title, a detail or an "
        "error with type and message");
  }
  return reply;
}

}  // namespace

std::expected<std::vector<std::string>, std::string> read_provided_names(const Target& target) {
  std::vector<std::string> names;
  for (const auto& [key, value] : target.query) {
    if (key != "names") continue;
    if (auto wrong = add_names(value, names)) return std::unexpected(std::move(*wrong));
  }
  if (names.empty()) return std::unexpected("names is missing: GET /v1/providers?names=a,b");
  return names;
}

void append_request_event(std::string& out, const host::HostRequest& request, Duration left) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(std::max(left, Duration(0)));
  // The arguments are JSON already, and may nest as deep as they like.
  std::string data =
      fmt::format(R"({{"id":{},"name":{},"arguments":{},"call":{},"session":{},"deadline_ms":{})",
                  request.id, dump(request.name), request.arguments, request.call.value,
                  request.session.empty() ? "null" : dump(request.session), ms.count());
  if (!request.traceparent.empty()) data += R"(,"traceparent":)" + dump(request.traceparent);
  append_event(out, "request", data += '}');
}

void append_cancel_event(std::string& out, std::uint64_t request) {
  append_event(out, "cancel", fmt::format(R"({{"id":{}}})", request));
}

std::optional<AnswerKind> answer_kind(std::string_view content_type) {
  if (is_json_type(content_type)) return AnswerKind::kResult;
  content_type = content_type.substr(0, content_type.find(';'));
  while (content_type.ends_with(' ')) content_type.remove_suffix(1);
  if (httptext::same_word(content_type, "application/problem+json")) return AnswerKind::kError;
  return std::nullopt;
}

std::expected<host::HostReply, std::string> read_answer(AnswerKind kind, std::string&& body) {
  if (kind == AnswerKind::kError) return read_error(body);
  if (!is_json(body)) return std::unexpected("the result is not JSON");
  return host::HostReply{.result = std::move(body)};
}

}  // namespace keelback::server
