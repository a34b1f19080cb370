#include "fakeworker/script.h"

#include <gtest/gtest.h>

namespace keelback::fakeworker {
namespace {

TEST(Script, IsAPlainWorkerWhenItIsEmptyOrStandard) {
  EXPECT_EQ(parse_script(""), Script{});
  EXPECT_EQ(parse_script("standard"), Script{});
}

TEST(Script, KnowsEveryWord) {
  const auto script = parse_script(
      "import_ms=50,setup_ms=2000,slow_ms=3,fail=setup,exit_at=hello:7,hang_at=connect,"
      "crash_after_calls=0,garbage_after=1,half_frame_after=2,unclean_every=4,bad_version,"
      "duplicate_reply,zombie_nested,zombie_reply,ignore_shutdown,term_immune");
  ASSERT_TRUE(script) << script.error();
  EXPECT_EQ(*script, (Script{.import_ms = 50,
                             .setup_ms = 2000,
                             .slow_ms = 3,
                             .fail = Step::kSetup,
                             .exit_at = Script::Exit{Step::kHello, 7},
                             .hang_at = Step::kConnect,
                             .crash_after_calls = 0,
                             .garbage_after = 1,
                             .half_frame_after = 2,
                             .unclean_every = 4,
                             .bad_version = true,
                             .duplicate_reply = true,
                             .zombie_nested = true,
                             .zombie_reply = true,
                             .ignore_shutdown = true,
                             .term_immune = true}));
}

// Goal: a misspelt script is a failed start that says so, never a worker that quietly behaves.
TEST(Script, RefusesWhatItDoesNotKnowByName) {
  for (const char* wrong : {"impor_ms=5", "import_ms", "import_ms=", "import_ms=-1", "import_ms=5s",
                            "import_ms=2147483648", "fail=connect", "fail=ready", "exit_at=hello",
                            "exit_at=hello:256", "exit_at=:1", "hang_at=", "bad_version=1",
                            "standard,,bad_version", "examples/counter.py"}) {
    const auto script = parse_script(wrong);
    ASSERT_FALSE(script) << wrong;
    EXPECT_NE(script.error().find('\''), std::string::npos);
  }
}

}  // namespace
}  // namespace keelback::fakeworker
