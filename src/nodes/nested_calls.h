// Calls that Python code makes into a session: they go where the session is, as calls of clients
// do.
//
// A call stays the child of the call that makes it as long as both are in this pool. Another node
// does not know the parent: the deadline bounds such a call, and the end of the parent cancels it.
//
// Threads: any. It is shared with the engine and must not call it after close().
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "base/id.h"
#include "host/driver.h"
#include "host/provider.h"

namespace keelback::nodes {

class NestedCalls final : public host::Provider {
 public:
  // `driver` finds out whose session it is; it lives until close().
  explicit NestedCalls(host::Driver& driver) : driver_(driver) {}
  void asked(host::HostRequest request) override;
  void cancelled(std::uint64_t request) override;
  // Nothing is taken or answered any more.
  void close();

 private:
  void ended(std::uint64_t request, Outcome&& outcome);

  host::Driver& driver_;
  std::mutex mutex_;  // guards what follows; held while the driver takes a call
  std::map<std::uint64_t, CallId> open_;
  bool closed_ = false;
};

}  // namespace keelback::nodes
