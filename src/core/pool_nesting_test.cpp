// Calls that running calls make: their place, their deadline, their end with their parents, and the
// refusal of those that nothing could ever serve.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/prng.h"
#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

FunctionSpec terms(std::string name, std::uint32_t concurrency = 1, std::uint32_t max_workers = 0) {
  FunctionSpec made;
  made.name = std::move(name);
  made.concurrency = concurrency;
  made.max_workers = max_workers;
  return made;
}

// "f" and "g" run alone, "many" runs 4 in a worker, "one" runs in one worker at a time, "gather"
// takes 3 calls at once.
void start_pool(ModelDriver& driver) {
  FunctionSpec gather = terms("gather");
  gather.batch = 3;
  driver.announce({terms("f"), terms("g"), terms("many", 4), terms("one", 1, 1), gather});
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
}

CallId nest(ModelDriver& driver, CallId parent, std::string_view function = "f",
            std::string_view session = {}) {
  CallSubmitted call = driver.request(function, session);
  call.parent = parent;
  return driver.submit(call);
}

bool would_deadlock(ModelDriver& driver, CallId call) {
  return driver.fate(call) == "overloaded" && driver.outcome(call).reason == "would_deadlock" &&
         driver.outcome(call).effect == Effect::kNone;
}

// ---- would deadlock

TEST(PoolNesting, ACallThatNeedsTheWorkerOfItsParentIsRefusedAtOnce) {
  ModelDriver driver(pool_of(1));
  start_pool(driver);
  const CallId parent = driver.submit();
  EXPECT_TRUE(would_deadlock(driver, nest(driver, parent)));
  driver.reply(parent);
  EXPECT_EQ(driver.fate(parent), "ok");
}

// The other worker comes free: the nested call waits for it, before calls that came earlier.
TEST(PoolNesting, ACallWaitsForAWorkerThatComesFreeAndGoesFirst) {
  ModelDriver driver(pool_of(2));
  start_pool(driver);
  const CallId parent = driver.submit();
  const CallId other = driver.submit();
  const CallId fresh = driver.submit();
  const CallId child = nest(driver, parent);
  EXPECT_EQ(driver.fate(child), "waiting");
  driver.reply(other);
  EXPECT_EQ(driver.fate(child), "running");
  EXPECT_EQ(driver.fate(fresh), "waiting");
}

// Eight outer calls on two workers, each with a child: one child waits for the other worker, whose
// call then finds everything held.
TEST(PoolNesting, OfTwoCallsThatHoldAllWorkersTheSecondIsRefused) {
  ModelDriver driver(pool_of(2));
  start_pool(driver);
  std::vector<CallId> outer;
  for (int i = 0; i < 8; ++i) outer.push_back(driver.submit());
  const CallId first = nest(driver, outer[0]);
  EXPECT_EQ(driver.fate(first), "waiting");
  EXPECT_TRUE(would_deadlock(driver, nest(driver, outer[1])));
  EXPECT_EQ(driver.fate(first), "waiting");
  driver.reply(outer[1], ReplyKind::kError);
  EXPECT_EQ(driver.fate(first), "running");
  driver.reply(first);
  driver.reply(outer[0]);
  EXPECT_EQ(driver.fate(outer[2]), "running");
  EXPECT_EQ(driver.fate(outer[3]), "running");
}

TEST(PoolNesting, ACallIntoItsOwnSessionIsRefused) {
  ModelDriver driver(pool_of(2));
  start_pool(driver);
  const CallId parent = driver.submit("f", "ann");
  EXPECT_TRUE(would_deadlock(driver, nest(driver, parent, "g", "ann")));
  // … also by a call that it has made.
  const CallId child = nest(driver, parent, "g", "bob");
  EXPECT_TRUE(would_deadlock(driver, nest(driver, child, "f", "ann")));
}

// Ann's call waits for Bob's session, and Bob's for Ann's.
TEST(PoolNesting, CrossedSessionsAreRefused) {
  ModelDriver driver(pool_of(4));
  start_pool(driver);
  const CallId ann = driver.submit("f", "ann");
  const CallId bob = driver.submit("f", "bob");
  const CallId to_bob = nest(driver, ann, "g", "bob");
  EXPECT_EQ(driver.fate(to_bob), "waiting");
  EXPECT_TRUE(would_deadlock(driver, nest(driver, bob, "g", "ann")));
  driver.reply(bob);
  EXPECT_EQ(driver.fate(to_bob), "running");
}

