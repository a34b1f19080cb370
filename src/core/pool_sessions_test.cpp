// Sessions, as callers meet them: opened, fenced, refused, moved, expired, lost, ended.
#include <gtest/gtest.h>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

CallSubmitted with(ModelDriver& driver, std::string_view session, Affinity affinity) {
  CallSubmitted call = driver.request("f", session);
  call.affinity = affinity;
  return call;
}

std::uint64_t birth_of(ModelDriver& driver, std::string_view session) {
  for (const auto& item : driver.pool.sessions(driver.now, "", 100).items) {
    if (item.id == session) return item.birth;
  }
  return 0;
}

// Goal: a session is bound before its first dispatch leaves, so two first calls cannot split, even
// when the pool is cold.
TEST(PoolSessions, TwoFirstCallsCannotSplit) {
  ModelDriver driver(pool_of(2));
  const CallId first = driver.submit("f", "ann"), second = driver.submit("f", "ann");
  driver.warm_up();
  EXPECT_EQ(driver.fate(first), "running");
  EXPECT_EQ(driver.fate(second), "waiting") << "one at a time, on one worker";
  const WorkerId home = driver.worker_of(first);
  driver.reply(first);
  EXPECT_EQ(driver.worker_of(second), home);
  EXPECT_EQ(driver.count("dispatch r1 " + to_text(home) + " session=ann@1 opens"), 1u);
  EXPECT_EQ(driver.count("dispatch r2 " + to_text(home) + " session=ann@1"), 1u);
}

// Goal: the opening modes say what is there: new refuses an open session, existing an unknown one.
TEST(PoolSessions, NewAndExistingSayWhatIsThere) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  CallSubmitted call = driver.request("f", "ann");
  call.open = SessionOpen::kExisting;
  EXPECT_EQ(driver.fate(driver.submit(call)), "bad_request");
  call.open = SessionOpen::kNew;
  driver.reply(driver.submit(call));
  EXPECT_EQ(driver.fate(driver.submit(call)), "bad_request");
  call.open = SessionOpen::kExisting;
  EXPECT_EQ(driver.fate(driver.submit(call)), "running");
}

// Goal: a fence holds the caller to the birth and epoch it knows.
TEST(PoolSessions, AFenceOfAnotherEpochIsStale) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  const std::uint64_t birth = birth_of(driver, "ann");
  const auto fenced = [&](std::string_view session, Fence fence) {
    CallSubmitted call = driver.request("f", session);
    call.fence = fence;
    const CallId id = driver.submit(call);
    const std::string fate = driver.fate(id);
    if (fate == "running") driver.reply(id);
    return fate;
  };
  EXPECT_EQ(fenced("ann", {birth, 1}), "running");
  EXPECT_EQ(fenced("ann", {0, 1}), "running") << "the epoch alone";
  EXPECT_EQ(fenced("ann", {0, 2}), "stale_epoch");
  EXPECT_EQ(fenced("ann", {birth + 1, 1}), "stale_epoch");
  EXPECT_EQ(fenced("bob", {0, 1}), "stale_epoch") << "not open at all";
}

// Goal: fail-fast refuses while its worker is busy, with its own call or another's.
TEST(PoolSessions, FailFastIsBusyWhileItsWorkerIs) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.reply(driver.submit(with(driver, "ann", Affinity::kStrictFailFast)));
  const CallId stranger = driver.submit();
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "session_busy") << "the mode stays";
  driver.reply(stranger);
  const CallId own = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(own), "running");
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "session_busy");
}

