#include "host/slab_shelf.h"

#include <gtest/gtest.h>

namespace keelback::host {
namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t kKiB = 1 << 10;
constexpr std::uint64_t kMiB = 1 << 20;

struct SlabShelfTest : testing::Test {
  SlabBudget budget{4 * kMiB};
  SlabShelf shelf{budget};
  std::vector<std::uint32_t> dropped;

  SlabShelf::Place place(Duration now, std::uint64_t bytes) {
    const auto placed = shelf.place(at(now), bytes, dropped);
    EXPECT_TRUE(placed);
    return placed.value_or(SlabShelf::Place{});
  }
};

TEST(SlabSize, WastesAtMostAQuarterAndNeverFallsShort) {
  EXPECT_EQ(slab_size(1), 64 * kKiB);
  EXPECT_EQ(slab_size(64 * kKiB), 64 * kKiB);
  EXPECT_EQ(slab_size(64 * kKiB + 1), 128 * kKiB);
  EXPECT_EQ(slab_size(kMiB), kMiB);
  EXPECT_EQ(slab_size(kMiB + 1), kMiB + 256 * kKiB);
  for (std::uint64_t bytes = 256 * kKiB; bytes < 64 * kMiB; bytes = bytes * 9 / 8 + 13) {
    EXPECT_GE(slab_size(bytes), bytes);
    EXPECT_LE(slab_size(bytes), bytes + bytes / 4 + 1) << bytes;
    EXPECT_EQ(slab_size(bytes) % (64 * kKiB), 0u);
  }
}

// Goal: a worker that asks for the moon gets none; its number does not wrap into a small slab.
TEST_F(SlabShelfTest, RefusesSizesThatNoMemoryHas) {
  for (const std::uint64_t bytes : {UINT64_MAX, UINT64_MAX - kMiB, std::uint64_t{1} << 62}) {
    EXPECT_GE(slab_size(bytes), bytes);
    EXPECT_FALSE(shelf.grow(at(0s), bytes)) << bytes;
  }
  EXPECT_EQ(budget.used(), 0u);
}

// Goal: warm slabs are used again, the smallest that fits first, and no two attachments of one call
// share one.
TEST_F(SlabShelfTest, UsesTheSmallestFreeSlabThatFits) {
  shelf.begin_call();
  const auto large = place(0s, kMiB);
  const auto small = place(0s, 100 * kKiB);
  EXPECT_TRUE(large.fresh && small.fresh);
  EXPECT_NE(large.slab, small.slab);

  shelf.begin_call();
  const auto again = place(1s, 90 * kKiB);
  EXPECT_EQ(again.slab, small.slab);
  EXPECT_FALSE(again.fresh);
  EXPECT_EQ(place(1s, 90 * kKiB).slab, large.slab) << "the small one is taken, the large one fits";
  EXPECT_TRUE(place(1s, 90 * kKiB).fresh) << "both are taken";
  EXPECT_TRUE(dropped.empty());
  EXPECT_EQ(budget.used(), shelf.bytes());
}

// Goal: a full budget is shared fairly with oneself: free slabs that are too small make room, taken
// and kept ones never do, and then there is none, which costs nobody anything.
TEST_F(SlabShelfTest, MakesRoomFromItsOwnFreeSlabsOnly) {
  shelf.begin_call();
  const auto first = place(0s, kMiB);
  const auto second = place(1s, kMiB);
  shelf.begin_call();
  EXPECT_EQ(place(2s, kMiB).slab, first.slab);
  const auto wide = place(2s, 3 * kMiB);
  EXPECT_TRUE(wide.fresh);
  EXPECT_EQ(dropped, std::vector{second.slab});
  EXPECT_EQ(budget.used(), 4 * kMiB);
  EXPECT_FALSE(shelf.place(at(2s), 64 * kKiB, dropped));
  EXPECT_FALSE(shelf.grow(at(2s), 64 * kKiB));
  EXPECT_EQ(dropped.size(), 1u) << "nothing was dropped in vain";

  ASSERT_TRUE(shelf.keep(wide.slab));
  shelf.begin_call();
  EXPECT_FALSE(shelf.place(at(3s), 3 * kMiB, dropped)) << "a kept slab counts";
  EXPECT_EQ(shelf.count(), 1u) << "the free one was worth trying";
}

// Goal: what user code still looks at is never written to again, and comes back only when the
// worker says so.
TEST_F(SlabShelfTest, AKeptSlabCountsUntilItIsFreed) {
  shelf.begin_call();
  const auto kept = place(0s, kMiB);
  EXPECT_TRUE(shelf.keep(kept.slab));
  EXPECT_FALSE(shelf.keep(kept.slab)) << "once";
  EXPECT_FALSE(shelf.keep(99)) << "no such slab";
  EXPECT_FALSE(shelf.used(at(0s), kept.slab, 0, 1)) << "and no result comes in it";
  shelf.begin_call();
  EXPECT_NE(place(1s, kMiB).slab, kept.slab);
  EXPECT_EQ(shelf.drop_unused_since(at(1h)).size(), 1u);
  EXPECT_EQ(budget.used(), kMiB);
  EXPECT_TRUE(shelf.freed(kept.slab));
  EXPECT_FALSE(shelf.freed(kept.slab));
  EXPECT_EQ(budget.used(), 0u);
}

// Goal: after a burst the shelf shrinks to what is in use; a result counts as use.
TEST_F(SlabShelfTest, DropsWhatNobodyHasUsed) {
  shelf.begin_call();
  const auto a = place(0s, kMiB);
  const auto b = place(0s, kMiB);
  const auto c = place(0s, kMiB);
  shelf.begin_call();
  EXPECT_EQ(place(5s, kMiB).slab, a.slab);
  EXPECT_TRUE(shelf.used(at(6s), b.slab, 0, kMiB));
  EXPECT_EQ(shelf.drop_unused_since(at(0s)), std::vector{c.slab});
  EXPECT_EQ(shelf.drop_unused_since(at(5s)), std::vector{a.slab});
  EXPECT_EQ(budget.used(), kMiB);
}

TEST_F(SlabShelfTest, ResultsLieInsideOfTheirSlab) {
  const auto slab = shelf.grow(at(0s), 64 * kKiB);
  ASSERT_TRUE(slab);
  EXPECT_TRUE(shelf.used(at(0s), slab->slab, 0, 64 * kKiB));
  EXPECT_FALSE(shelf.used(at(0s), slab->slab, 1, 64 * kKiB));
  EXPECT_FALSE(shelf.used(at(0s), slab->slab, UINT64_MAX, 2));
  EXPECT_FALSE(shelf.used(at(0s), slab->slab + 1, 0, 1));
}

TEST_F(SlabShelfTest, HoldsAtMostSoManyAndGivesEverythingBack) {
  budget.set_limit(1ULL << 40);
  for (std::size_t i = 0; i < SlabShelf::kSlabsMax; ++i) ASSERT_TRUE(shelf.grow(at(0s), 1));
  EXPECT_FALSE(shelf.grow(at(0s), 1));
  shelf.forget(1);
  EXPECT_EQ(budget.used(), (SlabShelf::kSlabsMax - 1) * 64 * kKiB);
  shelf.clear();
  EXPECT_EQ(budget.used(), 0u);
}

// Goal: a limit that falls below what is in use refuses newcomers and breaks nothing.
TEST(SlabBudget, ObeysALimitThatShrinks) {
  SlabBudget budget(100);
  EXPECT_TRUE(budget.take(100));
  EXPECT_FALSE(budget.take(1));
  budget.set_limit(50);
  EXPECT_FALSE(budget.take(1));
  budget.give(60);
  EXPECT_TRUE(budget.take(10));
  EXPECT_FALSE(budget.take(1));
}

}  // namespace
}  // namespace keelback::host
