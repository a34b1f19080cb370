// What all parts of the pool share: the settings, the time of the event that is being handled, what
// is due when, what is counted, and where the actions go. Parts keep a reference; the pool owns it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/prng.h"
#include "base/settings.h"
#include "base/time.h"
#include "core/action.h"
#include "core/breaker.h"
#include "core/counters.h"
#include "core/quarantine.h"
#include "core/timers.h"

namespace keelback::core {

// The pool's own life. Only class Shutdown changes it.
enum class Phase : std::uint8_t {
  kOpen,
  kDraining,  // no new calls; the accepted ones finish
  kOverdue,   // the drain's limit has passed: nothing starts any more
  kDrained,   // no call, no worker
};

struct Frame {
  Frame(Settings values, std::uint64_t seed) : settings(std::move(values)), prng(seed) {}
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  template <class A>
  void emit(A&& action) {
    out->emplace_back(std::forward<A>(action));
  }
  void notice(Notice::Level level, std::string text) { emit(Notice{level, std::move(text)}); }
  bool draining() const { return phase != Phase::kOpen; }
  Breaker::Limits breaker_limits() const {
    const auto& breaker = settings.breaker;
    return {breaker.failures, breaker.ratio, breaker.window, breaker.open_for};
  }
  Quarantine::Limits quarantine_limits() const {
    return {settings.quarantine.deaths, settings.quarantine.ttl};
  }

  Settings settings;
  Prng prng;
  Time now{};
  Actions* out = nullptr;  // during handle() only
  Phase phase = Phase::kOpen;
  Timers timers;
  Counters counters;
};

}  // namespace keelback::core