// What goes before a call in its session waits for the parent: for its bulkhead.
TEST(PoolNesting, ASessionWhoseFirstCallWaitsForTheParentIsRefused) {
  ModelDriver driver(pool_of(4));
  start_pool(driver);
  const CallId parent = driver.submit("one");
  EXPECT_EQ(driver.fate(driver.submit("one", "bob")), "waiting");
  EXPECT_TRUE(would_deadlock(driver, nest(driver, parent, "many", "bob")));
}

TEST(PoolNesting, ABulkheadThatItsParentHoldsIsRefused) {
  ModelDriver driver(pool_of(3));
  start_pool(driver);
  const CallId parent = driver.submit("one");
  EXPECT_TRUE(would_deadlock(driver, nest(driver, parent, "one")));
  EXPECT_EQ(driver.fate(nest(driver, parent, "f")), "running");
}

// Calls that run beside others need no other worker, until all places are held.
TEST(PoolNesting, SharedCallsNestInOneWorkerAsLongAsThereIsRoom) {
  ModelDriver driver(pool_of(1));
  start_pool(driver);
  CallId call = driver.submit("many");
  for (int i = 0; i < 3; ++i) {
    call = nest(driver, call, "many");
    EXPECT_EQ(driver.fate(call), "running");
  }
  EXPECT_TRUE(would_deadlock(driver, nest(driver, call, "many")));
  EXPECT_TRUE(would_deadlock(driver, nest(driver, call, "f")));
}

// A call that runs alone waits for the worker to be empty; the calls there make a call each, which
// goes before it.
TEST(PoolNesting, ANestedCallGoesBesideItsParentThoughTheWorkerIsEmptied) {
  ModelDriver driver(pool_of(1));
  start_pool(driver);
  const CallId parent = driver.submit("many");
  CallSubmitted urgent = driver.request("f");
  urgent.priority = Priority::kHigh;
  const CallId alone = driver.submit(urgent);
  EXPECT_EQ(driver.fate(driver.submit("many")), "waiting");
  const CallId child = nest(driver, parent, "many");
  EXPECT_EQ(driver.fate(child), "running");
  driver.reply(child);
  driver.reply(parent);
  EXPECT_EQ(driver.fate(alone), "running");
}

// The same, if the nested call stands behind another one in its session.
TEST(PoolNesting, WhatANestedCallStandsBehindGoesAheadWithIt) {
  ModelDriver driver(pool_of(1));
  start_pool(driver);
  const CallId parent = driver.submit("many");
  const CallId alone = driver.submit("f");
  const CallId first = driver.submit("many", "bob");
  EXPECT_EQ(driver.fate(first), "waiting");
  const CallId child = nest(driver, parent, "many", "bob");
  EXPECT_EQ(driver.fate(first), "running");
  driver.reply(first);
  EXPECT_EQ(driver.fate(child), "running");
  EXPECT_EQ(driver.fate(alone), "waiting");
}

// A worker that is on its way is one that comes free.
TEST(PoolNesting, AWorkerThatStartsIsWaitedFor) {
  ModelDriver driver(pool_of(2));
  driver.announce({terms("f")});
  driver.ready(driver.with(false).front());
  const CallId parent = driver.submit();
  const CallId child = nest(driver, parent);
  EXPECT_EQ(driver.fate(child), "waiting");
  driver.ready(driver.with(false).front());
  EXPECT_EQ(driver.fate(child), "running");
}

// The pool gets smaller while a nested call waits for the worker that goes.
TEST(PoolNesting, ACallThatNothingCanServeAnyMoreIsRefusedThen) {
  ModelDriver driver(pool_of(2));
  driver.announce({terms("f")});
  driver.ready(driver.with(false).front());
  const CallId parent = driver.submit();
  const CallId child = nest(driver, parent);
  EXPECT_EQ(driver.fate(child), "waiting");
  driver.configure(pool_of(1));
  EXPECT_TRUE(would_deadlock(driver, child));
}

// ---- what belongs to it

