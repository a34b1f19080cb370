// A call as an HTTP request to the node that owns its session, and that node's reply as the outcome
// of the call. The inverse of src/server/call_headers.cpp, call_body.cpp, reply.cpp and sse.cpp;
// docs/http.md, Between nodes, says what is lost on the way. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::nodes {

// ---- requests

// The node that asks.
struct Sender {
  std::string node;   // its name
  std::string token;  // cluster.token; not empty
};

// Why HTTP cannot carry this call as it is, as a sentence; nullopt: it can.
std::optional<std::string> cannot_travel(const Call& call);

struct RequestText {
  std::string head;  // with the empty line
  std::string form;  // the body of a call with attachments
  bool has_form = false;
  // What follows the head; borrowed from here or from the call.
  std::string_view body(const Call& call) const { return has_form ? form : call.payload; }
};

// What is not in the call itself.
struct Envelope {
  std::string_view authority;  // of the node that is asked, for the Host header
  std::string_view name;       // Keelback-Call: how cancel_request() names it
  bool stream = false;
  std::string_view boundary;  // of a form; nobody may know it before
};
// call.deadline is what is left of it. The call's parent is left out: its number means nothing to
// another node. Requires: !cannot_travel(call).
RequestText call_request(const Call& call, const Envelope& envelope, const Sender& sender);
// Asks the node to end the session. No body. Requires: an id that can travel.
RequestText end_request(std::string_view session, std::string_view authority, const Sender& sender);
// Asks the node to cancel the call of this name. No body.
std::string cancel_request(std::string_view name, std::string_view authority, const Sender& sender);

// ---- replies

struct ReplyHead {
  int status = 0;
  bool keep_alive = true;
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case

  std::string_view get(std::string_view lower_name) const;  // empty if absent; the first
};

struct Answer {
  enum class Kind : std::uint8_t {
    kOutcome,   // `outcome`
    kNotOwner,  // 421: that node does not own the session. Nothing was done
    kRefused,   // it did not take the request for a call; `why`. Nothing was done
    kForeign,   // no node of ours has written that; `why`
  };
  Kind kind = Kind::kForeign;
  Outcome outcome;
  std::string why;
};
// The reply to call_request() or end_request(), whole. A stream is answered so if it was refused at
// once. A session that has ended is kOk; reason kNoSession (base/reasons.h): there is none.
Answer read_reply(const ReplyHead& head, std::string&& body);
// The last event of a stream: "end" or "error".
Answer read_last_event(std::string_view name, std::string_view data);

}  // namespace keelback::nodes
