// The headers of POST /v1/call/{function}, read into a Call. Pure; fuzzed.
#pragma once

#include <expected>
#include <string>

#include "keelback/call.h"
#include "server/request.h"

namespace keelback::server {

struct CallHeaders {
  Call call;                  // without function and payload
  std::string name;           // Keelback-Call: what the caller names it, for DELETE /v1/calls/NAME
  bool wants_stream = false;  // Accept: text/event-stream
};
// The error is a sentence that names the header and says what is wrong with it.
std::expected<CallHeaders, std::string> read_call_headers(const Request& request);

// "application/json", with or without parameters.
bool is_json_type(std::string_view content_type);

}  // namespace keelback::server
