// How often operators hear of what may happen again and again: once a minute. What is left out is
// counted, so that the next notice can say it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/time.h"

namespace keelback::core {

class NoticePace {
 public:
  static constexpr Duration kEvery = std::chrono::minutes(1);

  // How many were left out since the last one; nullopt: this one is, too.
  std::optional<std::uint64_t> take(Time now) {
    if (last_ && now - *last_ < kEvery) {
      ++left_out_;
      return std::nullopt;
    }
    last_ = now;
    return std::exchange(left_out_, 0);
  }

 private:
  std::optional<Time> last_;
  std::uint64_t left_out_ = 0;
};

}  // namespace keelback::core
