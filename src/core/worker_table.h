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

// Why we ended, or are ending, a worker ourselves.
enum class EndCause : std::uint8_t { kNone, kTimeout, kUnclean, kDrained, kStartTimeout };

struct Worker : Timer {
  Worker() : Timer(TimerKind::kWorker) {}

  WorkerId id;
  Slot* slot = nullptr;
  WorkerState state = WorkerState::kStarting;
  Call* running = nullptr;
  Home* home = nullptr;  // null once its sessions are lost
  RunQueue queue;        // heads of the sessions bound to it
  std::uint64_t calls = 0;
  std::uint64_t calls_max = 0;  // as configured at its start; 0: no limit
  Duration age_max{0};
  Time started;
  Time ready_at;
  Time drain_since;              // while draining
  Time ending_since;             // stopping or killed
  std::uint64_t idle_since = 0;  // order of becoming idle
  std::uint32_t saves = 0;       // sessions whose state it was asked for, until that is stored
  std::uint32_t code = 0;        // the reload it was started after
  bool ready_once = false;
  bool recycle = false;             // a replacement is wanted, then it drains
  bool stopping = false;            // StopWorker was sent
  bool killed = false;              // KillWorker was sent
  bool blameless = false;           // the laboratory ends it: no request is to blame
  bool checking = false;            // its health functions run
  bool check_wanted = false;        // they are to run when it is free
  bool withheld = false;            // it takes no calls until a replacement has been tried
  bool healing = false;             // that replacement is being tried
  std::optional<std::string> sick;  // why it is to be replaced: "fails its health check: …"
  Time check_at;                    // the next regular check
  Time error_check_at;              // the earliest one after an error
  bool choosing = false;            // a call has just ended: what comes next is for offer() to say
  EndCause cause = EndCause::kNone;

  boost::intrusive::set_member_hook<> idle_hook;
  boost::intrusive::set_member_hook<> load_hook;

  // Its state when it runs no call: busy if it takes none yet.
  WorkerState at_rest() const {
    return checking || withheld ? WorkerState::kBusy : WorkerState::kReady;
  }
  std::size_t sessions() const { return home ? home->sessions() : 0; }
  // It can take a call of a session bound to it now.
  bool free() const {
    return !running && !choosing && !checking && !withheld && !stopping && !killed && saves == 0 &&
           (state == WorkerState::kReady || (state == WorkerState::kDraining && ready_once));
  }
};

struct Slot : Timer {
  explicit Slot(std::uint32_t n) : Timer(TimerKind::kSlot), number(n) {}
  std::uint32_t number;
  Worker* current = nullptr;  // starting, ready, busy or suspect
  Worker* next = nullptr;     // starting, to replace current
  bool wanted = true;         // false: the pool was made smaller
  bool queued = false;        // waits for its turn to start
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

  // Slots are numbered from 1 and never renumbered.
  void resize(std::uint32_t slots);
  std::vector<std::unique_ptr<Slot>>& slots() { return slots_; }
  const std::vector<std::unique_ptr<Slot>>& slots() const { return slots_; }
  Slot* slot(std::uint32_t number);

  Worker& make(Slot& slot, Time now);
  void erase(Worker& worker);
  Worker* find(WorkerId id) const;
  void set_state(Worker& worker, WorkerState state);
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
  std::uint32_t counts_[6] = {};
};

}  // namespace keelback::core