// Goal: a hint session moves only when its home is busy; its epoch says so and the old home is
// told.
TEST(PoolSessions, AHintSessionMovesAndSaysSo) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  driver.reply(driver.submit(with(driver, "ann", Affinity::kHint)));
  const CallId stays = driver.submit("f", "ann");
  const WorkerId home = driver.worker_of(stays);
  driver.reply(stays);
  EXPECT_EQ(driver.outcome(stays).epoch, 1u);
  std::vector<CallId> strangers;  // until one of them occupies the home
  while (strangers.empty() || driver.worker_of(strangers.back()) != home) {
    strangers.push_back(driver.submit());
  }
  for (const CallId call : strangers) {
    if (driver.worker_of(call) != home) driver.reply(call);
  }
  driver.take();
  const CallId moved = driver.submit("f", "ann");
  EXPECT_NE(driver.worker_of(moved), home);
  const Lines lines = driver.take();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], "end-session ann " + to_text(home) + " moved");
  EXPECT_TRUE(lines[1].ends_with("session=ann@2 opens"));
  driver.reply(moved);
  EXPECT_EQ(driver.outcome(moved).epoch, 2u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.moved, 1u);
}

// Goal: from a home that is being killed nothing moves: what waits is lost with it, not split off.
TEST(PoolSessions, NothingMovesAwayFromADyingHome) {
  Settings settings = pool_of(2);
  settings.calls.grace = 1s;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit(with(driver, "ann", Affinity::kHint)));
  const WorkerId home = driver.pool.sessions(driver.now, "", 1).items[0].worker;
  CallSubmitted brief = driver.request();
  brief.deadline = 100ms;
  const CallId a = driver.submit(brief), b = driver.submit(brief);  // both workers are busy
  const CallId doomed = driver.submit("f", "ann");
  driver.advance(100ms + 900ms);
  ASSERT_EQ(driver.count("kill " + to_text(home)), 1u);
  // The other worker is killed too; a third one comes up while the home is still dying.
  const WorkerId other = driver.worker_of(driver.worker_of(a) == home ? b : a);
  driver.exit(other, true, "killed");
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  EXPECT_EQ(driver.fate(doomed), "waiting");
  driver.exit(home, true, "killed");
  EXPECT_EQ(driver.fate(doomed), "session_lost");
}

// Goal: a call that never ran opened nothing: the next one in the lane still opens the session.
TEST(PoolSessions, ARefusedFirstCallOpensNothing) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId wrong = driver.submit("f", "ann"), right = driver.submit("f", "ann");
  driver.reply(wrong, ReplyKind::kBadRequest);
  EXPECT_EQ(driver.count("dispatch r2 w1.1 session=ann@1 opens"), 1u);
  driver.reply(right, ReplyKind::kBadRequest);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.active, 0u) << "nothing ever ran in it";
  EXPECT_EQ(driver.count("end-session"), 0u);
}

// Goal: an expiry that could be seen is final for every session, however many there are and
// however late the sweep: raising the ttl brings none of them back.
TEST(PoolSessions, RaisingTheTtlBringsNobodyBack) {
  Settings settings = pool_of(1);
  settings.sessions.idle_ttl = 1s;
  ModelDriver driver(settings);
  driver.warm_up();
  for (int i = 0; i < 300; ++i) driver.reply(driver.submit("f", "s" + std::to_string(i)));
  driver.now += 1s;  // no Tick
  settings.sessions.idle_ttl = 1h;
  driver.configure(settings);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.active, 0u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.expired, 300u);
}

// Goal: the table is bounded: one past the maximum is refused, and nobody is evicted for it.
TEST(PoolSessions, AFullTableRefusesTheNewcomer) {
  Settings settings = pool_of(1);
  settings.sessions.max = 2;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.reply(driver.submit("f", "bob"));
  const CallId refused = driver.submit("f", "cyd");
  EXPECT_EQ(driver.fate(refused), "session_limit");
  EXPECT_TRUE(driver.outcome(refused).retry_after);
  driver.reply(driver.submit("f", "ann"));
  settings.sessions.max = 3;
  driver.configure(settings);
  EXPECT_EQ(driver.fate(driver.submit("f", "cyd")), "running") << "live";
}

