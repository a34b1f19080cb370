// What is due, and when: a binary heap of small entries. Entries due at the same time come out in
// the order they were put in, so a run depends on nothing but its seed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/time.h"

namespace keelback::sim {

struct Due {
  enum class Kind : std::uint8_t {
    kReady,    // a worker's start is over
    kStep,     // a worker's call goes on: next item, or its ending
    kTurn,     // a worker's event loop answers a ping, or turns again
    kBlocked,  // a worker's event loop has not turned for long
    kExit,     // a worker's process is gone
    kHook,     // a callback of the simulation's user
  };
  Time at;
  std::uint64_t order = 0;
  Kind kind = Kind::kHook;
  std::uint32_t generation = 0;  // of the worker
  // The worker's plan this belongs to, the call that blocks the loop, or the hook's number.
  std::uint64_t token = 0;
};

class Schedule {
 public:
  void add(Time at, Due::Kind kind, std::uint32_t generation, std::uint64_t token) {
    heap_.push_back({at, ++last_, kind, generation, token});
    std::ranges::push_heap(heap_, later);
  }
  std::optional<Time> next() const {
    return heap_.empty() ? std::nullopt : std::optional(heap_.front().at);
  }
  // Requires: next().
  Due pop() {
    std::ranges::pop_heap(heap_, later);
    const Due due = heap_.back();
    heap_.pop_back();
    return due;
  }
  std::size_t size() const { return heap_.size(); }

 private:
  static bool later(const Due& a, const Due& b) {
    return a.at != b.at ? a.at > b.at : a.order > b.order;
  }
  std::vector<Due> heap_;
  std::uint64_t last_ = 0;
};

}  // namespace keelback::sim
