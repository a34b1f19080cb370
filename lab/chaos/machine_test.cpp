#include "chaos/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace keelback::chaos {
namespace {

using testing::HasSubstr;

// Goal: what is read of this machine is of this machine: neither nothing nor more than there is.
TEST(Machine, IsDescribedAndLookedAt) {
  const MachineFacts facts = describe_machine();
  EXPECT_GE(facts.cpus, 1U);
  EXPECT_THAT(facts.kernel, HasSubstr("Linux "));
  EXPECT_FALSE(facts.version.empty());
  const MachineSample now = look_at_machine(std::filesystem::temp_directory_path());
  EXPECT_GT(now.memory_available, 0U);
  EXPECT_LE(now.memory_available, now.memory_total);
  EXPECT_GT(now.disk_total, 0U);
  EXPECT_LE(now.disk_available, now.disk_total);
}

TEST(Machine, TooLittleSaysOfWhatAndWhichKey) {
  constexpr HostGuard kGuard{.memory = Bytes{100}, .disk = Bytes{10}};
  MachineSample left{
      .memory_total = 1000, .memory_available = 100, .disk_total = 50, .disk_available = 10};
  EXPECT_FALSE(too_little(left, kGuard));
  --left.memory_available;
  EXPECT_THAT(too_little(left, kGuard).value_or(""), HasSubstr("stop.memory_below"));
  left.memory_available = 100;
  --left.disk_available;
  EXPECT_THAT(too_little(left, kGuard).value_or(""), HasSubstr("stop.disk_below"));
  EXPECT_FALSE(too_little({}, kGuard)) << "what is not known stops nothing";
}

}  // namespace
}  // namespace keelback::chaos
