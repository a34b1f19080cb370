// Behind HostCall and Pool::provide(): requests that the program has not answered, and the driver
// for as long as there is one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "host/driver.h"
#include "keelback/host_call.h"

namespace keelback::api {

// Shared by a pool and its HostCalls. Any thread.
class HostDesk {
 public:
  explicit HostDesk(host::Driver& driver) : driver_(&driver) {}

  // The driver is about to end. Waits for answers that are being given.
  void close();
  bool answer(std::uint64_t request, host::HostReply reply);

  void open(std::uint64_t request, std::shared_ptr<HostCall::Impl> call);
  void forget(std::uint64_t request);
  void cancelled(std::uint64_t request);

 private:
  // It is not open any more, and ends outside of the lock. Null: it was not open.
  std::shared_ptr<HostCall::Impl> take(std::uint64_t request);

  std::mutex mutex_;
  std::condition_variable left_;
  host::Driver* driver_;                                           // null: closed
  int users_ = 0;                                                  // threads that use it now
  std::map<std::uint64_t, std::shared_ptr<HostCall::Impl>> open_;  // shared with the HostCalls
};

// What the driver asks for the program's function. Shared with the driver.
std::shared_ptr<host::Provider> make_provider(std::shared_ptr<HostDesk> desk,
                                              HostFunction function);

}  // namespace keelback::api
