// The production pool on virtual time. Simulation is a driver like any other: it submits calls,
// performs the core's actions with model workers, and hands each outcome to its caller once. Time
// moves only when it is told to, from one due thing to the next; everything that chance decides
// comes from one seed, so a seed is a run.
//
// Not thread-safe and never blocking: simdriver::SimDriver adds a loop, a lock and the real clock.
// Callbacks (outcomes, items) run only within deliver(), run_until() and advance(), hooks within
// step(); they may call anything here but those.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/id.h"
#include "base/loop_lag.h"
#include "base/settings.h"
#include "base/time.h"
#include "core/action.h"
#include "core/event.h"
#include "core/pool.h"
#include "keelback/call.h"
#include "keelback/outcome.h"
#include "sim/client_calls.h"
#include "sim/crew.h"
#include "sim/model.h"
#include "sim/schedule.h"
#include "sim/snapshot_shelf.h"
#include "sim/trace.h"

namespace keelback::sim {

class Simulation {
 public:
  struct Options {
    Settings settings;
    std::uint64_t seed = 1;
    ModelSettings model;
    bool check_invariants = false;  // after every event; O(pool) each time
  };
  explicit Simulation(Options options);
  ~Simulation();
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  // ---- callers. `done` runs exactly once, from deliver(), never from within these.
  // `item`: the caller takes a stream; shared with the items that are due to it.
  CallId submit(Call call, OnOutcome done, std::shared_ptr<OnItem> item = nullptr) {
    return enter(calls_.add(std::move(call), std::move(item), std::move(done)));
  }
  CallId stream(Call call, OnItem item, OnOutcome done);
  void grant(CallId call, std::uint32_t items);
  bool cancel(CallId call);  // false: no such call is in flight

  // ---- operators
  void configure(const Settings& settings);
  // An operator's event. False: what it names is not there (core::Pool::knows), and nothing was
  // done.
  bool apply(const core::Event& event);
  // A model zygote takes a start's time to load the new code and may fail as starts do; `done` gets
  // an empty string or the reason.
  void reload(std::move_only_function<void(std::string)> done);
  void drain(Duration limit, Hook done);

  // ---- time
  Time now() const { return now_; }
  // When step() has something to do; nullopt: never, unless something is submitted.
  std::optional<Time> next_due() const;
  // Goes to the next due thing and does it. False: there is none. Deliveries only pile up.
  bool step();
  // Does all that is due up to and including `until`, which then is now. Deliveries pile up.
  void step_until(Time until);
  // The same, with the deliveries in between.
  void run_until(Time until);
  void advance(Duration duration) { run_until(now_ + duration); }
  // Steps and delivers until `done` says so; false: not by `limit`. Leaves now where it happened.
  bool run_while_not(const std::function<bool()>& done, Time limit);
  // Runs `hook` in the step at that time (the next one, if it is past).
  void at(Time when, Hook hook);

  // ---- what has piled up for the callers, in order. deliver() runs it, including what these
  // callbacks add at once; calls().take_deliveries() hands it over, to be run where it may.
  void deliver() { calls_.deliver(); }
  ClientCalls& calls() { return calls_; }

  // ---- faults from outside; false: nothing lives in that slot
  // Blameless: the laboratory's kill, for which no request is to blame.
  bool kill(std::uint32_t slot, bool blameless = false);
  bool freeze(std::uint32_t slot, Duration spell);
  ModelSettings& model() { return crew_.model(); }

  // ---- readers
  const core::Pool& pool() const { return pool_; }
  PoolStats stats() const { return pool_.stats(now_); }
  // Null until it is announced.
  const Application* application() const { return announced_ ? &crew_.application() : nullptr; }
  std::size_t stored() const { return shelf_.size(); }  // snapshots
  // Of event loops that a call has blocked: the model knows no other lag.
  const LoopLag& loop_lag() const { return loop_lag_; }
  // The last ones.
  const std::deque<core::Notice>& notices() const { return notices_; }
  std::uint64_t events() const { return events_; }  // handled by the core so far
  std::uint64_t trace_hash() const { return trace_.value(); }
  // Sees every event before the core does, and every action before it is performed. Must not call
  // back into the simulation.
  void observe(std::function<void(Time, const core::Event&)> on_event,
               std::function<void(Time, const core::Action&)> on_action);

 private:
  CallId enter(const ClientCall& call);
  void make_nested(Said& said);
  void handle(const core::Event& event);
  void perform(core::Action& action);
  void dispatch(core::Dispatch& dispatch);
  // ---- snapshots
  void save(core::SaveSession& save);
  void keep(core::KeepSnapshot& keep);
  void drop(core::DropSnapshot& drop);
  void hear(Said said);
  void note(core::Notice& notice);
  void announce();

  static constexpr std::size_t kNoticesKept = 64;

  Schedule schedule_;
  Crew crew_;  // keeps a reference to schedule_
  core::Pool pool_;
  Time now_{};
  std::uint64_t last_hook_ = 0;
  std::uint64_t events_ = 0;
  std::uint32_t ticks_in_place_ = 0;  // a core whose next deadline does not move is a bug
  bool check_invariants_;
  bool announced_ = false;
  bool drained_ = false;
  bool handling_ = false;
  core::Actions actions_;
  TraceHash trace_;
  ClientCalls calls_;
  std::unordered_map<std::uint64_t, Hook> hooks_;  // looked up, never iterated
  SnapshotShelf shelf_;
  LoopLag loop_lag_;
  std::deque<core::Notice> notices_;
  std::vector<std::move_only_function<void(std::string)>> waiting_for_reload_;
  std::vector<Hook> waiting_for_drain_;
  std::function<void(Time, const core::Event&)> on_event_;
  std::function<void(Time, const core::Action&)> on_action_;
};

}  // namespace keelback::sim
