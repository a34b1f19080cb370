// Open-loop load: sends every call of a plan at its planned time, whether or not earlier ones have
// come back, and measures each from its planned time.
//
// Three times a call: planned, sent, done. latency = done - planned is what a user would have
// waited; service = done - sent; lag = sent - planned is the generator's own fault and can void
// the run. A call that has not come back when the run ends is kept, as unfinished.
//
// Threads: run() paces on the calling thread and returns when every call is done or the drain is
// over; the driver's loop thread fills the records. One run at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <chrono>

#include "host/driver.h"
#include "load/histogram.h"
#include "load/plan.h"

namespace keelback::load {

struct Record {
  Duration planned{0};  // all three from the start of the run
  Duration sent{0};
  Duration done{0};
  enum class State : std::uint8_t { kUnsent, kWaiting, kDone } state = State::kUnsent;
  OutcomeKind kind = OutcomeKind::kOk;

  bool ok() const { return state == State::kDone && kind == OutcomeKind::kOk; }
  Duration latency() const { return done - planned; }
};

struct RunOptions {
  Duration drain = std::chrono::seconds(10);  // how long to wait for the last calls
  std::uint32_t in_flight_max = 20'000;       // beyond it arrivals stay unsent (and are counted)
};

struct Run {
  std::vector<Record> records;                    // in the order of the plan
  std::chrono::steady_clock::time_point started;  // what the records' times count from
  Duration length{0};  // from the first planned time to the last outcome or the end of the drain
  double generator_cpu = 0;  // CPU time of the pacing thread over the run's length

  Histogram latency() const;  // of sent and unsent calls, from their planned times, censored kept
  Histogram service() const;
  Histogram lag() const;
  std::uint64_t count(OutcomeKind kind) const;
  double achieved_share() const;  // sent of planned
};

// Why a run's numbers must not be trusted; empty: they may be. `saturated`: the caller knows that
// the pool was meant to be overloaded, so unsent calls are its doing.
std::vector<std::string> void_reasons(const Run& run, bool saturated = false);

using MakeCall = std::function<Call(const Arrival&, std::size_t index)>;
// How a call reaches the pool. Must not block; `done` is called exactly once, from any thread,
// never from within. The driver's submit() is one, an HTTP client another.
using Send = std::function<void(Call&&, host::OnOutcome&& done)>;

// A session of the plan as a session id: "load-17"; empty for 0.
std::string session_name(std::uint32_t session, std::string_view prefix = "load-");

Run run_plan(const Send& send, const Plan& plan, const MakeCall& make_call,
             const RunOptions& options = {});
Run run_plan(host::Driver& driver, const Plan& plan, const MakeCall& make_call,
             const RunOptions& options = {});

// Closed loop: `callers` threads, each sending its next call when the last one is back, until
// `length` has passed. Uses the blocking path. Records are in order of completion per caller.
Run run_closed(host::Driver& driver, std::uint32_t callers, Duration length,
               const std::function<Call(std::uint32_t caller, std::uint64_t index)>& make_call);

// Closed loop of one thread: keeps `in_flight` calls on their way until `length` has passed, each
// one sent by the outcome of the one before it, on the driver's loop thread. `make_call` is called
// there and on the calling thread, but never twice at once. Blocks until the last outcome.
Run run_in_flight(host::Driver& driver, std::uint32_t in_flight, Duration length,
                  const std::function<Call(std::uint64_t index)>& make_call);

// How late this machine's timers wake us, measured now: what no generator can be better than.
// Blocks for about `length`.
Histogram timer_overshoot(Duration length);

}  // namespace keelback::load
