// Functions that the embedding program provides to Python code (`keelback.host.NAME`), as a driver
// knows them: who provides which name, what was asked, and who answers.
#pragma once

#include <cstdint>
#include <string>

#include "base/id.h"
#include "base/time.h"

namespace keelback::host {

// What Python code asks of a provider.
struct HostRequest {
  std::uint64_t id = 0;  // never reused
  std::string name;
  std::string arguments;  // JSON: an object is keywords, an array positional
  // Of a nested call that SessionPort::route_nested() leads here: the function of the application
  // and the session to run it in. Else empty.
  std::string function;
  std::string into;
  CallId call;          // whose code asks: the parent of calls that the provider makes for it
  std::string session;  // of that call; empty: it has none
  Time deadline;        // of that call
  std::string traceparent;
};

struct HostReply {
  bool ok = true;
  std::string result = "null";  // JSON
  std::string outcome;          // not ok: of a nested call, as OUTCOME tells it. Empty: an error
  std::string error_type;       // not ok: as a Python error has them
  std::string error_message;
  bool dropped = false;  // not ok: nobody will answer, as if the provider had gone
};

// Names one registration; never reused.
struct ProviderId {
  std::uint64_t value = 0;
};

// Both methods are called on any thread, without a lock of the driver, and must not block.
class Provider {
 public:
  Provider() = default;
  Provider(const Provider&) = delete;
  Provider& operator=(const Provider&) = delete;
  virtual ~Provider() = default;
  // Answered by Driver::answer(request.id, …), from any thread, also from within this call.
  virtual void asked(HostRequest request) = 0;
  // Nobody waits for this request any more. It comes after asked() has returned, if at all.
  virtual void cancelled(std::uint64_t request) = 0;
};

}  // namespace keelback::host
