// The shared calls that a worker runs, and the row of its marks that each has.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "base/id.h"
#include "wire/frame.h"

namespace keelback::host {

class SharedCalls {
 public:
  // The call's row, from 1. The core gives a worker no more calls than there are rows.
  std::uint16_t begin(CallId call) {
    auto free = std::ranges::find(rows_, CallId{});
    if (free == rows_.end()) free = rows_.insert(free, CallId{});
    *free = call;
    ++count_;
    CHECK(rows_.size() <= wire::kRowsMax);
    return static_cast<std::uint16_t>(free - rows_.begin() + 1);
  }
  // 0: the worker does not run it.
  std::uint16_t row_of(CallId call) const {
    const auto found = std::ranges::find(rows_, call);
    return !call || found == rows_.end() ? 0
                                         : static_cast<std::uint16_t>(found - rows_.begin() + 1);
  }
  void end(std::uint16_t row) {
    CHECK(rows_.at(row - 1U));
    rows_[row - 1U] = CallId{};
    --count_;
  }
  bool empty() const { return count_ == 0; }
  // visit(row, call)
  template <class Visit>
  void each(Visit visit) const {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i]) visit(static_cast<std::uint16_t>(i + 1), rows_[i]);
    }
  }

 private:
  std::vector<CallId> rows_;
  std::size_t count_ = 0;
};

}  // namespace keelback::host
