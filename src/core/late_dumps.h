// Stack dumps that came after their call's caller had heard. Each is kept for ten minutes; the
// oldest goes first when there are more than 256 or more than 16 MiB of them.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "base/id.h"
#include "base/time.h"

namespace keelback::core {

class LateDumps {
 public:
  static constexpr Duration kKept = std::chrono::minutes(10);
  static constexpr std::size_t kCountMax = 256;
  static constexpr std::size_t kBytesMax = 16U << 20;

  // `now` never goes back from one call to the next. A dump of more than kBytesMax is not kept.
  void add(Time now, CallId call, std::string text) {
    bytes_ += text.size();
    entries_.push_back({now, call, std::move(text)});
    while (entries_.size() > kCountMax || bytes_ > kBytesMax) drop_oldest();
    drop_old(now);
  }
  // nullopt: none was made, or it is gone.
  std::optional<std::string> find(Time now, CallId call) {
    drop_old(now);
    for (const Entry& entry : entries_) {
      if (entry.call == call) return entry.text;
    }
    return std::nullopt;
  }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Time since;
    CallId call;
    std::string text;
  };
  void drop_oldest() {
    bytes_ -= entries_.front().text.size();
    entries_.pop_front();
  }
  void drop_old(Time now) {
    while (!entries_.empty() && now - entries_.front().since >= kKept) drop_oldest();
  }

  std::deque<Entry> entries_;  // oldest first
  std::size_t bytes_ = 0;
};

}  // namespace keelback::core
