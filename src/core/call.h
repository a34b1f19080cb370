// A call in flight. Records only: who decides what about them stands in the classes that hold them.
#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/id.h"
#include "base/time.h"
#include "core/event.h"
#include "core/ladder.h"
#include "core/timers.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::core {

struct BatchGroup;
struct Function;
struct IdempotencyEntry;
struct Session;
struct Worker;
class RunQueue;

// What other calls, which kept the event loop of its worker from turning, have cost a call.
struct HeldUp {
  Duration time{0};
  bool at_deadline = false;  // one of them did so when its deadline came
};

struct Call : Timer {
  // A worker's answer that nobody has heard yet.
  struct Reply {
    ReplyKind kind;
    std::uint64_t bytes;  // that the driver holds of it
    bool started = true;  // false: nothing of the call ran before it
  };

  // What it is in, one at a time; docs/states.md has the table. A state owns what only it needs.
  struct InLane {};      // behind others of its session
  struct Head {};        // it stands for its lane (stateless: always), in `queue` or in `group`
  struct BackingOff {};  // waits for its retry; keeps the head of its lane
  struct Running {       // a worker has it
    Worker* worker;
    Time moved;  // its stream's last item, or when its worker was last allowed to send one
    std::uint64_t credit;        // items of its stream that may still come; see Runs::idle_due()
    Time climbed{};              // the last rung of the ladder, really
    Rung rung = Rung::kNone;     // of the kill ladder
    bool cancelled = false;      // by its caller
    std::optional<Reply> reply;  // it waits for its worker's death: see Runs::end_with_worker()
  };
  struct Joined {};  // waits for the outcome of the call with the same idempotency key
  struct Saving {    // answered; the answer waits until its session's state is stored
    Reply reply;
  };
  using State = std::variant<InLane, Head, BackingOff, Running, Joined, Saving>;

  // What its caller and its function say of it, once and for all.
  struct Traits {
    bool idempotent = false;        // may run twice
    bool asked_idempotent = false;  // the caller's part of that
    bool stream = false;            // the caller takes a stream
    bool fenced = false;            // its session may not move under it
  };
  // Where its deadline comes from.
  enum class Limit : std::uint8_t {
    kFunction,  // the function's own, or the pool's
    kCaller,
    kSilence,  // its stream fell silent for calls.stream_idle
  };

  Call() : Timer(TimerKind::kCall) {}

  template <class S>
  S* in() {
    return std::get_if<S>(&state);
  }
  template <class S>
  const S* in() const {
    return std::get_if<S>(&state);
  }
  bool nested() const { return depth > 0; }
  // For a worker.
  bool waits() const { return in<InLane>() || in<Head>() || in<BackingOff>(); }

  CallId id;
  State state;
  Traits traits;
  Priority priority = Priority::kNormal;
  Priority rank = Priority::kNormal;  // as a head: the highest priority in its lane
  bool ahead = false;                 // as a head: it, or one behind it in its lane, is nested
  Limit limit = Limit::kFunction;
  Effect effect_min = Effect::kNone;  // maybe: an attempt may have run; that never goes back
  bool probe = false;                 // it holds its breaker's half-open permit
  bool spoke = false;                 // items of its stream have passed: it runs no second time
  bool told = false;                  // its caller has heard at the deadline; the call runs on
  bool suspect = false;               // one like it may have killed a worker that ran several
  bool undecided = false;             // told, and its function's breaker has not heard of it yet
  // It runs alone in its worker, or with its batch; else beside others.
  bool alone = true;

  Function* function = nullptr;
  Session* session = nullptr;   // of its lane; null: stateless, or its session has ended
  RunQueue* queue = nullptr;    // the run queue it is in
  BatchGroup* group = nullptr;  // it waits with others of its batch; one of them is in the queue
  IdempotencyEntry* key = nullptr;

  WorkerId last_worker;
  CallId parent;               // whose code made it, while that runs; 0: it is not nested
  std::uint32_t depth = 0;     // calls above it in its chain
  std::uint32_t attempts = 0;  // dispatches
  std::uint32_t retries = 0;   // of those, after a started attempt had died
  std::uint64_t stamp = 0;     // order among heads
  std::uint64_t fingerprint = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t attachment_bytes = 0;
  std::uint64_t batch_print = 0;   // of its batch key and its attachments' kinds
  std::uint32_t batch = 0;         // calls in its last batch; 0: it was in none
  std::uint32_t batch_deaths = 0;  // of workers that ran it together with others
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;

  Time accepted;
  Time deadline;
  Time latest = Time::max();  // its deadline is not later: its parent's
  Time head_since;            // it became the head of its lane; queue delay counts from here
  Time dispatched;            // the last time
  std::uint64_t granted = 0;  // items of its stream that its caller takes beyond the first ones
  HeldUp held_up;             // since then; without a block that goes on (see Blocks)
  Duration caller_limit = Duration::max();
  Duration expected{0};  // as a waiting head: what a call of its function takes, by experience
  std::shared_ptr<const Death> last_death;  // of its last attempt's worker; shared with tombstones

  boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>> queue_hook;
  // In the lane, in the group, or among a key's followers.
  boost::intrusive::list_member_hook<> lane_hook;
  boost::intrusive::list_member_hook<> wait_hook;  // among all that wait
  boost::intrusive::list_member_hook<> run_hook;   // among those that its worker runs
};

using CallList = boost::intrusive::list<
    Call,
    boost::intrusive::member_hook<Call, boost::intrusive::list_member_hook<>, &Call::lane_hook>,
    boost::intrusive::constant_time_size<true>>;

// The calls that one worker runs, in the order in which it got them.
using RunningCalls = boost::intrusive::list<
    Call,
    boost::intrusive::member_hook<Call, boost::intrusive::list_member_hook<>, &Call::run_hook>,
    boost::intrusive::constant_time_size<true>>;

// The waiting calls of one session, oldest first, and the one that runs.
struct Lane {
  CallList waiting;
  Call* running = nullptr;
  std::uint32_t by_priority[3] = {};  // waiting ones
  std::uint32_t nested = 0;           // likewise
  // The session is another pool's: what the last call here hears instead of its answer.
  std::string taken_by;
  bool may_be_kept = false;  // its state, all the same

  bool empty() const { return waiting.empty() && !running; }
};

}  // namespace keelback::core