// Goal: one lane is bounded by sessions.queue_max and takes nothing from the others.
TEST(PoolSessions, ALaneIsBounded) {
  Settings settings = pool_of(1);
  settings.sessions.queue_max = 2;
  ModelDriver driver(settings);
  driver.warm_up();
  for (int i = 0; i < 3; ++i) driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "overloaded");
  EXPECT_EQ(driver.fate(driver.submit("f", "bob")), "waiting");
}

// Goal: what dies with a worker is told: the running call by its death, the waiting ones and the
// next one by session_lost with the reason; then the session opens anew under a new birth.
TEST(PoolSessions, ALossIsToldToEachWaitingCallAndOnceAfter) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  const std::uint64_t birth = birth_of(driver, "ann");
  const CallId running = driver.submit("f", "ann"), waiting = driver.submit("f", "ann");
  driver.exit(driver.worker_of(running));
  EXPECT_EQ(driver.fate(running), "worker_died");
  EXPECT_EQ(driver.fate(waiting), "session_lost");
  EXPECT_EQ(driver.outcome(waiting).effect, Effect::kNone);
  EXPECT_EQ(driver.outcome(waiting).death->signal, 9);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 1u);
  const CallId told = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(told), "session_lost");
  EXPECT_EQ(driver.outcome(told).death->signal, 9);
  const CallId again = driver.submit("f", "ann");
  driver.warm_up();
  driver.reply(again);
  EXPECT_EQ(driver.outcome(again).epoch, 1u);
  EXPECT_NE(driver.outcome(again).birth, birth);
}

// Goal: an opening call that never started lost nothing: its session opens elsewhere, silently.
TEST(PoolSessions, AnOpeningThatNeverStartedOpensElsewhere) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  const CallId first = driver.submit("f", "ann"), second = driver.submit("f", "ann");
  const WorkerId home = driver.worker_of(first);
  driver.exit(home, /*started=*/false);
  EXPECT_EQ(driver.fate(first), "running");
  EXPECT_NE(driver.worker_of(first), home);
  driver.reply(first);
  driver.reply(second);
  EXPECT_EQ(driver.outcome(first).attempts, 2u);
  EXPECT_EQ(driver.fate(second), "ok");
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 0u);
}

// Goal: with state behind it, a call that had not started when its worker died is session_lost.
TEST(PoolSessions, NotStartedWithStateIsSessionLost) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  const CallId call = driver.submit("f", "ann");
  driver.exit(driver.worker_of(call), /*started=*/false);
  EXPECT_EQ(driver.fate(call), "session_lost");
  EXPECT_EQ(driver.outcome(call).effect, Effect::kNone);
}

// Goal: at max_age waiting calls are told, the running one finishes, and the worker hears of it.
TEST(PoolSessions, MaxAgeLetsTheRunningCallFinish) {
  Settings settings = pool_of(1);
  settings.sessions.max_age = 1s;
  settings.calls.deadline = 10s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId running = driver.submit("f", "ann"), waiting = driver.submit("f", "ann");
  driver.advance(1s);
  EXPECT_EQ(driver.fate(waiting), "session_expired");
  EXPECT_EQ(driver.fate(running), "running");
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.active, 0u);
  EXPECT_EQ(driver.count("end-session"), 0u);
  driver.reply(running);
  EXPECT_EQ(driver.fate(running), "ok");
  EXPECT_EQ(driver.count("end-session ann w1.1 expired"), 1u);
}

// Goal: idle_ttl never runs while a call does, however long that takes.
TEST(PoolSessions, ASessionIsNotIdleWhileACallRuns) {
  Settings settings = pool_of(1);
  settings.sessions.idle_ttl = 1s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId slow = driver.submit("f", "ann");
  driver.advance(30s);
  driver.reply(slow);
  driver.advance(999ms);
  const CallId next = driver.submit("f", "ann");
  EXPECT_EQ(driver.outcome(slow).birth, birth_of(driver, "ann"));
  driver.reply(next);
}

