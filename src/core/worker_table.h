// Slots and the workers that fill them. A slot has a current worker, perhaps its replacement that
// is still starting, and perhaps older ones that drain; generations count up over the whole pool,
// so an event of a worker that is gone finds nobody.
#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/id.h"
#include "base/time.h"
#include "core/call_queue.h"
#include "core/crash_loop.h"
#include "core/pool.h"
#include "core/session_table.h"
#include "core/timers.h"

namespace keelback::core {

struct Slot;

// Why we kill a worker.
enum class KillCause : std::uint8_t { kTimeout, kUnclean, kDrained, kStartTimeout };

struct Worker : Timer {
  // What it is in, one at a time; docs/states.md has the table. A state owns what only it needs.
  struct Starting {};
  struct Proving {};  // it has started in place of a broken one, and its health functions run first
  struct Ready {};    // at rest
  struct Busy {};     // it runs a call, its health functions run, or it is withheld
  struct Suspect {};  // its call's time is over
  struct Draining {   // it serves only the sessions that it holds
    Time since;
  };
  struct Stopping {  // StopWorker was sent
    Time since;
  };
  struct Killed {  // KillWorker was sent
    Time since;
    KillCause cause;
    WorkerState shown;  // until it is gone
  };
  using State = std::variant<Starting, Proving, Ready, Busy, Suspect, Draining, Stopping, Killed>;

  // Its health functions, once it is ready.
  enum class Check : std::uint8_t {
    kNone,
    kWanted,  // they are to run when it is free
    kRuns,
  };
  // Whether it is known to be broken, and what is done about it.
  enum class Condition : std::uint8_t {
    kWell,
    kSick,      // it serves on
    kWithheld,  // it takes no calls until a replacement has been tried
  };

  // Its event loop does not turn.
  struct Block {
    CallId by;  // it runs here; 0: not known
    Time since;
  };

  Worker() : Timer(TimerKind::kWorker) {}

  WorkerId id;
  Slot* slot = nullptr;
  State state;  // WorkerTable::set() changes it
  Check check = Check::kNone;
  Condition condition = Condition::kWell;
  std::string fault;       // of a sick one: "fails its health check: …"
  bool recycle = false;    // a replacement is wanted, then it drains
  bool healing = false;    // it is broken, and its own replacement is being tried
  bool blameless = false;  // the laboratory ends it: no request is to blame
  bool choosing = false;   // a call has just ended: what comes next is for offer() to say

  RunningCalls running;        // one that runs alone, one batch, or several that run beside others
  Time batch_deadline;         // the last one of the batch that it runs
  std::uint32_t capacity = 1;  // calls that it may run
  bool emptied = false;        // it takes no call that is younger than one that is to run alone
  // A call in it does not end though its grace is over: it takes no call any more, and is killed
  // when the others have ended.
  bool doomed = false;
  // It drains because the others suffice: it may still stay. It is its slot's current worker until
  // it is told to stop.
  bool spare = false;
  Time turned;  // its event loop was last seen to turn
  std::optional<Block> block;
  CallId blocker;        // it was killed because this call blocks its event loop; 0: it was not
  Home* home = nullptr;  // null once its sessions are lost
  RunQueue queue;        // heads of the sessions bound to it
  std::uint64_t calls = 0;
  std::uint64_t calls_max = 0;  // as configured at its start; 0: no limit
  Duration age_max{0};
  Time started;
  Time ready_at;
  std::uint64_t idle_since = 0;  // order of becoming idle
  std::uint32_t saves = 0;       // sessions whose state it was asked for, until that is stored
  std::uint32_t code = 0;        // the reload it was started after
  Time check_at;                 // the next regular check
  Time error_check_at;           // the earliest one after an error

  boost::intrusive::set_member_hook<> idle_hook;
  boost::intrusive::set_member_hook<> slot_hook;
  boost::intrusive::set_member_hook<> load_hook;
  boost::intrusive::list_member_hook<> sharing_hook;

