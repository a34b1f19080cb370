// Replies: a Response for everything but a plain call, and the functions that write heads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/pool.h"
#include "keelback/outcome.h"

namespace keelback::server {

inline constexpr std::string_view kJson = "application/json";
inline constexpr std::string_view kProblemJson = "application/problem+json";

struct Response {
  int status = 200;
  std::string_view content_type = kJson;  // static storage
  std::string body;
  std::string headers;  // further lines, each with its CRLF
};

// The standard phrase of a status; "Client Closed Request" for 499.
std::string_view reason_phrase(int status);

// Appends "HTTP/1.1 200 OK\r\n" … up to and without the empty line. content_length nullopt: none
// is sent (a stream, or 204).
struct Head {
  int status = 200;
  bool http11 = true;
  bool keep_alive = true;
  std::string_view content_type;
  std::optional<std::uint64_t> content_length;
  std::string_view date;
  std::string_view node = {};  // Keelback-Node; empty: none
};
void append_head(std::string& out, const Head& head);

// The headers of an answered call: Keelback-Worker … Server-Timing, Retry-After.
void append_outcome_headers(std::string& out, const Outcome& outcome, std::string_view call_name,
                            std::chrono::nanoseconds total);

// ---- application/problem+json

// A call that did not end as ok, as its problem object.
std::string problem_of(const Outcome& outcome);
// A call that the server refused itself, before the pool saw it: effect none.
Response refused_call(OutcomeKind kind, std::string_view detail);
// Anything else that went wrong: type "urn:keelback:http:" + name.
Response problem(int status, std::string_view name, std::string_view detail);

// True: the call may still run after this answer, and its stacks come later.
bool may_run_on(const Outcome& outcome);

}  // namespace keelback::server
