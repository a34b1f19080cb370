// What is said between the server and clients that provide functions to Python code
// (docs/providing-over-http.md): names, events and answers, as text. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "host/provider.h"
#include "server/target.h"

namespace keelback::server {

inline constexpr std::size_t kProvidedNamesMax = 64;
inline constexpr std::size_t kProvidedNameMax = 256;  // bytes

// ?names=a,b of GET /v1/providers. The error is a sentence.
std::expected<std::vector<std::string>, std::string> read_provided_names(const Target& target);

// The event `request`. The arguments must be JSON; `left` is the time until the call's deadline.
void append_request_event(std::string& out, const host::HostRequest& request, Duration left);
// The event `cancel`: nobody waits for the request any more.
void append_cancel_event(std::string& out, std::uint64_t request);

enum class AnswerKind : std::uint8_t { kResult, kError };
// By the Content-Type; nullopt: a type that answers do not have.
std::optional<AnswerKind> answer_kind(std::string_view content_type);
// The body of POST /v1/providers/{id}. The error is a sentence.
std::expected<host::HostReply, std::string> read_answer(AnswerKind kind, std::string&& body);

}  // namespace keelback::server
