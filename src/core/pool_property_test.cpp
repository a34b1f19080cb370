// Random events through a legal driver: whatever happens, the promises hold. The pool's own
// invariants are checked after each event; ModelDriver holds the pool to the seam's contract.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <csignal>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/prng.h"
#include "core/pool.h"
#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// A failed CHECK aborts before rapidcheck can shrink: at least show what led there.
const ModelDriver* g_driver = nullptr;
void show_log(int) {
  if (!g_driver) return;
  const auto& log = g_driver->log;
  for (std::size_t i = log.size() > 60 ? log.size() - 60 : 0; i < log.size(); ++i) {
    std::fprintf(stderr, "  %s\n", log[i].c_str());
  }
}

struct Step {
  std::uint8_t what = 0;
  std::uint32_t a = 0;
  std::uint32_t b = 0;
};
std::ostream& operator<<(std::ostream& out, const Step& step) {
  return out << "{" << int{step.what} << ", " << step.a << ", " << step.b << "}";
}

Settings small(std::uint32_t variant) {
  Settings s;
  s.pool.workers = 1 + variant % 4;
  s.pool.queue_max = 4 + variant % 9;
  s.calls.deadline = 2s;
  s.calls.grace = 400ms;
  s.calls.retries = 2;
  s.calls.answer_at = static_cast<AnswerAt>(variant / 3 % 2);
  s.calls.after_interrupt = static_cast<AfterInterrupt>(variant / 13 % 3);
  s.sessions.idle_ttl = variant % 3 == 0 ? 300ms : 5s;
  s.sessions.max_age = variant % 5 == 0 ? 1s : 1h;
  s.sessions.max = 5;
  s.sessions.queue_max = 4;
  s.sessions.tombstone_ttl = 3s;
  s.workers.start_timeout = 3s;
  s.workers.drain_timeout = 700ms;
  s.workers.max_calls = variant % 7 == 0 ? 5 : 0;
  s.workers.max_age = variant % 11 == 0 ? Duration(900ms) : Duration(0);
  s.breaker.failures = variant % 2 == 0 ? 3 : 0;
  s.breaker.open_for = 500ms;
  s.workers.health_every = variant % 8 == 0 ? Duration(0) : Duration(200ms);
  s.calls.idempotency_ttl = 1s;
  s.workers.concurrency = variant % 9 == 0 ? 1 + variant % 3 : 0;
  s.sessions.snapshot = static_cast<SnapshotMode>(variant / 2 % 3);
  if (variant / 5 % 3 == 1) {
    s.pool.workers = variant % 3;
    s.pool.workers_max = s.pool.workers + 1 + variant % 5;
    s.pool.scale_up_delay = variant % 7 * 5ms;
    s.pool.scale_down_after = variant % 4 * 150ms;
  }
  return s;
}

// Interprets steps as legal events: what a step cannot do now, it does not do.
class Player {
 public:
  Player(std::uint32_t variant, std::uint64_t seed)
      : settings_(small(variant)), driver(settings_, seed) {
    driver.grace_max = 400ms;
    driver.store.answers_at_once = variant % 5 == 1;
    driver.health = variant % 2 == 0;
    g_driver = &driver;
    std::signal(SIGABRT, show_log);
    if (variant % 6 == 0) driver.handle(StartModeChanged{true, 1 + variant % 2});
  }

  ~Player() { g_driver = nullptr; }

