// The items of a streaming call. The reader pulls them. At most 16 items wait here; then the worker
// waits until the reader takes one.
//
// One thread reads a Stream; any thread may cancel(). It must not outlive its Pool (moving the Pool
// is fine). Destroying it before the end cancels the call.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "keelback/result.h"

namespace keelback {

class Stream {
 public:
  ~Stream();
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;

  // Blocks for the next item (JSON by default); nullopt: the stream is over, see result(). A
  // function that does not stream yields no item: its value is in result().
  std::optional<std::string> next();
  // How the call ended. Blocks until then, and throws away the items that were not taken.
  const Result& result();
  // Asks the function to stop; next() then soon says that the stream is over.
  void cancel();

  struct Impl;
  explicit Stream(std::shared_ptr<Impl> impl);  // for Pool

 private:
  // Shared with the driver's callbacks, which may still run while the reader leaves.
  std::shared_ptr<Impl> impl_;
};

}  // namespace keelback
