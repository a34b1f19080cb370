#include "bench/line_process.h"

#include <gtest/gtest.h>

#include "os/process.h"

namespace keelback::bench {
namespace {

// Goal: a program that ends before it is asked is an error; the one who asks lives.
TEST(LineProcess, OneThatIsGoneIsAnErrorAndNoSignal) {
  auto process = LineProcess::start({"/bin/true"});
  ASSERT_TRUE(process) << process.error();
  auto handle = os::Pidfd::open(process->pid());
  ASSERT_TRUE(handle);
  ASSERT_TRUE(handle->wait_dead(std::chrono::seconds(20)).value_or(false));
  const auto answer = process->ask({{"op", "hello"}});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error(), "the process is gone");
}

TEST(LineProcess, AnswersLineByLine) {
  auto process = LineProcess::start(
      {"/bin/sh", "-c", R"(while read -r line; do echo "{\"ok\":true,\"got\":$line}"; done)"});
  ASSERT_TRUE(process) << process.error();
  for (int i = 0; i < 3; ++i) {
    const auto answer = process->ask({{"n", i}});
    ASSERT_TRUE(answer) << answer.error();
    EXPECT_EQ((*answer)["got"]["n"], i);
  }
}

}  // namespace
}  // namespace keelback::bench
