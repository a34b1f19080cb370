#include "host/loop_watch.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "os/process.h"
#include "wire/messages.h"
#include "wire/process.h"

namespace keelback::host {
namespace {

using namespace std::chrono_literals;

// From so long on a call that blocks its worker's loop excuses others, whatever is warned of.
constexpr Duration kNoticed = 100ms;
// Between two looks, and while a turn of the loop is longer than usual.
constexpr Duration kLookMin = 5ms, kLookMax = 50ms, kCloserMax = 25ms;
constexpr Duration kLongTurn = 5ms;
// The timer goes on for so long after the last shared call: more of them may come.
constexpr Duration kLinger = 1s;
// A stack is there in a few milliseconds, or not before the call is over.
constexpr Duration kStackLook = 5ms;
constexpr int kStackLooks = 40;

// Tells the tokens of our PINGs from those of the ladder, which are calls.
constexpr std::uint64_t kTurnToken = std::uint64_t{1} << 63;

std::uint64_t token_of(Time turn) {
  return kTurnToken | static_cast<std::uint64_t>(turn.time_since_epoch().count());
}

Time as_time(std::uint64_t nanoseconds) {
  return Time{Duration{static_cast<Duration::rep>(nanoseconds)}};
}

// It catches the signal; one that does not would be ended by it.
bool writes_stacks(const WorkerProcess& worker) {
  const auto caught = os::read_status_number(worker.pid, "SigCgt:", 16);
  return caught && (*caught >> (wire::kStackSignal - 1) & 1) != 0;
}

// A line of a stack that belongs to the runtime of Python's side, or to asyncio's own.
bool is_runtime(std::string_view line) {
  constexpr std::string_view kFiles[] = {"/keelback/sharing.py\"", "/keelback/streams.py\"",
                                         "/keelback/turns.py\"", "/asyncio/events.py\""};
  return std::ranges::any_of(
      kFiles, [&](std::string_view file) { return line.find(file) != std::string_view::npos; });
}

// Without what lies below the application's code.
std::string of_call(std::string_view stack) {
  std::size_t end = stack.find('\n') + 1;  // its title
  for (bool application = false; end < stack.size();) {
    const std::size_t next = std::min(stack.find('\n', end), stack.size() - 1) + 1;
    const bool runtime = is_runtime(stack.substr(end, next - end));
    if (runtime && application) break;
    application |= !runtime;
    end = next;
  }
  return std::string(stack.substr(0, end));
}

}  // namespace

struct LoopWatch::Sight {
  WorkerPtr worker;
  bool shares = false;  // it runs shared calls
  Time turn;
  CallId call;           // whose code the loop's thread runs, by the rows
  bool threads = false;  // calls that have a thread run
};

struct LoopWatch::Limits {
  Duration warn;     // 0: never
  Duration noticed;  // by the core
  Duration every;    // between two looks
  Duration closer;   // … at a long turn
};

LoopWatch::Limits LoopWatch::limits() const {
  Limits limits{};
  limits.warn = roster_.settings.workers.loop_lag_warn;
  limits.noticed = limits.warn == Duration{0} ? kNoticed : std::min(limits.warn, kNoticed);
  limits.every = std::clamp(limits.noticed / 2, kLookMin, kLookMax);
  limits.closer = std::clamp(limits.noticed / 4, kLookMin, kCloserMax);
  return limits;
}

void LoopWatch::begin() {
  busy_at_ = engine_.now();
  sample_at_ = busy_at_ + limits().every;
  planned_ = Duration{0};
  look();
}

void LoopWatch::arm(Duration wait) {
  planned_ = wait;
  timer_.expires_after(wait);
  timer_.async_wait(engine_.guard([this](const boost::system::error_code& error) {
    if (!error) look();
  }));
}

void LoopWatch::look() {
  const Time now = engine_.now();
  std::vector<Sight> sights;
  bool shares = false;
  {
    const Locked locked(engine_.lock);
    for (const auto& [id, worker] : roster_.workers) {
      Sight sight{worker, worker->shares(), as_time(worker->marks.turn()), {}, false};
      if (!sight.shares && worker->loop.told == Duration{0}) continue;
      const std::uint64_t thread = worker->marks.loop_thread();
      worker->shared.each([&](std::uint16_t row, CallId call) {
        const std::uint64_t its = worker->marks.thread(row);
        if (its == 0) return;
        if (its == thread) sight.call = call;
        if (its != thread) sight.threads = true;
      });
      shares |= sight.shares;
      sights.push_back(std::move(sight));
    }
    if (shares) busy_at_ = now;
    if (now - busy_at_ >= kLinger) {
      roster_.loops_watched = false;
      return;
    }
  }
  const Limits limits = this->limits();
  Duration next = limits.every;
  for (const Sight& sight : sights) next = std::min(next, look_at(sight, limits));
  if (now >= sample_at_) sample_at_ = now + limits.every;
  arm(std::max<Duration>(next, 1ms));
}

Duration LoopWatch::look_at(const Sight& sight, const Limits& limits) {
  WorkerProcess& worker = *sight.worker;
  LoopRecord& record = worker.loop;
  const Time now = engine_.now();
  const bool long_turn = sight.turn != Time{} && now - sight.turn >= kLongTurn;
  TurnWatch::Look look{.now = now, .planned = planned_, .turn = sight.turn, .call = sight.call};
  look.use = os::read_processor_use(worker.pid).value_or(os::ProcessorUse{});
  if (long_turn) {
    const auto stat = os::read_stat(worker.pid);
    if (stat) look.state = stat->state;
  }
  const TurnWatch::Seen seen = record.turns.look(look);
  if (sight.shares && now >= sample_at_) {
    const Locked locked(engine_.lock);
    lag_.observe(seen.lag);
  }
  if (record.told > Duration{0} && record.told_turn != sight.turn) {
    record.told = Duration{0};
    engine_.feed(core::LoopTurned{worker.id});
  }
  if (!long_turn || !sight.shares) return limits.every;
  if (seen.lag >= limits.noticed / 2 && record.asked != sight.turn && worker.control) {
    record.asked = sight.turn;
    std::string frame;
    wire::append_ping(frame, token_of(sight.turn), wire::kFlagWho);
    static_cast<void>(worker.control->send(std::move(frame)));
  }
  // One of many that have their turn at once does not block the loop.
  const bool one = seen.steady >= limits.noticed / 2;
  const Duration due = record.told == Duration{0} ? limits.noticed : limits.warn;
  if (record.told < due && seen.lag >= due && (one || seen.lag >= 3 * due)) {
    record.told = seen.lag;
    record.told_turn = sight.turn;
    const bool answered = record.answer == token_of(sight.turn);
    CallId by = sight.call;
    if (answered && !by) by = record.runs;
    // Nobody else's Python code runs: the loop's thread holds the GIL, or waits for it.
    if (!answered && !seen.runs && sight.threads) by = CallId{};
    engine_.feed(core::LoopBlocked{worker.id, one ? by : CallId{}, sight.turn, seen.lag});
  }
  return seen.lag < due ? std::min(limits.closer, due - seen.lag) : limits.closer;
}

bool LoopWatch::heard(WorkerProcess& worker, std::uint64_t token, CallId running) {
  if ((token & kTurnToken) == 0) return false;
  worker.loop.answer = token;
  worker.loop.runs = running;
  return true;
}

// ---- the stack

struct LoopWatch::Stack {
  core::Notice::Level level;
  std::string text;
  WorkerPtr worker;
  Time turn;  // the stack is of this one
  std::string seen;
  int looks = 0;
  std::unique_ptr<boost::asio::steady_timer> timer;
};

void LoopWatch::log_with_stack(const core::Notice& notice) {
  WorkerPtr worker;
  {
    const Locked locked(engine_.lock);
    worker = roster_.find(notice.stack_of);
  }
  const bool there = worker != nullptr && !worker->loop.stack_wanted && worker->pidfd &&
                     as_time(worker->marks.turn()) == worker->loop.told_turn &&
                     writes_stacks(*worker);
  if (!there) return engine_.log(notice.level, notice.text);
  worker->loop.stack_wanted = true;
  worker->marks.expect_stack();
  // The loop's thread is the main thread, which has the number of its process.
  static_cast<void>(os::signal_thread(worker->pid, worker->pid, wire::kStackSignal));
  const Time turn = worker->loop.told_turn;
  await({notice.level,
         notice.text,
         std::move(worker),
         turn,
         {},
         0,
         std::make_unique<boost::asio::steady_timer>(engine_.context())});
}

// It is there when it grows no more. If the turn is over by then, it may be of another one.
void LoopWatch::await(Stack stack) {
  boost::asio::steady_timer& timer = *stack.timer;
  timer.expires_after(kStackLook);
  timer.async_wait(engine_.guard(
      [this, stack = std::move(stack)](const boost::system::error_code& error) mutable {
        if (error) return;
        std::string now = stack.worker->marks.stack();
        const bool in_time = as_time(stack.worker->marks.turn()) == stack.turn;
        const bool whole = !now.empty() && now == stack.seen;
        if (in_time && !whole && ++stack.looks < kStackLooks) {
          stack.seen = std::move(now);
          return await(std::move(stack));
        }
        stack.worker->loop.stack_wanted = false;
        if (in_time && whole) stack.text += "\n" + of_call(now);
        engine_.log(stack.level, stack.text);
      }));
}

}  // namespace keelback::host
