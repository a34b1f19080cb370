// Whether calls of a function come fast enough to fill a batch while the first of them waits: the
// last window of `batch_wait` says so. A window begins with a call and counts the calls of its
// group; it ends when they fill a batch, or when the next call comes after `batch_wait`.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace keelback::core {

class BatchPace {
 public:
  // A call of the group has come. batch: calls that fill one, at least 2.
  void arrived(Time now, std::uint64_t group, std::uint32_t batch, Duration wait) {
    if (count_ > 0 && now - since_ > wait) {
      fills_ = false;
      count_ = 0;
    }
    if (count_ == 0) {
      since_ = now;
      group_ = group;
    }
    if (group == group_ && ++count_ >= batch) {
      fills_ = true;
      count_ = 0;
    }
  }
  // True also before anything is known: who asks for a wait gets it.
  bool fills() const { return fills_; }

 private:
  Time since_{};
  std::uint64_t group_ = 0;  // that the window counts
  std::uint32_t count_ = 0;  // 0: no window
  bool fills_ = true;
};

}  // namespace keelback::core
