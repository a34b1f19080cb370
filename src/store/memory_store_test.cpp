// The store in memory: one row a session, found by its number only, within its bounds.
#include "store/memory_store.h"

#include <gtest/gtest.h>

namespace keelback::store {
namespace {

Record row_of(std::string session, std::uint64_t birth, std::uint64_t number,
              std::string state = "{}") {
  Record record;
  record.session = std::move(session);
  record.birth = birth;
  record.number = number;
  record.snapshot.state = std::make_shared<const std::string>(std::move(state));
  return record;
}

// Goal: a snapshot is found by birth and number, and by nothing that is near them.
TEST(MemoryStore, FindsTheSnapshotOfExactlyThatNumber) {
  MemoryStore store(1 << 20);
  EXPECT_EQ(store.keep(row_of("ann", 7, 1, "old"), nullptr), true);
  EXPECT_EQ(store.keep(row_of("ann", 7, 2, "new"), nullptr), true);
  const auto found = store.fetch("ann", 7, 2, nullptr);
  ASSERT_TRUE(found && found->snapshot);
  EXPECT_EQ(*found->snapshot->state, "new");
  EXPECT_TRUE(store.fetch("ann", 7, 1, nullptr)->gone) << "replaced";
  EXPECT_TRUE(store.fetch("ann", 8, 2, nullptr)->gone) << "another birth";
  EXPECT_TRUE(store.fetch("bob", 7, 2, nullptr)->gone);
  EXPECT_EQ(store.status().sessions, 1u);
}

// Goal: what was dropped is gone; the drop of an earlier birth takes nothing from a later one.
TEST(MemoryStore, DropsTheBirthThatWasNamed) {
  MemoryStore store(1 << 20);
  EXPECT_EQ(store.keep(row_of("ann", 8, 1), nullptr), true);
  EXPECT_EQ(store.drop("ann", 7, nullptr), true);
  EXPECT_FALSE(store.fetch("ann", 8, 1, nullptr)->gone);
  EXPECT_EQ(store.drop("ann", 8, nullptr), true);
  EXPECT_TRUE(store.fetch("ann", 8, 1, nullptr)->gone);
  EXPECT_EQ(store.status().bytes, 0u);
}

// Goal: a full store refuses, says so once, and leaves nothing of the session that is out of date.
TEST(MemoryStore, RefusesWhatIsTooMuchAndKeepsNothingStale) {
  int notices = 0;
  Record small = row_of("ann", 7, 1, std::string(100, 'x'));
  MemoryStore store(2 * bytes_of(small), [&](bool, const std::string&) { ++notices; });
  EXPECT_EQ(store.keep(small, nullptr), true);
  EXPECT_EQ(store.keep(row_of("bob", 8, 2, std::string(100, 'x')), nullptr), true)
      << "exactly at the bound";
  EXPECT_EQ(store.keep(row_of("bob", 8, 3, std::string(101, 'x')), nullptr), false);
  EXPECT_EQ(store.keep(row_of("cyd", 9, 4, std::string(100, 'x')), nullptr), true)
      << "bob's older row made room";
  EXPECT_TRUE(store.fetch("bob", 8, 2, nullptr)->gone) << "out of date";
  EXPECT_EQ(store.keep(row_of("dan", 10, 5), nullptr), false);
  EXPECT_EQ(notices, 2) << "once for each time that it became full";
  EXPECT_EQ(store.status().failed, 2u);
  store.set_bytes_max(1 << 20);
  EXPECT_EQ(store.keep(row_of("dan", 10, 6), nullptr), true) << "the bound is live";
}

}  // namespace
}  // namespace keelback::store
