#include "host/turn_watch.h"

#include <gtest/gtest.h>

#include <chrono>

namespace keelback::host {
namespace {

using namespace std::chrono_literals;

constexpr CallId kAnn{1}, kBob{2};

// A look every 25 ms at a loop's thread, which has run and waited for so long by then.
class TurnWatchTest : public testing::Test {
 protected:
  TurnWatch::Seen look(Time turn, CallId call = kAnn, char state = 'S') {
    return look_after(25ms, turn, call, state);
  }
  TurnWatch::Seen look_after(Duration pause, Time turn, CallId call = kAnn, char state = 'S') {
    now += pause;
    return watch.look(
        {.now = now, .planned = 25ms, .turn = turn, .call = call, .use = use, .state = state});
  }
  TurnWatch watch;
  Time now = at(10s);
  os::ProcessorUse use{1s, 1s};
};

// Goal: a turn is as long as it is, and a loop that waits for events is not late.
TEST_F(TurnWatchTest, ATurnIsMeasuredFromItsBegin) {
  EXPECT_EQ(look(Time{}).lag, 0ms);
  const Time turn = now + 10ms;
  EXPECT_EQ(look(turn).lag, 15ms);
  EXPECT_EQ(look(turn).lag, 40ms);
  EXPECT_EQ(look(turn).steady, 50ms);
  EXPECT_EQ(look(Time{}).lag, 0ms);
  EXPECT_EQ(look(now + 20ms).lag, 5ms) << "another one";
}

// Goal: time without a processor does not count: neither what the kernel has counted, nor a wait
// that goes on.
TEST_F(TurnWatchTest, TimeWithoutAProcessorDoesNotCount) {
  look(Time{});
  const Time turn = now + 5ms;
  use.waited += 10ms;
  EXPECT_EQ(look(turn).lag, 10ms);
  use.waited += 25ms;
  EXPECT_EQ(look(turn).lag, 10ms);
  EXPECT_EQ(look(turn, kAnn, 'R').lag, 10ms) << "ready to run, and it has not run";
  use.waited += 50ms;  // now the kernel has counted that wait
  EXPECT_EQ(look(turn, kAnn, 'R').lag, 10ms);
  use.ran += 25ms;
  const TurnWatch::Seen seen = look(turn, kAnn, 'R');
  EXPECT_EQ(seen.lag, 35ms);
  EXPECT_TRUE(seen.runs);
  EXPECT_FALSE(look(turn).runs);
}

// Goal: what was stopped, or what nobody could look at, is not late for that.
TEST_F(TurnWatchTest, TimeInWhichItWasStoppedOrNobodyLookedDoesNotCount) {
  look(Time{});
  const Time turn = now + 5ms;
  EXPECT_EQ(look(turn).lag, 20ms);
  EXPECT_EQ(look(turn, kAnn, 'T').lag, 20ms);
  EXPECT_EQ(look(turn, kAnn, 'T').lag, 20ms);
  EXPECT_EQ(look(turn).lag, 20ms) << "it may have gone on just now";
  EXPECT_EQ(look(turn).lag, 45ms);
  EXPECT_EQ(look_after(10s, turn).lag, 70ms) << "this process was stopped, or had no processor";
  EXPECT_EQ(look_after(60ms, turn).lag, 130ms) << "a little late is not held up";
}

// Goal: the first look has seen nothing come, so it accuses nobody.
TEST_F(TurnWatchTest, TheFirstLookKnowsNoPast) {
  const Time turn = now - 5s;
  EXPECT_EQ(look(turn).lag, 0ms);
  EXPECT_EQ(look(turn).lag, 25ms);
}

// Goal: of a turn in which many calls have a step each, no call is seen for long.
TEST_F(TurnWatchTest, ACallIsBlamedForTheTimeInWhichItIsSeen) {
  look(Time{});
  const Time turn = now + 1ms;
  look(turn, kAnn);
  EXPECT_EQ(look(turn, kBob).steady, 0ms);
  EXPECT_EQ(look(turn, kBob).steady, 25ms);
  EXPECT_EQ(look(turn, kAnn).steady, 0ms);
  EXPECT_EQ(look(now + 1ms, kAnn).steady, 0ms) << "in another turn";
}

}  // namespace
}  // namespace keelback::host
