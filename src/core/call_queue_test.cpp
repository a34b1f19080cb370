#include "core/call_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

struct Fixture : ::testing::Test {
  CallQueue queue{{.queue_max = 3, .lane_max = 2, .delay_max = 100ms}};
  std::deque<Call> calls;
  std::deque<Lane> lanes;

  ~Fixture() override {
    queue.clear();
    for (Lane& lane : lanes) lane.waiting.clear();
  }
  Call& call(Priority priority = Priority::kNormal) {
    calls.emplace_back();
    calls.back().priority = priority;
    return calls.back();
  }
  bool slow(Time now, Priority priority) const {
    return queue.too_slow(queue.delay(now, priority, 1), priority);
  }
  Call& waiting(Time now, Priority priority = Priority::kNormal) {
    Call& head = call(priority);
    queue.make_head(head, nullptr, now);
    queue.enqueue(queue.common(), head);
    queue.count_in(head);
    return head;
  }
};
using CallQueueTest = Fixture;

// Goal: rank before age, and age among equals.
TEST_F(CallQueueTest, HighBeforeNormalBeforeLowThenFirstComeFirst) {
  Call& low = waiting(at(0s), Priority::kLow);
  Call& first = waiting(at(1s));
  Call& second = waiting(at(2s));
  Call& high = waiting(at(3s), Priority::kHigh);
  for (Call* expected : {&high, &first, &second, &low}) {
    ASSERT_EQ(queue.common().top(), expected);
    queue.dequeue(*expected);
  }
  EXPECT_TRUE(queue.common().empty());
}

// Goal: a lane stays first in, first out; its head inherits the highest priority behind it, and
// gives it back when that call leaves.
TEST_F(CallQueueTest, AHeadInheritsTheHighestPriorityOfItsLane) {
  Lane& lane = lanes.emplace_back();
  Call& head = call(Priority::kLow);
  queue.append(lane, head);
  queue.make_head(head, &lane, at(0s));
  queue.enqueue(queue.common(), head);
  Call& rival = waiting(at(1s));
  EXPECT_EQ(queue.common().top(), &rival);
  Call& urgent = call(Priority::kHigh);
  queue.append(lane, urgent);
  EXPECT_EQ(queue.common().top(), &head);
  EXPECT_EQ(&lane.waiting.front(), &head);
  queue.remove(lane, urgent);
  EXPECT_EQ(queue.common().top(), &rival);
  queue.remove(lane, head);
  EXPECT_TRUE(lane.empty());
}

// Goal: sessions take turns: the second call of a long lane stands behind the first of another.
TEST_F(CallQueueTest, SessionsTakeTurns) {
  Lane& ann = lanes.emplace_back();
  Lane& bob = lanes.emplace_back();
  Call &a1 = call(), &a2 = call(), &b1 = call();
  queue.append(ann, a1);
  queue.append(ann, a2);
  queue.append(bob, b1);
  queue.make_head(a1, &ann, at(0s));
  queue.enqueue(queue.common(), a1);
  queue.make_head(b1, &bob, at(0s));
  queue.enqueue(queue.common(), b1);
  queue.remove(ann, a1);
  queue.make_head(a2, &ann, at(1s));
  queue.enqueue(queue.common(), a2);
  EXPECT_EQ(queue.common().top(), &b1);
}

// Goal: a call that its worker's death handed back stands where it stood.
TEST_F(CallQueueTest, ACallHandedBackKeepsItsPlace) {
  Call& first = waiting(at(0s));
  Call& second = waiting(at(1s));
  queue.dequeue(first);
  first.state = Call::InLane{};
  queue.make_head(first, nullptr, at(5s));
  queue.enqueue(queue.common(), first);
  EXPECT_EQ(queue.common().top(), &first);
  EXPECT_EQ(first.head_since, at(0s));
  static_cast<void>(second);
}

// Goal: the oldest waiting call is known at once, also after an old one was handed back.
TEST_F(CallQueueTest, KnowsItsOldest) {
  EXPECT_EQ(queue.oldest(at(9s)), 0s);
  Call& first = call();
  Call& second = call();
  Call& third = call();
  first.accepted = at(1s);
  second.accepted = at(2s);
  third.accepted = at(3s);
  queue.count_in(first);
  queue.count_in(third);
  queue.count_out(first);
  EXPECT_EQ(queue.oldest(at(9s)), 6s);
  queue.count_in(second);
  EXPECT_EQ(queue.oldest(at(9s)), 7s);
  queue.count_in(first);
  EXPECT_EQ(queue.oldest(at(9s)), 8s);
  queue.count_out(first);
  EXPECT_EQ(queue.oldest(at(9s)), 7s);
}

