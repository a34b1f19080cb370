// Answers requests. admit() decides what is allowed when the header is complete; run() does it when
// the body is complete too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "server/access.h"
#include "server/call_body.h"
#include "server/call_headers.h"
#include "server/hub.h"
#include "server/reply.h"
#include "server/request.h"
#include "server/target.h"

namespace keelback::server {

inline constexpr std::size_t kLoggedTarget = 200;  // bytes of a request's target

struct Admission {
  std::optional<Response> refusal;  // set: this is the answer, nothing is done
  std::optional<Route> route;       // unset: there is an answer already
  std::optional<Response> answer;   // set: the whole answer, and it is no refusal
  std::string parameter;            // what stood for {} in the path, decoded
  Target target;                    // empty for calls
  CallHeaders headers;              // for calls
  BodyKind body_kind = BodyKind::kJsonOnly;
  std::string hop;  // the node that it comes from; empty: from a client
  bool authorised = false;
  bool keep_body = false;      // else it is read and dropped
  std::uint64_t body_max = 0;  // bytes
};

Admission admit(Hub& hub, const Request& request, const Door& door);

// Logs that a client without the token was refused: who it was, and what it asked for.
void log_refusal(Connection& connection, const Response& refusal, const Request& request);

// Everything but calls. The reply comes now or, for a reload, later.
void run(Connection& connection, Admission& admission, Request& request);

}  // namespace keelback::server