// Goal: DELETE ends a session now: waiting calls hear it, the running one finishes, the id is free.
TEST(PoolSessions, AnEndedSessionFreesItsId) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  const CallId running = driver.submit("f", "ann"), waiting = driver.submit("f", "ann");
  driver.handle(SessionEnded{"ann"});
  EXPECT_EQ(driver.fate(waiting), "session_expired");
  const CallId fresh = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(fresh), "running") << "a new birth, beside the old one's last call";
  driver.reply(running);
  EXPECT_EQ(driver.count("end-session ann"), 1u);
  driver.reply(fresh);
  EXPECT_NE(driver.outcome(fresh).birth, driver.outcome(running).birth);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.ended, 1u);
}

// Goal: of a session that another pool has taken nothing is acknowledged here: what waits ends
// session_lost at once, what runs does so when it has its answer, with its effect; the id is free.
TEST(PoolSessions, ATakenSessionAcknowledgesNothing) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  const CallId running = driver.submit("f", "ann"), waiting = driver.submit("f", "ann");
  driver.handle(SessionTaken{"ann", 1, "taken"});
  EXPECT_EQ(driver.fate(waiting), "waiting") << "that birth is another session's";
  driver.handle(SessionTaken{"ann", birth_of(driver, "ann"), "node b has it"});
  EXPECT_EQ(driver.fate(waiting), "session_lost");
  EXPECT_EQ(driver.outcome(waiting).effect, Effect::kNone);
  EXPECT_EQ(driver.outcome(waiting).message, "node b has it");
  const CallId fresh = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(fresh), "running");
  driver.reply(running);
  EXPECT_EQ(driver.fate(running), "session_lost");
  EXPECT_EQ(driver.outcome(running).effect, Effect::kDone);
  EXPECT_EQ(driver.outcome(running).message, "node b has it");
  EXPECT_EQ(driver.count("end-session ann"), 1u) << "its worker drops the state";
  driver.reply(fresh);
  EXPECT_EQ(driver.fate(fresh), "ok");
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 1u);
  driver.handle(SessionTaken{"ann", 0, "idle"});
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.active, 0u);
}

// Goal: what a taken session's call did, and whether that is kept, is said as far as it is known;
// how a call failed by itself stays as it is.
TEST(PoolSessions, ATakenSessionsCallSaysWhatIsKnown) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  for (const auto kind : {ReplyKind::kOk, ReplyKind::kError, ReplyKind::kCancelled}) {
    const CallId call = driver.submit("f", "ann");
    driver.handle(SessionTaken{"ann", 0, "gone", /*may_be_kept=*/true});
    driver.reply(call, kind);
    EXPECT_EQ(driver.fate(call), kind == ReplyKind::kCancelled ? "cancelled" : "timeout");
    EXPECT_EQ(driver.outcome(call).effect, Effect::kMaybe);
  }
}

// Goal: of a session that others know, its birth is theirs, and its end is told once, with why;
// of any other session nothing is told.
TEST(PoolSessions, TheEndOfAWatchedSessionIsTold) {
  Settings settings = pool_of(2);
  settings.sessions.idle_ttl = 1s;
  ModelDriver driver(settings);
  driver.warm_up();
  const auto open = [&](const char* session, std::uint64_t birth) {
    CallSubmitted call = driver.request("f", session);
    call.birth = birth;
    return driver.submit(call);
  };
  const CallId ann = open("ann", 41);
  driver.reply(ann);
  EXPECT_EQ(driver.outcome(ann).birth, 41u);
  driver.reply(open("ann", 99));
  EXPECT_EQ(birth_of(driver, "ann"), 41u) << "it was open";
  driver.advance(2s);
  EXPECT_EQ(driver.count("gone ann 41 expired"), 1u);
  const CallId again = open("ann", 45);
  EXPECT_EQ(driver.fate(again), "running") << "others tell of the end";
  driver.reply(again);
  const CallId bob = open("bob", 42);
  driver.handle(SessionEnded{"bob"});
  EXPECT_EQ(driver.count("gone bob"), 0u) << "its call runs";
  driver.reply(bob);
  EXPECT_EQ(driver.count("gone bob 42 ended"), 1u);
  const CallId cyd = open("cyd", 43);
  driver.reply(cyd);
  driver.exit(driver.outcome(cyd).worker);
  driver.advance(0s);
  EXPECT_EQ(driver.count("gone cyd 43 lost"), 1u);
  driver.reply(open("dan", 0));
  driver.handle(SessionEnded{"dan"});
  EXPECT_EQ(driver.count("gone dan"), 0u);
  const CallId eve = open("eve", 44);
  driver.handle(SessionTaken{"eve", 44, "taken"});
  driver.exit(driver.worker_of(eve));
  EXPECT_EQ(driver.count("gone eve 44 ended"), 1u);
}

