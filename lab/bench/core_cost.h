// What the core costs alone - decided, not performed - and the least that the same could cost on
// this machine, so that a target is a ratio and travels. Real time, no processes.
#pragma once

#include <cstdint>
#include <memory>

#include "base/time.h"

namespace keelback::bench {

struct CoreLoad {
  std::uint32_t workers = 2;
  std::uint32_t sessions = 0;  // open; each call goes to one of them by chance. 0: stateless
  std::uint32_t waiting = 0;   // calls that wait in front
};

// Nanoseconds a call, from submission to resolution. Builds the state, then measures for `length`.
double core_call_ns(const CoreLoad& load, Duration length);

// Find, judge and touch of a random session in a full table, and beside it two cache misses of
// which the second needs the first: a slot in a table as large as the sessions' index, and the line
// that it points to, one of as many and as large ones as there are sessions. In both each step
// waits for the one before it, as it would in a program that does something in between.
class SessionTouch {
 public:
  SessionTouch(std::uint64_t sessions, std::uint64_t seed);
  ~SessionTouch();

  struct Cost {
    double touch_ns = 0;
    double two_misses_ns = 0;
  };
  Cost measure();  // both in turn, in short batches
  double bytes_per_session() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Events a second that the core handles in the simulator, on one thread.
double simulated_events_per_second(Duration length, std::uint64_t seed);
// The least that a simulator of so many calls can do: for each event the earliest entry leaves a
// std::priority_queue, its record leaves a std::unordered_map, and a new one enters both.
double bare_events_per_second(Duration length, std::uint64_t seed);

}  // namespace keelback::bench
