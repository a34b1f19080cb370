// Which waiting calls go together, and until when they wait for others.
#include "core/batcher.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
constexpr Time at(Duration since_start) { return Time{since_start}; }

struct BatcherTest : ::testing::Test {
  BatcherTest() {
    function.spec.batch = 4;
    function.spec.batch_wait = 10ms;
  }
  ~BatcherTest() override { batcher.clear(); }

  Call& call(Time now, std::uint64_t payload = 1, Duration deadline = 1h) {
    Call& made = calls.emplace_back();
    made.function = &function;
    made.state = Call::Head{};
    made.stamp = calls.size();
    made.head_since = now;
    made.payload_bytes = payload;
    made.deadline = now + deadline;
    return made;
  }
  BatchGroup& join(Time now, Call& call) { return batcher.join(now, call); }

  Function function;
  std::deque<Call> calls;
  Batcher batcher{{.payload_max = 100, .attachments_max = 100}};
};

// Goal: calls that differ in function, priority, batch key or kinds of attachments never go
// together.
TEST_F(BatcherTest, OnlyCallsOfOneKindFormAGroup) {
  BatchGroup& group = join(at(0s), call(at(0s)));
  EXPECT_EQ(&join(at(0s), call(at(0s))), &group);
  Call& urgent = call(at(0s));
  urgent.rank = Priority::kHigh;
  Call& keyed = call(at(0s));
  keyed.batch_print = 7;
  Function other;
  other.spec = function.spec;
  Call& foreign = call(at(0s));
  foreign.function = &other;
  for (Call* each : {&urgent, &keyed, &foreign}) EXPECT_NE(&join(at(0s), *each), &group);
  EXPECT_EQ(group.calls.size(), 2u);
  batcher.clear();
}

// Goal: a batch is full with as many calls as the function takes, and no call is lost behind it.
TEST_F(BatcherTest, AFullBatchIsRipeAndTheRestWaitsForTheNext) {
  BatchGroup* group = nullptr;
  for (int i = 0; i < 3; ++i) group = &join(at(0s), call(at(0s)));
  EXPECT_FALSE(Batcher::ripe(at(0s), *group));
  for (int i = 0; i < 3; ++i) join(at(0s), call(at(0s)));
  EXPECT_TRUE(Batcher::ripe(at(0s), *group));
  const auto batch = batcher.take(*group);
  ASSERT_EQ(batch.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(batch[i], &calls[i]) << "first come, first served";
  EXPECT_FALSE(Batcher::ripe(at(9ms), *group));
  EXPECT_TRUE(Batcher::ripe(at(10ms), *group)) << "the wait counts from when its first call came";
}

// Goal: the calls of a batch stay within the limits together; a younger call that would fit does
// not overtake one that does not.
TEST_F(BatcherTest, ABatchStaysWithinTheLimitsAndNobodyOvertakes) {
  BatchGroup& group = join(at(0s), call(at(0s), 60));
  join(at(0s), call(at(0s), 41));
  join(at(0s), call(at(0s), 1));
  EXPECT_TRUE(Batcher::ripe(at(0s), group));
  EXPECT_EQ(batcher.take(group).size(), 1u);
  EXPECT_EQ(group.next, 2u);
  calls[1].attachment_bytes = 60;
  Call& carries = call(at(0s));
  carries.attachment_bytes = 41;
  join(at(0s), carries);
  batcher.set_limits({.payload_max = 100, .attachments_max = 100});
  EXPECT_EQ(batcher.take(group).size(), 2u);
  EXPECT_EQ(batcher.take(group).size(), 1u) << "one call always goes";
}

// Goal: no call waits for others longer than half of the time that it has, nor until what is left
// is less than a batch takes.
TEST_F(BatcherTest, TheWaitLeavesTimeToRun) {
  BatchGroup& group = join(at(0s), call(at(0s)));
  EXPECT_EQ(group.ripe_at, at(10ms));
  join(at(1ms), call(at(1ms), 1, 10ms));
  EXPECT_EQ(group.ripe_at, at(6ms)) << "half of its time";
  function.batch_run = 8ms;
  Call& hurried = call(at(2ms), 1, 10ms);
  join(at(2ms), hurried);
  EXPECT_EQ(group.ripe_at, at(4ms)) << "what is left is what a batch takes";
  batcher.leave(hurried);
  batcher.leave(calls[1]);
  function.batch_run = 1min;
  Call& late = call(at(3ms), 1, 10ms);
  join(at(3ms), late);
  EXPECT_EQ(group.ripe_at, at(3ms)) << "no time to lose";
  batcher.leave(late);
  EXPECT_EQ(group.ripe_at, at(10ms)) << "who has left hurries nobody";
}

// Goal: a call that a dead worker hands back takes the place that its age gives it.
TEST_F(BatcherTest, AReturnedCallTakesItsPlace) {
  Call& old = call(at(0s));
  BatchGroup& group = join(at(1ms), call(at(1ms)));
  join(at(2ms), old);
  EXPECT_EQ(&group.calls.front(), &old);
}

// Goal: a sealed group takes nobody, and is ripe.
TEST_F(BatcherTest, ASealedGroupTakesNobody) {
  Call* both[] = {&call(at(0s)), &call(at(0s))};
  BatchGroup& sealed = batcher.seal(both);
  EXPECT_TRUE(Batcher::ripe(at(0s), sealed));
  EXPECT_NE(&join(at(0s), call(at(0s))), &sealed);
  EXPECT_EQ(batcher.take(sealed).size(), 2u);
  batcher.drop(sealed);
}

// ---- pace

// Goal: who asks for a wait gets it until a window passes unfilled; from the first one on that is
// filled it is worth while again.
TEST(BatchPace, AWindowThatIsNotFilledEndsTheWaitAndAFilledOneBringsItBack) {
  BatchPace pace;
  EXPECT_TRUE(pace.fills());
  pace.arrived(at(0ms), 1, 3, 10ms);
  EXPECT_TRUE(pace.fills()) << "nothing is known yet";
  pace.arrived(at(11ms), 1, 3, 10ms);
  EXPECT_FALSE(pace.fills()) << "one call in 10 ms";
  pace.arrived(at(12ms), 2, 3, 10ms);
  pace.arrived(at(13ms), 1, 3, 10ms);
  EXPECT_FALSE(pace.fills()) << "a call of another group fills nothing";
  pace.arrived(at(14ms), 1, 3, 10ms);
  EXPECT_TRUE(pace.fills());
  pace.arrived(at(1h), 1, 3, 10ms);
  EXPECT_TRUE(pace.fills()) << "silence between windows says nothing: bursts are batches";
}

}  // namespace
}  // namespace keelback::core