// Goal: at the maximum it is full, one below it is not; the same for a lane.
TEST_F(CallQueueTest, IsFullAtItsMaximum) {
  Lane& lane = lanes.emplace_back();
  queue.append(lane, call());
  EXPECT_FALSE(queue.lane_full(lane));
  queue.append(lane, call());
  EXPECT_TRUE(queue.lane_full(lane));
  waiting(at(0s));
  waiting(at(0s));
  EXPECT_FALSE(queue.full());
  waiting(at(0s));
  EXPECT_TRUE(queue.full());
}

// Goal: a lane holds no more than there is room left for others.
TEST_F(CallQueueTest, ALaneLeavesRoomForOthers) {
  queue.set_limits({.queue_max = 10, .lane_max = 100, .delay_max = 0s});
  Lane& lane = lanes.emplace_back();
  const auto fill = [&](Lane& each) {
    while (!queue.lane_full(each)) {
      Call& next = call();
      queue.append(each, next);
      queue.count_in(next);
    }
    return each.waiting.size();
  };
  EXPECT_EQ(fill(lane), 5U);
  Lane& second = lanes.emplace_back();
  EXPECT_EQ(fill(second), 3U);
  Lane& third = lanes.emplace_back();
  EXPECT_EQ(fill(third), 1U);
  EXPECT_FALSE(queue.full());
}

// Goal: a newcomer's delay is what the first has waited, or the work before it if that is more: of
// its own rank and above, shared by the workers that are up.
TEST_F(CallQueueTest, TheDelayIsAlsoWhatTheWorkBeforeTakes) {
  std::vector<Call*> heads;
  for (const Priority priority : {Priority::kHigh, Priority::kNormal, Priority::kLow}) {
    Call& head = call(priority);
    head.expected = 100ms;
    queue.make_head(head, nullptr, at(0s));
    queue.enqueue(queue.common(), head);
    heads.push_back(&head);
  }
  EXPECT_EQ(queue.delay(at(0s), Priority::kHigh, 1), 100ms);
  EXPECT_EQ(queue.delay(at(0s), Priority::kNormal, 1), 200ms);
  EXPECT_EQ(queue.delay(at(0s), Priority::kLow, 4), 75ms);
  EXPECT_EQ(queue.delay(at(1s), Priority::kLow, 4), 1s);
  for (Call* head : heads) queue.dequeue(*head);
  EXPECT_EQ(queue.delay(at(1s), Priority::kLow, 1), 0s);
}

// Goal: who would wait for more than four fifths of the time it has is not let in to die.
TEST_F(CallQueueTest, KnowsTheHopeless) {
  EXPECT_FALSE(CallQueue::hopeless(0s, 0s));
  EXPECT_FALSE(CallQueue::hopeless(800ms, 1s));
  EXPECT_TRUE(CallQueue::hopeless(801ms, 1s));
  EXPECT_FALSE(CallQueue::hopeless(1h, Duration::max()));
}

// Goal: newcomers are shed on the delay of their own priority: low early, high late, and not at all
// when that is off.
TEST_F(CallQueueTest, ShedsOnTheDelayOfItsPriority) {
  waiting(at(0s), Priority::kLow);
  waiting(at(0s), Priority::kNormal);
  EXPECT_FALSE(slow(at(50ms), Priority::kLow));
  EXPECT_TRUE(slow(at(51ms), Priority::kLow));
  EXPECT_FALSE(slow(at(100ms), Priority::kNormal));
  EXPECT_TRUE(slow(at(101ms), Priority::kNormal));
  EXPECT_FALSE(slow(at(10s), Priority::kHigh)) << "none of these waits";
  waiting(at(0s), Priority::kHigh);
  EXPECT_FALSE(slow(at(200ms), Priority::kHigh));
  EXPECT_TRUE(slow(at(201ms), Priority::kHigh));
  queue.set_limits({3, 2, 0s});
  EXPECT_FALSE(slow(at(1h), Priority::kLow));
}

// Goal: retry_after is the work that waits over the rate it goes at, within bounds.
TEST_F(CallQueueTest, RetryAfterIsWorkOverRate) {
  for (int i = 0; i < 200; ++i) queue.observe_service(100ms);
  for (int i = 0; i < 3; ++i) waiting(at(0s));
  EXPECT_EQ(queue.retry_after(1), 400ms);
  EXPECT_EQ(queue.retry_after(4), 100ms);
  EXPECT_EQ(queue.retry_after(0), 1s) << "nobody serves";
  for (int i = 0; i < 500; ++i) queue.observe_service(1h);
  EXPECT_EQ(queue.retry_after(1), 30s);
  for (int i = 0; i < 2000; ++i) queue.observe_service(1ns);
  EXPECT_EQ(queue.retry_after(1), 1ms);
}

}  // namespace
}  // namespace keelback::core
