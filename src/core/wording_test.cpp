#include "core/wording.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

TEST(Wording, NamesEveryDeath) {
  Death death;
  EXPECT_EQ(describe(death), "an unknown cause");
  death.cause = "signal";
  death.signal = 9;
  death.oom_suspected = true;
  EXPECT_EQ(describe(death), "signal 9, perhaps out of memory");
  death = {};
  death.cause = "exit";
  death.exit_code = 3;
  EXPECT_EQ(describe(death), "exit code 3");
  death = {};
  death.cause = "start_failed";
  death.step = "setup";
  death.detail = "no such module";
  EXPECT_EQ(describe(death), "a failed start (at setup): no such module");
  death.detail.clear();
  death.exit_code = 7;
  EXPECT_EQ(describe(death), "a failed start (at setup): exit code 7");
}

TEST(Wording, WritesDurationsShort) {
  EXPECT_EQ(describe(200ms), "200ms");
  EXPECT_EQ(describe(5s), "5s");
  EXPECT_EQ(describe(1500ms), "1.5s");
  EXPECT_EQ(describe(Duration(17)), "17ns");
}

TEST(Wording, SaysWhatToDoAboutAnEndedSession) {
  EXPECT_EQ(session_over(SessionOver::kIdle, "ann", 200ms, nullptr),
            "Session \"ann\" was idle for sessions.idle_ttl (200ms) and has expired; the next call "
            "that may open it begins it anew.");
  Death death;
  death.cause = "signal";
  death.signal = 11;
  EXPECT_EQ(session_over(SessionOver::kLost, "ann", {}, &death),
            "Session \"ann\" and its state are lost (its worker ended: signal 11); the next call "
            "that may open it begins it anew, with empty state.");
  EXPECT_EQ(
      session_over(SessionOver::kLost, "ann", {}, nullptr),
      "Session \"ann\" and its state are lost (nothing usable is stored of it); the next call "
      "that may open it begins it anew, with empty state.");
}

}  // namespace
}  // namespace keelback::core
