// What unfinished calls carry beside their payloads (attachments): how many bytes, and whether one
// more call fits. A call's bytes count from its acceptance to its outcome, wherever it waits or
// runs, since whoever drives the pool holds them for that long.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace keelback::core {

class CarriedBytes {
 public:
  struct Limits {
    std::uint64_t call_max;  // of one call
    std::uint64_t budget;    // of all unfinished calls together
  };
  enum class Verdict : std::uint8_t {
    kFits,
    kTooLarge,  // it would not fit into an empty pool either
    kFull,      // it fits once others have ended
  };

  // What is in already stays in when a limit falls.
  Verdict judge(std::uint64_t bytes, const Limits& limits) const {
    if (bytes == 0) return Verdict::kFits;
    if (bytes > std::min(limits.call_max, limits.budget)) return Verdict::kTooLarge;
    return total_ > limits.budget - bytes ? Verdict::kFull : Verdict::kFits;
  }
  void add(std::uint64_t bytes) { total_ += bytes; }
  void remove(std::uint64_t bytes) {
    CHECK(bytes <= total_);
    total_ -= bytes;
  }
  std::uint64_t total() const { return total_; }

 private:
  std::uint64_t total_ = 0;
};

}  // namespace keelback::core
