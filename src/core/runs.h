// The calls that run: handed to a worker, answered by it, pressed to end when their time is over,
// settled when their worker dies.
//
// Owns: the budget of retries.
// Asks: Waiting for the way out of the queue and back; Sessions and Snapshots for what a call means
// to its session; Workers, Replacements and Health for what it means to its worker; Nesting for
// what it means to the calls that it has made.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "core/call.h"
#include "core/ending.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/quarantine.h"
#include "core/retry.h"
#include "core/worker_table.h"

namespace keelback::core {

class Calls;
class Health;
class Nesting;
class Replacements;
class Sessions;
class Snapshots;
class Waiting;
class Workers;

class Runs {
 public:
  Runs(Frame& frame, Quarantine& quarantine, Calls& calls, Waiting& waiting, Sessions& sessions,
       Snapshots& snapshots, Workers& workers, Replacements& replacements, Health& health,
       Nesting& nesting)
      : frame_(frame),
        quarantine_(quarantine),
        calls_(calls),
        waiting_(waiting),
        sessions_(sessions),
        snapshots_(snapshots),
        workers_(workers),
        replacements_(replacements),
        health_(health),
        nesting_(nesting) {}
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;

  void on(const CallCancelled& event);
  void on(const WorkerReplied& event);
  void on(const RestoreFailed& event);
  void on(const StreamMoved& event);
  void on(const StreamGranted& event);

  // A call was submitted; retries are a share of those.
  void note_call() { retry_budget_.count_call(frame_.now); }
  // Requires: the worker is free for this head. If that is in a group, its next batch goes along.
  void dispatch(Worker& worker, Call& call);
  // The worker is gone, and its calls with it.
  void settle_deaths(Worker& worker, const WorkerExited& event, const DeathPtr& death);
  // Its time is over, and it still runs.
  static bool is_pressed(const Call& call);
  // Its time and its grace are over, and it still runs.
  static bool is_over(const Call& call);
  // When the call is to be looked at again: its deadline, its silence, its next rung.
  Time due(const Call& call) const;
  void rearm(Call& call) { frame_.timers.arm(call, due(call)); }
  // That time has come.
  void climb(Call& call);

 private:
  // Calls of a batch that died. They run again, each list in a batch of its own.
  struct Again {
    std::vector<Call*> suspects;  // one of them may have killed the worker
    std::vector<Call*> others;    // they had not begun
  };
  // What a worker's death is to a call that ran there.
  struct Lost {
    bool started = false;
    bool together = false;  // it was one of several calls of a batch that had begun
    DeathRole role = DeathRole::kNone;
  };

  // The call, if the worker runs it.
  Call* find(WorkerId worker, CallId call) const;
  void start(Worker& worker, Call& call, const BatchPlace& place);
  // The call leaves its worker; the caller decides what becomes of either.
  void stop(Worker& worker, Call& call);
  void take_rung(Call& call, const Call::Running& run);
  void settle_worker(Worker& worker, const WorkerReplied& event);
  void end_with_worker(Worker& worker, Call& call, const WorkerReplied& event);
  bool costs_worker(const Call& call, const WorkerReplied& event) const;
  std::optional<Time> idle_due(const Call& call) const;
  Duration worker_time(const Worker& worker, const Call& call) const;
  // The call that is known to be the cause of its worker's end.
  struct Culprit {
    CallId call;  // 0: none is known
    const Function* function = nullptr;
    std::string_view deed;  // what it did, as part of a sentence
    bool overdue = false;   // … which other calls have done, too
  };
  Culprit culprit_of(const Worker& worker, const WorkerExited& event) const;
  void settle_death(Worker& worker, Call& call, const Lost& lost, const DeathPtr& death,
                    Again& again);
  void run_again(Again& again);
  // It is one of several calls of a batch, and another one carries the ladder for all of them.
  static bool is_pressed_by_another(const Call& call);
  void blame(const Call& call, DeathRole role);
  void give_up(Worker& worker, const Call& call);
  AfterDeath decide(const Call& call, const LostAttempt& attempt, Duration& pause);

  Frame& frame_;
  Quarantine& quarantine_;
  Calls& calls_;
  Waiting& waiting_;
  Sessions& sessions_;
  Snapshots& snapshots_;
  Workers& workers_;
  Replacements& replacements_;
  Health& health_;
  Nesting& nesting_;
  RetryBudget retry_budget_;
};

}  // namespace keelback::core
