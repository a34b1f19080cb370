// A call in flight. Records only: who decides what about them stands in the classes that hold them.
#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>

#include "base/id.h"
#include "base/time.h"
#include "core/event.h"
#include "core/ladder.h"
#include "core/timers.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::core {

struct Function;
struct IdempotencyEntry;
struct Session;
struct Worker;
class RunQueue;

enum class CallState : std::uint8_t {
  kWaiting,     // in its lane; as its head also in a run queue or parked at its function's bulkhead
  kBackingOff,  // waits for its retry; keeps the head of its lane
  kRunning,     // a worker has it
  kJoined,      // waits for the outcome of the call with the same idempotency key
  kSaving,      // answered; the answer waits until its session's state is stored
};

struct Call : Timer {
  Call() : Timer(TimerKind::kCall) {}

  CallId id;
  CallState state = CallState::kWaiting;
  Priority priority = Priority::kNormal;
  Priority rank = Priority::kNormal;  // as a head: the highest priority in its lane
  Rung rung = Rung::kNone;            // of the kill ladder, while it runs
  bool idempotent = false;            // may run twice
  bool asked_idempotent = false;      // the caller's part of that
  bool stream = false;                // the caller takes a stream
  bool fenced = false;                // its session may not move under it
  bool cancelled = false;             // the caller cancelled while it ran
  bool touched = false;               // an attempt may have run: its effect is never none again
  bool probe = false;                 // it holds its breaker's half-open permit
  bool own_limit = true;              // its deadline is its function's own, not its caller's
  bool went_idle = false;             // its stream fell silent for calls.stream_idle
  bool is_head = false;               // it stands for its lane (stateless: always)
  bool spoke = false;                 // items of its stream have passed: it runs no second time
  bool answered = false;              // it waits for its worker's death: see end_with_worker()
  bool told = false;                  // its caller has heard at the deadline; the call runs on
  ReplyKind reply{};                  // the answer, while it waits for that or for the store
  std::uint64_t reply_bytes = 0;

  Function* function = nullptr;
  Session* session = nullptr;  // of its lane; null: stateless, or its session has ended
  Worker* worker = nullptr;    // while running
  RunQueue* queue = nullptr;   // the run queue it is in
  IdempotencyEntry* key = nullptr;

  WorkerId last_worker;
  std::uint32_t attempts = 0;  // dispatches
  std::uint32_t retries = 0;   // of those, after a started attempt had died
  std::uint64_t stamp = 0;     // order among heads
  std::uint64_t fingerprint = 0;
  std::uint64_t attachment_bytes = 0;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;

  Time accepted;
  Time deadline;
  Time head_since;  // it became the head of its lane; queue delay counts from here
  Time dispatched;  // the last time
  Time climbed;     // the last rung of the ladder, really
  Time moved;       // its stream's last item, or when its worker was last allowed to send one
  std::uint64_t granted = 0;  // items of its stream that its caller takes beyond the first ones
  std::uint64_t credit = 0;   // of those and the first ones, still to come; see idle_due()
  Duration caller_limit = Duration::max();
  Duration expected{0};  // as a waiting head: what a call of its function takes, by experience
  std::shared_ptr<const Death> last_death;  // of its last attempt's worker; shared with tombstones

  boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>> queue_hook;
  boost::intrusive::list_member_hook<> lane_hook;  // in the lane, or among a key's followers
  boost::intrusive::list_member_hook<> wait_hook;  // among all that wait
};

using CallList = boost::intrusive::list<
    Call,
    boost::intrusive::member_hook<Call, boost::intrusive::list_member_hook<>, &Call::lane_hook>,
    boost::intrusive::constant_time_size<true>>;

// The waiting calls of one session, oldest first, and the one that runs.
struct Lane {
  CallList waiting;
  Call* running = nullptr;
  std::uint32_t by_priority[3] = {};  // waiting ones

  bool empty() const { return waiting.empty() && !running; }
};

}  // namespace keelback::core
