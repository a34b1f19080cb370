// A request of Python code for a function that this program provides: see Pool::provide().
//
// Threads: one thread at a time uses a HostCall; it may be moved to another one. Nothing here
// blocks. It may outlive its pool: then answers go nowhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace keelback {

class HostCall {
 public:
  std::string name;
  std::string arguments;   // JSON: an object is keywords, an array positional
  std::uint64_t call = 0;  // whose code asks. Call::parent of calls that are made for it
  std::string session;     // of that call; empty: it has none
  std::chrono::steady_clock::time_point deadline;  // of that call
  std::string traceparent;                         // W3C trace context of that call

  // Without an answer the Python code raises keelback.HostGone.
  ~HostCall();
  HostCall(HostCall&&) noexcept;
  HostCall& operator=(HostCall&&) noexcept;

  // The function's result, JSON. What is not JSON, or longer than calls.payload_max, raises an
  // error in Python. False: nobody waits any more, or it was answered before.
  bool answer(std::string json);
  // The Python code raises keelback.CallFailed with this type and message. False as above.
  bool fail(std::string type, std::string message);
  // `heard` runs when nobody waits any more: the asking call ended, was cancelled or is late, or
  // its worker died. It runs once or never, on any thread, and must not block; if it is too late
  // for waiting, at once. It may run while answer() or fail() does. The last `heard` counts.
  void on_cancel(std::move_only_function<void()> heard);

  struct Impl;
  explicit HostCall(std::shared_ptr<Impl> impl);  // for Pool

 private:
  std::shared_ptr<Impl> impl_;  // shared with the pool, which cancels; null: answered, or moved
};

// Runs for each request, on the library's thread or on one that blocks in a call. Must not block
// and must not throw: what takes time moves the HostCall to another thread.
using HostFunction = std::move_only_function<void(HostCall)>;

}  // namespace keelback
