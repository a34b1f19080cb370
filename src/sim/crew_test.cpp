#include "sim/crew.h"

#include <gtest/gtest.h>

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

constexpr Time at(Duration since_start) { return Time{since_start}; }
constexpr WorkerId kWorker{1, 1};

// The answer of a call of `function` that is told to stop a second after its dispatch.
template <class Stop>
Said stopped(const char* function, Stop stop) {
  Schedule schedule;
  Crew crew({}, 1, schedule);
  crew.start(at(0s), kWorker);
  while (crew.fire(schedule.pop()).kind != Said::Kind::kReady) {
  }
  const core::Dispatch dispatch{.worker = kWorker, .call = CallId{7}};
  crew.dispatch(at(1s), dispatch, {.function = function, .payload = "[600000]"}, false, nullptr);
  stop(crew);
  for (;;) {
    Said said = crew.fire(schedule.pop());
    if (said.kind == Said::Kind::kReplied) return said;
  }
}

// Goal: like a Python worker, the model says of a reply whether an interrupt ended the call. A
// cancel that the function heeds, and an interrupt that it does not notice, are none.
TEST(Crew, SaysWhetherAnInterruptEndedTheCall) {
  const Said interrupted =
      stopped("spin", [](Crew& crew) { crew.interrupt(at(2s), kWorker, CallId{7}); });
  EXPECT_EQ(interrupted.reply, core::ReplyKind::kCancelled);
  EXPECT_TRUE(interrupted.interrupted);
  EXPECT_EQ(interrupted.python.type, "KeyboardInterrupt");

  const Said held = stopped("hold", [](Crew& crew) { crew.interrupt(at(2s), kWorker, CallId{7}); });
  EXPECT_EQ(held.reply, core::ReplyKind::kOk);
  EXPECT_FALSE(held.interrupted);

  const Said napping = stopped("nap", [](Crew& crew) {
    crew.cancel(at(2s), kWorker, CallId{7});
    crew.interrupt(at(3s), kWorker, CallId{7});
  });
  EXPECT_TRUE(napping.interrupted);

  const Said late = stopped("spin", [](Crew&) {});
  EXPECT_FALSE(late.interrupted);
}

}  // namespace
}  // namespace keelback::sim
