#include "core/late_dumps.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

Time minute(int n) { return Time{std::chrono::minutes(n)}; }

// Goal: a dump can be read for ten minutes, not a moment longer.
TEST(LateDumps, KeepsADumpForTenMinutes) {
  LateDumps dumps;
  dumps.add(minute(0), CallId{7}, "stacks");
  EXPECT_EQ(dumps.find(minute(10) - 1ns, CallId{7}), "stacks");
  EXPECT_EQ(dumps.find(minute(10) - 1ns, CallId{8}), std::nullopt);
  EXPECT_EQ(dumps.find(minute(10), CallId{7}), std::nullopt);
}

// Goal: 256 dumps are kept, and the next one pushes out the oldest.
TEST(LateDumps, DropsTheOldestBeyondItsCount) {
  LateDumps dumps;
  for (std::uint64_t call = 1; call <= LateDumps::kCountMax; ++call) {
    dumps.add(minute(0), CallId{call}, "x");
  }
  EXPECT_EQ(dumps.find(minute(0), CallId{1}), "x");
  dumps.add(minute(0), CallId{1000}, "y");
  EXPECT_EQ(dumps.find(minute(0), CallId{1}), std::nullopt);
  EXPECT_EQ(dumps.find(minute(0), CallId{2}), "x");
  EXPECT_EQ(dumps.find(minute(0), CallId{1000}), "y");
  EXPECT_EQ(dumps.size(), LateDumps::kCountMax);
}

// Goal: 16 MiB are kept; one byte more pushes out the oldest, and one dump of more is not kept.
TEST(LateDumps, DropsTheOldestBeyondItsBytes) {
  LateDumps dumps;
  dumps.add(minute(0), CallId{1}, std::string(LateDumps::kBytesMax - 1, 'a'));
  dumps.add(minute(0), CallId{2}, "b");
  EXPECT_TRUE(dumps.find(minute(0), CallId{1}));
  dumps.add(minute(0), CallId{3}, "c");
  EXPECT_FALSE(dumps.find(minute(0), CallId{1}));
  EXPECT_EQ(dumps.find(minute(0), CallId{2}), "b");
  dumps.add(minute(0), CallId{4}, std::string(LateDumps::kBytesMax + 1, 'd'));
  EXPECT_EQ(dumps.size(), 0U);
}

}  // namespace
}  // namespace keelback::core