TEST(PoolNesting, ACallHasWhatIsLeftOfItsParentsDeadline) {
  ModelDriver driver(pool_of(2));
  start_pool(driver);
  CallSubmitted outer = driver.request("f");
  outer.deadline = 10s;
  const CallId parent = driver.submit(outer);
  driver.advance(4s);
  const CallId child = nest(driver, parent);
  driver.advance(6s - 1ms);
  EXPECT_EQ(driver.fate(child), "running");
  driver.advance(1ms);
  EXPECT_EQ(driver.fate(parent), "timeout");
  EXPECT_NE(driver.fate(child), "running");
}

TEST(PoolNesting, AListingNamesTheParent) {
  ModelDriver driver(pool_of(2));
  start_pool(driver);
  const CallId parent = driver.submit();
  const CallId child = nest(driver, parent);
  std::map<CallId, CallId> parents;
  for (const WorkerView& worker : driver.pool.workers(driver.now)) {
    for (const WorkerView::Running& call : worker.running) parents[call.call] = call.parent;
  }
  EXPECT_EQ(parents, (std::map<CallId, CallId>{{parent, CallId{}}, {child, parent}}));
}

TEST(PoolNesting, DepthIsLimited) {
  ModelDriver driver(pool_of(20));
  start_pool(driver);
  CallId call = driver.submit();
  for (int depth = 1; depth <= 16; ++depth) {
    call = nest(driver, call);
    ASSERT_EQ(driver.fate(call), "running");
  }
  EXPECT_EQ(driver.fate(nest(driver, call)), "bad_request");
}

TEST(PoolNesting, ACallOfAParentThatDoesNotRunIsCancelled) {
  ModelDriver driver(pool_of(1));
  start_pool(driver);
  const CallId parent = driver.submit();
  const CallId waiting = driver.submit();
  EXPECT_EQ(driver.fate(nest(driver, waiting)), "cancelled");
  driver.handle(CallCancelled{parent});
  EXPECT_EQ(driver.fate(nest(driver, parent)), "cancelled");
  driver.reply(parent);
  EXPECT_EQ(driver.fate(nest(driver, parent)), "cancelled");
}

TEST(PoolNesting, ADrainingPoolLetsRunningCallsMakeCalls) {
  ModelDriver driver(pool_of(2));
  start_pool(driver);
  const CallId parent = driver.submit();
  driver.handle(DrainRequested{10s});
  EXPECT_EQ(driver.fate(driver.submit()), "shutting_down");
  const CallId child = nest(driver, parent);
  EXPECT_EQ(driver.fate(child), "running");
  driver.reply(child);
  driver.reply(parent);
  EXPECT_EQ(driver.fate(parent), "ok");
}

// ---- the parent ends

// The children of a call that ends are cancelled, those that wait and those that run.
TEST(PoolNesting, TheChildrenOfACallThatEndsAreCancelled) {
  ModelDriver driver(pool_of(3));
  start_pool(driver);
  const CallId parent = driver.submit();
  const CallId runs = nest(driver, parent);
  const CallId grandchild = nest(driver, runs);
  const CallId waits = nest(driver, parent, "one");
  driver.reply(parent);
  EXPECT_EQ(driver.count(fmt::format("cancel r{} ", runs.value)), 1u);
  EXPECT_EQ(driver.count(fmt::format("cancel r{} ", grandchild.value)), 1u);
  driver.reply(grandchild, ReplyKind::kCancelled);
  driver.reply(runs, ReplyKind::kCancelled);
  EXPECT_EQ(driver.fate(runs), "cancelled");
  EXPECT_EQ(driver.fate(grandchild), "cancelled");
  EXPECT_NE(driver.fate(waits), "waiting");
}

TEST(PoolNesting, ACallerThatCancelsCancelsTheChildrenToo) {
  ModelDriver driver(pool_of(2));
  start_pool(driver);
  const CallId parent = driver.submit();
  const CallId child = nest(driver, parent);
  driver.handle(CallCancelled{parent});
  EXPECT_EQ(driver.count(fmt::format("cancel r{} ", child.value)), 1u);
}

// The parent's worker dies: its child is cancelled, and the attempt that follows makes a new one.
TEST(PoolNesting, AParentThatRunsAgainMakesItsCallsAgain) {
  ModelDriver driver(pool_of(3));
  start_pool(driver);
  CallSubmitted outer = driver.request("f");
  outer.idempotent = true;
  const CallId parent = driver.submit(outer);
  const CallId child = nest(driver, parent);
  driver.exit(driver.worker_of(parent));
  EXPECT_EQ(driver.count(fmt::format("cancel r{} ", child.value)), 1u);
  driver.advance(5s);
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  ASSERT_EQ(driver.fate(parent), "running");
  EXPECT_EQ(driver.fate(nest(driver, parent)), "running");
}