// Goal: twenty thousand sessions die with their worker in one step that touches none of them; the
// statistics are right at once, and calls in between meet the loss.
TEST(PoolSessions, AMassDeathDoesNotStall) {
  constexpr int kMany = 20'000;
  Settings settings = pool_of(1);
  settings.sessions.max = kMany;
  Pool pool(settings, 1);
  Actions actions;
  FunctionsAnnounced functions;
  functions.functions.emplace_back();
  functions.functions.back().name = "f";
  pool.handle(Time{}, functions, actions);
  pool.handle(Time{}, WorkerReady{WorkerId{1, 1}}, actions);
  std::uint64_t id = 0;
  for (int i = 0; i < kMany; ++i) {
    const std::string session = "s" + std::to_string(i);
    CallSubmitted call;
    call.call = CallId{++id};
    call.function = "f";
    call.session = session;
    pool.handle(Time{}, call, actions);
    pool.handle(Time{}, WorkerReplied{WorkerId{1, 1}, call.call}, actions);
    actions.clear();
  }
  ASSERT_EQ(pool.stats(Time{}).sessions.active, std::uint64_t{kMany});
  pool.handle(Time{}, WorkerExited{WorkerId{1, 1}, {}, {}}, actions);
  EXPECT_LE(actions.size(), 2u);
  EXPECT_EQ(pool.stats(Time{}).sessions.active, 0u);
  EXPECT_EQ(pool.stats(Time{}).sessions.lost, std::uint64_t{kMany});
  EXPECT_EQ(pool.sessions(Time{}, "", 10).total, 0u);
  CallSubmitted late;
  late.call = CallId{++id};
  late.function = "f";
  late.session = "s19999";
  pool.handle(Time{}, late, actions);
  EXPECT_EQ(std::get<Resolve>(actions.back()).kind, OutcomeKind::kSessionLost);
  int ticks = 0;
  while (pool.next_deadline() == Time{}) {
    pool.handle(Time{}, Tick{}, actions);
    ++ticks;
  }
  EXPECT_GT(ticks, 100) << "a slice at a time";
  EXPECT_EQ(pool.stats(Time{}).sessions.lost, std::uint64_t{kMany}) << "counted once";
  pool.check_invariants();
}

// Goal: pages come in id order, complete and without repeats.
TEST(PoolSessions, ListingsPageInIdOrder) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  for (const char* id : {"dan", "ann", "cyd", "bob", "eve"}) driver.reply(driver.submit("f", id));
  std::string all;
  std::string after;
  for (bool more = true; more;) {
    const auto page = driver.pool.sessions(driver.now, after, 2);
    EXPECT_EQ(page.total, 5u);
    for (const auto& item : page.items) all += item.id + " ";
    more = page.next.has_value();
    if (more) after = *page.next;
  }
  EXPECT_EQ(all, "ann bob cyd dan eve ");
}

}  // namespace
}  // namespace keelback::core
