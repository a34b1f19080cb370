// How late event loops are, as a histogram.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace keelback {

struct LoopLag {
  static constexpr std::array<double, 12> kBounds = {  // seconds
      .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60};
  std::array<std::uint64_t, kBounds.size() + 1> counts{};  // the last: beyond all bounds
  double sum = 0;                                          // seconds

  void observe(Duration lag) {
    const double value = std::chrono::duration<double>(lag).count();
    const auto bound = std::ranges::lower_bound(kBounds, value);
    ++counts[static_cast<std::size_t>(bound - kBounds.begin())];
    sum += value;
  }
};

}  // namespace keelback