  void play(const Step& s) {
    switch (s.what % 25) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        return submit(s);
      case 6:
      case 7:
      case 8:
      case 9:
      case 10:
        return reply(s);
      case 11:
      case 12:
        return ready(s);
      case 13:
        return die(s);
      case 14:
        return cancel(s);
      case 15:
      case 16:
        return driver.advance(Duration(std::uint64_t{s.a % 500} * 1'000'000));
      case 17:
        return driver.announce(functions(s));
      case 18:
        return configure(s);
      case 19:
        return s.a / 8 % 4 == 0 ? driver.handle(SessionTaken{session(s), 0, "it was taken"})
                                : driver.handle(SessionEnded{session(s)});
      case 20:
        return driver.handle(RecycleRequested{1 + s.a % 4});
      case 21:
        return s.a % 4 == 0 ? driver.handle(ReloadRequested{}) : late(s);
      case 22:
        return s.a % 16 == 0 ? driver.handle(DrainRequested{Duration(s.b % 2'000'000'000)})
                             : late(s);
      case 23:
        if (const auto all = driver.with(true); s.b % 2 == 0 && !all.empty()) {
          return loop(all[s.a % all.size()], s);
        }
        return check(s);
      default:
        if (!driver.store.asked.empty()) return driver.settle(s.b % 8 != 0);
        return driver.advance(Duration(s.a % 2000));
    }
  }
  // The pool wants as many workers as it may, and knows why.
  void look() {
    const PoolStats stats = driver.pool.stats(driver.now);
    const auto& pool = driver.pool.config().pool;
    const bool fits =
        stats.scaling.wanted >= pool.workers && stats.scaling.wanted <= pool.size_max();
    if (!fits || stats.scaling.why.empty()) {
      driver.wrongs.push_back("it wants " + std::to_string(stats.scaling.wanted) + ": " +
                              stats.scaling.why);
    }
  }
  // No more trouble: everything that was accepted ends, and every worker that was started.
  void finish() {
    driver.store.answers_at_once = true;
    driver.handle(DrainRequested{1s});
    for (int i = 0; i < 100 && !driver.drained; ++i) {
      for (const WorkerId worker : driver.living()) {
        const ModelWorker& w = driver.workers.at(worker);
        if (w.killed || w.stopping) driver.exit(worker, true);
      }
      driver.advance(100ms);
    }
  }

 private:
  static std::vector<FunctionSpec> functions(const Step& s) {
    std::vector<FunctionSpec> all(7);
    all[0].name = "f";
    all[1] = {
        .name = "idem", .idempotent = true, .stream = false, .timeout = 300ms, .max_workers = 0};
    all[2] = {.name = "one", .idempotent = false, .stream = false, .timeout = {}, .max_workers = 1};
    all[3] = {.name = "many", .max_workers = s.a / 10 % 3, .concurrency = 2 + s.a % 3};
    all[4] = {.name = "both", .idempotent = true, .timeout = 400ms, .concurrency = 8};
    if (s.a % 7 == 0) all[4].concurrency = 1;
    all[5] = {.name = "batch", .max_workers = s.a / 30 % 3, .batch = 2 + s.a % 5};
    all[6] = {.name = "patient", .idempotent = true, .batch = 4};
    all[6].batch_wait = Duration(std::uint64_t{s.a / 90 % 4} * 50'000'000);
    if (s.a % 11 == 0) all[6].batch = 0;
    if (s.a % 5 == 0) all.erase(all.begin() + 2);
    return all;
  }
  static std::string_view session(const Step& s) {
    constexpr std::string_view kIds[] = {"", "", "ann", "bob", "cyd", "dan", "eve", "fay"};
    return kIds[s.a % 8];
  }
  // The loop turns, or one of the worker's calls, another one or nobody known blocks it.
  void loop(WorkerId worker, const Step& s) {
    if (s.b / 2 % 2 == 0) return driver.handle(LoopTurned{worker});
    const auto& runs = driver.workers.at(worker).calls;
    LoopBlocked event{.worker = worker, .by = CallId{s.a / 8 % 50}};
    if (!runs.empty() && s.a % 4 != 0) event.by = CallId{runs.begin()->first};
    event.lag = Duration(std::uint64_t{s.b / 4 % 300} * 1'000'000);
    event.since = driver.now - event.lag;
    driver.handle(event);
  }
  void submit(const Step& s) {
    constexpr std::string_view kNames[] = {"f",    "idem",  "one",     "many",
                                           "both", "batch", "patient", "nosuch"};
    const std::uint32_t name = s.b % 16 == 0 ? 7 : s.b % 7;
    constexpr std::string_view kKeys[] = {"k1", "k2", "k3"};
    const bool batch = name == 5 || name == 6;
    CallSubmitted call =
        driver.request(kNames[name], batch && s.b % 8 != 0 ? std::string_view{} : session(s));
    if (batch && s.b / 50 % 3 == 0) call.batch_key = s.b / 150 % 2 == 0 ? "tenant 1" : "tenant 2";
    if (batch && s.b / 300 % 16 == 0) call.payload_bytes = 12U << 20;
    call.priority = static_cast<Priority>(s.b / 3 % 3);
    if (s.b / 9 % 3 != 0) call.affinity = static_cast<Affinity>(s.b / 9 % 3);
    if (s.a / 8 % 8 == 0) call.open = static_cast<SessionOpen>(s.b % 3);
    if (s.a / 8 % 8 == 1) call.fence = Fence{0, 1 + s.b % 2};
    call.deadline = Duration(std::uint64_t{s.a / 64 % 1500} * 1'000'000);
    // Equal ones are of one function and one session.
    call.fingerprint = 1 + s.a % 8 + 8 * name;
    if (s.a % 8 < 2) call.fingerprint = 1000 + name;  // "" twice over: one stateless caller
    if (call.session.empty()) call.fingerprint += 2000;
    call.idempotent = s.b / 27 % 4 == 0;
    if (s.b / 108 % 4 == 0) call.idempotency_key = kKeys[s.b / 432 % 3];
    const std::uint32_t burst = s.a / 512 % 8 == 0 ? 8 : 1;
    for (std::uint32_t i = 0; i < burst; ++i) driver.submit(call);
  }
  std::vector<CallId> running() const {
    std::vector<CallId> found;
    for (const auto& [id, call] : driver.calls) {
      if (call.worker) found.push_back(CallId{id});
    }
    return found;
  }
  void reply(const Step& s) {
    const auto calls = running();
    if (calls.empty()) return ready(s);
    const CallId call = calls[s.a % calls.size()];
    if (driver.calls.at(call.value).restores && s.b / 3 % 4 == 0) {
      return driver.fail_restore(call, s.b / 12 % 2 == 0);
    }
    const auto kind = s.b % 4 == 0 ? static_cast<ReplyKind>(s.b / 4 % 5) : ReplyKind::kOk;
    if (kind == ReplyKind::kCancelled && s.b / 20 % 2 == 0) return driver.refuse(call, kind);
    driver.reply(call, kind, s.b / 20 % 8 != 0, s.b / 160 % 8 != 0, s.b / 1280 % 4 == 0,
                 s.b / 5120 % 16 == 0 ? "it has had enough" : "");
    // A store has a moment of its own; it is not asked much later than others are.
    while (driver.store.asked.size() > s.b % 3) driver.settle(s.b / 7 % 8 != 0);
  }
  void ready(const Step& s) {
    const auto starting = driver.with(false);
    if (starting.empty()) return;
    const WorkerId worker = starting[s.a % starting.size()];
    s.b % 8 == 0 ? driver.fail_start(worker) : driver.ready(worker);
  }
  // Most checks end at once; some are late first.
  void check(const Step& s) {
    std::vector<WorkerId> asked;
    for (const WorkerId worker : driver.living()) {
      const ModelWorker& w = driver.workers.at(worker);
      if (w.checking && !w.killed) asked.push_back(worker);
    }
    if (asked.empty()) return driver.advance(Duration(s.a % 2000));
    driver.checked(asked[s.a % asked.size()], s.b % 3 == 0, s.b / 3 % 4 != 0);
  }
  void die(const Step& s) {
    const auto calls = running();
    if (s.b % 3 == 0 && !calls.empty()) {
      return driver.exit(driver.worker_of(calls[s.a % calls.size()]), true);
    }
    const auto all = driver.living();
    if (all.empty()) return;
    const WorkerId worker = all[s.a % all.size()];
    std::set<std::uint64_t> started;  // some of its calls
    for (const auto& [id, when] : driver.workers.at(worker).calls) {
      if ((s.b >> id % 16) % 2 == 0) started.insert(id);
    }
    // Of those, of others or of nobody.
    driver.exit_with(worker, started, "signal", CallId{s.b % 4 == 0 ? s.a / 4 % 50 : 0});
  }
  void cancel(const Step& s) {
    if (!driver.calls.empty()) driver.handle(CallCancelled{CallId{1 + s.a % driver.calls.size()}});
  }
  // Events of workers and calls that are long gone change nothing that matters.
  void late(const Step& s) {
    const WorkerId nobody{1 + s.a % 4, 100'000 + s.b % 100};
    driver.handle(WorkerReady{nobody});
    driver.handle(WorkerReplied{nobody, CallId{1 + s.a}, ReplyKind::kOk, true});
    driver.handle(WorkerExited{nobody, {}, {{CallId{1 + s.b}}}});
    driver.handle(StreamMoved{nobody, CallId{1 + s.a}});
    driver.handle(SessionSaved{nobody, session(s), s.b, true, ""});
    driver.handle(SnapshotSettled{
        .worker = nobody, .call = CallId{1 + s.a}, .session = "ann", .number = 1'000'000});
    driver.handle(RestoreFailed{nobody, CallId{1 + s.a}, true});
    if (s.b % 5 == 0) driver.handle(LoadFailed{{.cause = "start_failed", .step = "hello"}});
  }
  void configure(const Step& s) {
    Settings changed = small(s.a);
    changed.calls.grace = settings_.calls.grace;
    driver.configure(changed);
  }
  Settings settings_;

 public:
  ModelDriver driver;
};

rc::Gen<std::vector<Step>> steps() {
  return rc::gen::scale(
      4.0, rc::gen::container<std::vector<Step>>(rc::gen::build<Step>(
               rc::gen::set(&Step::what, rc::gen::arbitrary<std::uint8_t>()),
               rc::gen::set(&Step::a, rc::gen::inRange<std::uint32_t>(0, 1'000'000)),
               rc::gen::set(&Step::b, rc::gen::inRange<std::uint32_t>(0, 1'000'000)))));
}

std::string join(const std::vector<std::string>& lines) {
  std::string all;
  for (const auto& line : lines) all += line + "\n";
  return all;
}

// Goal: exactly one outcome each, accepted = in flight + outcomes, order and homes of sessions, no
// dispatch to a worker that is not ready, every worker ends, no call outlives deadline + grace.
RC_GTEST_PROP(PoolProperty, WhateverHappensThePromisesHold, ()) {
  const auto variant = *rc::gen::inRange<std::uint32_t>(0, 1000);
  const auto plan = *steps();
  set_unexpected_fatal(true);
  Player player(variant, variant);
  for (const Step& step : plan) {
    player.play(step);
    player.look();
    if (!player.driver.wrongs.empty()) break;
  }
  if (player.driver.wrongs.empty()) player.finish();
  std::uint64_t open = 0;
  for (const auto& [id, call] : player.driver.calls) open += !call.resolved;
  const std::string wrongs = join(std::exchange(player.driver.wrongs, {}));
  if (!wrongs.empty()) RC_LOG() << wrongs << join(player.driver.log);
  RC_ASSERT(wrongs.empty());
  RC_ASSERT(open == 0u);
  RC_ASSERT(player.driver.drained);
  RC_ASSERT(player.driver.pool.stats(player.driver.now).in_flight == 0u);
  RC_ASSERT(player.driver.pool.stats(player.driver.now).late == 0u);
}

// Goal: the same seed and the same events give the same actions, to the letter.
RC_GTEST_PROP(PoolProperty, ASeedIsAReplay, ()) {
  const auto variant = *rc::gen::inRange<std::uint32_t>(0, 1000);
  const auto plan = *steps();
  Player one(variant, 7), two(variant, 7);
  for (const Step& step : plan) {
    one.play(step);
    two.play(step);
  }
  RC_ASSERT(one.driver.log == two.driver.log);
  one.driver.wrongs.clear();
  two.driver.wrongs.clear();
}

// Goal: the generator is worth its name: long runs meet every outcome and every action the pool
// knows, and the promises hold through them.
TEST(PoolProperty, LongRunsReachEverything) {
  set_unexpected_fatal(true);
  std::set<OutcomeKind> kinds;
  std::set<std::string> words;
  std::uint64_t batches[BatchSizes::kBounds] = {};
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Prng prng(seed);
    Player player(static_cast<std::uint32_t>(seed), seed);
    for (int i = 0; i < 400 && player.driver.wrongs.empty(); ++i) {
      Step step{static_cast<std::uint8_t>(prng.next()), 0, 0};
      step.a = static_cast<std::uint32_t>(prng.below(1'000'000));
      step.b = static_cast<std::uint32_t>(prng.below(1'000'000));
      if (step.what % 25 == 22) step.a |= 1;  // no early drain
      player.play(step);
    }
    player.finish();
    ASSERT_TRUE(player.driver.wrongs.empty()) << "seed " << seed << "\n" << join(player.driver.log);
    ASSERT_TRUE(player.driver.drained) << "seed " << seed;
    for (const auto& [id, call] : player.driver.calls) {
      ASSERT_TRUE(call.resolved) << "seed " << seed << " r" << id;
      kinds.insert(call.outcome.kind);
    }
    for (const std::string& line : player.driver.log) words.insert(line.substr(0, line.find(' ')));
    for (const FunctionBatches& each : player.driver.pool.stats(player.driver.now).batches) {
      for (std::size_t i = 0; i < BatchSizes::kBounds; ++i) batches[i] += each.sizes.counts[i];
    }
  }
  for (int kind = 0; kind < kOutcomeKinds; ++kind) {
    const auto which = static_cast<OutcomeKind>(kind);
    if (which == OutcomeKind::kTooLarge) continue;  // a size, not a state
    EXPECT_TRUE(kinds.contains(which)) << "never seen: " << to_string(which);
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_GT(batches[i], 20u) << "batches of up to " << (1 << i);
  for (const char* word : {"dispatch", "resolve", "tell", "replay", "forget", "cancel", "interrupt",
                           "dump", "kill", "start", "stop", "abandon", "end-session", "drained",
                           "notice", "save", "keep", "drop-snapshot"}) {
    EXPECT_TRUE(words.contains(word)) << "never seen: " << word;
  }
}

}  // namespace
}  // namespace keelback::core
