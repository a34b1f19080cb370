#include "core/timers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "base/prng.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// Goal: due times in order, ties in the order of arming, nothing early, nothing twice.
TEST(Timers, FireInOrderAndOnce) {
  Timers timers;
  Timer a{TimerKind::kCall}, b{TimerKind::kCall}, c{TimerKind::kWorker};
  timers.arm(b, at(2s));
  timers.arm(a, at(2s));
  timers.arm(c, at(1s));
  EXPECT_EQ(timers.next(), at(1s));
  EXPECT_EQ(timers.take_due(at(1s) - 1ns), nullptr);
  EXPECT_EQ(timers.take_due(at(5s)), &c);
  EXPECT_EQ(timers.take_due(at(5s)), &b);
  EXPECT_EQ(timers.take_due(at(5s)), &a);
  EXPECT_EQ(timers.take_due(at(5s)), nullptr);
  EXPECT_FALSE(timers.next());
}

// Goal: re-arming moves, disarming forgets; checked against a sorted list over a random history.
TEST(Timers, AgreeWithASortedList) {
  Timers timers;
  std::deque<Timer> all;
  for (int i = 0; i < 50; ++i) all.emplace_back(TimerKind::kCall);
  std::vector<Timer*> model;  // armed ones
  Prng prng(3);
  for (int step = 0; step < 5000; ++step) {
    Timer& timer = all[prng.below(all.size())];
    std::erase(model, &timer);
    if (prng.chance(0.7)) {
      timers.arm(timer, at(Duration(prng.below(100))));
      model.push_back(&timer);
    } else {
      timers.disarm(timer);
    }
    const auto first = std::min_element(model.begin(), model.end(),
                                        [](auto* a, auto* b) { return a->due < b->due; });
    ASSERT_EQ(timers.next().has_value(), !model.empty());
    if (!model.empty()) {
      ASSERT_EQ(*timers.next(), (*first)->due);
    }
  }
  timers.clear();
}

}  // namespace
}  // namespace keelback::core