  template <class S>
  const S* in() const {
    return std::get_if<S>(&state);
  }
  bool proving() const { return in<Proving>(); }
  bool ready() const { return in<Ready>(); }
  bool busy() const { return in<Busy>(); }
  bool suspect() const { return in<Suspect>(); }
  bool draining() const { return in<Draining>(); }
  bool killed() const { return in<Killed>(); }
  // We have told it to end.
  bool ending() const { return in<Stopping>() || in<Killed>(); }
  // It has been ready.
  bool was_ready() const {
    if (const Killed* killed = in<Killed>()) return killed->shown != WorkerState::kStarting;
    return !in<Starting>() && !in<Proving>();
  }
  // What outsiders see.
  WorkerState shown() const;
  bool withheld() const { return condition == Condition::kWithheld; }
  std::size_t sessions() const { return home ? home->sessions() : 0; }
  // Nothing but the calls that it runs keeps it from taking one of a session bound to it.
  bool serves() const {
    return !choosing && check != Check::kRuns && !withheld() && saves == 0 && !doomed &&
           (ready() || draining() || (busy() && !running.empty()));
  }
  // It serves, and runs nothing.
  bool free() const { return running.empty() && serves(); }
  // Its call runs alone, or it runs a batch.
  bool taken() const { return !running.empty() && running.front().alone; }
  // It serves, and this call can run beside those that run there.
  bool fits(const Call& head) const;
  // The same, and the call's function may run in one more worker, or runs in this one already.
  bool takes(const Call& head) const;
  // Calls of this function that run beside others.
  std::uint32_t shared_calls(const Function& function) const;
  // Notes that a call begins and ends to run here.
  void begin(Call& call);
  void end(Call& call);

 private:
  bool runs_namesake(const Call& head) const;

  struct Shared {
    Function* function;
    std::uint32_t calls;
  };
  std::vector<Shared> shared_;  // by function; none with 0 calls
};

struct Slot : Timer {
  // What its next start waits for.
  enum class Awaits : std::uint8_t {
    kNothing,
    kPause,  // its timer
    kPlace,  // of an exec start
  };

  explicit Slot(std::uint32_t n) : Timer(TimerKind::kSlot), number(n) {}
  std::uint32_t number;
  Worker* current = nullptr;  // starting, ready, busy or suspect; or one that drains and may stay
  Worker* next = nullptr;     // starting, to replace current
  bool wanted = true;         // false: the pool is smaller
  Awaits awaits = Awaits::kNothing;
  bool start_failed = false;  // the last start did, and none has succeeded since
  bool died = false;          // its next start replaces a worker that died
  CrashLoop::Streak streak;
};

class WorkerTable {
 public:
  ~WorkerTable();
  WorkerTable() = default;
  WorkerTable(const WorkerTable&) = delete;
  WorkerTable& operator=(const WorkerTable&) = delete;

  // Slots are numbered from 1 and never renumbered. So many are wanted, from the first on.
  void resize(std::uint32_t slots);
  // There are at least so many; new ones are not wanted yet.
  void add_slots(std::uint32_t slots);
  std::uint32_t wanted() const;
  std::vector<std::unique_ptr<Slot>>& slots() { return slots_; }
  const std::vector<std::unique_ptr<Slot>>& slots() const { return slots_; }
  Slot* slot(std::uint32_t number);

  Worker& make(Slot& slot, Time now);
  // How many calls each worker may run, from now on.
  void set_capacity(std::uint32_t calls);
  std::uint32_t capacity() const { return capacity_; }
  void erase(Worker& worker);
  Worker* find(WorkerId id) const;
  void set(Worker& worker, const Worker::State& state);
  // By what outsiders see.
  std::uint32_t count(WorkerState state) const { return counts_[static_cast<int>(state)]; }
  // Ready or about to be again: what serves calls.
  std::uint32_t up() const {
    return count(WorkerState::kReady) + count(WorkerState::kBusy) + count(WorkerState::kSuspect) +
           count(WorkerState::kDraining);
  }
  std::size_t size() const { return workers_.size(); }
  // In order of their start.
  template <class Visit>
  void each(Visit visit) const {
    for (Worker* worker : in_order_) visit(*worker);
  }

 private:
  std::vector<std::unique_ptr<Slot>> slots_;
  boost::unordered_flat_map<std::uint32_t, std::unique_ptr<Worker>> workers_;  // by generation
  std::vector<Worker*> in_order_;
  std::uint32_t generations_ = 0;
  std::uint32_t capacity_ = 1;
  std::uint32_t counts_[static_cast<int>(WorkerState::kDraining) + 1] = {};
};

}  // namespace keelback::core