// ---- trees

// A random pool and random trees of calls, each of which waits for its children one after another.
// Time passes only until dead workers are replaced, so that no deadline ends what hangs.
class Trees {
 public:
  explicit Trees(std::uint64_t seed)
      : prng_(seed), driver_(pool_of(static_cast<std::uint32_t>(1 + below(4)))) {
    start_pool(driver_);
    for (std::uint64_t i = 0; i < 2 + below(10); ++i) submit(CallId{});
  }

  // False: calls are left, and nothing can happen any more.
  bool play() {
    for (int steps = 0; steps < 5000; ++steps) {
      for (const WorkerId worker : driver_.with(false)) driver_.ready(worker);
      std::vector<CallId> free;
      bool open = false;
      for (const auto& [id, plan] : plans_) {
        const std::string fate = driver_.fate(CallId{id});
        open |= fate == "waiting" || fate == "running";
        if (fate == "running" && !waits(plan)) free.push_back(CallId{id});
      }
      if (!open) return true;
      if (!free.empty()) {
        step(free[below(free.size())]);
      } else if (driver_.now < Time{} + kReplaced) {
        driver_.advance(100ms);
      } else {
        return false;
      }
    }
    return false;
  }
  std::uint64_t refused() const { return refused_; }
  std::uint64_t served() const { return served_; }

 private:
  static constexpr Duration kReplaced = 20s;  // less than calls.deadline

  struct Plan {
    std::uint64_t children = 0;  // to come
    std::uint32_t depth = 0;
    CallId child;  // the last one
  };

  std::uint64_t below(std::uint64_t most) { return prng_.below(most); }
  bool waits(const Plan& plan) const { return plan.child && !driver_.resolved(plan.child); }

  void submit(CallId parent) {
    static constexpr std::string_view kFunctions[] = {"f", "g", "many", "many", "one", "gather"};
    static constexpr std::string_view kSessions[] = {"", "", "", "ann", "bob", "cem"};
    CallSubmitted call = driver_.request(kFunctions[below(6)], kSessions[below(6)]);
    call.parent = parent;
    if (call.function == "gather") call.session = {};
    call.priority = static_cast<Priority>(below(3));
    const CallId id = driver_.submit(call);
    Plan plan;
    plan.depth = parent ? plans_.at(parent.value).depth + 1 : 0;
    plan.children = plan.depth < 4 ? below(3) : 0;
    plans_.emplace(id.value, plan);
    if (!parent) return;
    plans_.at(parent.value).child = id;
    const bool refused = driver_.fate(id) == "overloaded";
    if (refused) {
      EXPECT_EQ(driver_.outcome(id).reason, "would_deadlock");
    }
    ++(refused ? refused_ : served_);
  }

  void step(CallId call) {
    if (below(40) == 0) return driver_.exit(driver_.worker_of(call));
    Plan& plan = plans_.at(call.value);
    if (plan.children == 0) return driver_.reply(call);
    --plan.children;
    submit(call);
  }

  Prng prng_;
  ModelDriver driver_;
  std::map<std::uint64_t, Plan> plans_;
  std::uint64_t refused_ = 0;
  std::uint64_t served_ = 0;
};

TEST(PoolNesting, AThousandRandomTreesNeverHang) {
  std::uint64_t refused = 0, served = 0;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    Trees trees(seed);
    ASSERT_TRUE(trees.play()) << "seed " << seed;
    refused += trees.refused();
    served += trees.served();
  }
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(served, 1000u);
}

// Goal: where sessions are shared by several machines, a nested call opens none behind the back of
// who knows their owners.
TEST(PoolNesting, InAClusterANestedCallOpensNoSession) {
  Settings settings = pool_of(2);
  settings.cluster.store = "postgres://x";
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId parent = driver.submit("f", "ann");
  CallSubmitted nested = driver.request("f", "bob");
  nested.parent = parent;
  EXPECT_EQ(driver.fate(driver.submit(nested)), "not_ready");
  nested.birth = 7;
  EXPECT_EQ(driver.fate(driver.submit(nested)), "running");
}

}  // namespace
}  // namespace keelback::core
