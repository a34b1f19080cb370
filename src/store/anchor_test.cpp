// The second witness of a store: it says all that was acknowledged or says that it does not, and
// what it says is true, whatever happened to its file.
#include "store/anchor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "base/prng.h"
#include "store/proof.h"

namespace keelback::store {
namespace {

constexpr std::uint64_t kStore = 77;

class AnchorTest : public testing::Test {
 protected:
  AnchorTest() {
    char name[] = "/tmp/keelback-anchor-XXXXXX";
    directory_ = ::mkdtemp(name);
    path_ = directory_ + "/store-anchor";
  }
  ~AnchorTest() override { std::filesystem::remove_all(directory_); }

  Anchor make(std::uint64_t committed = 0, const AnchorChanges& contents = {}) {
    auto anchor = Anchor::make(path_, kStore, committed, contents);
    EXPECT_TRUE(anchor) << anchor.error().message();
    return std::move(*anchor);
  }
  std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& bytes) const {
    std::filesystem::remove(path_);  // a file that is truncated is synced by ext4 when it is closed
    std::ofstream(path_, std::ios::binary) << bytes;
  }

  std::string directory_, path_;
};

AnchorChanges put(const std::string& session, std::uint64_t birth, std::uint64_t number,
                  AnchorChanges changes = {}) {
  changes.put(session, birth, number, birth * 1000 + number);
  return changes;
}
AnchorChanges stale(std::uint64_t birth) {
  AnchorChanges changes;
  changes.mark_stale(birth);
  return changes;
}

// Goal: what was committed is found again, and nothing else; a drop is a drop, a later row replaces
// an earlier one, and a mark holds until the session is stored anew.
TEST_F(AnchorTest, SaysWhatWasCommitted) {
  EXPECT_EQ(Anchor::read(path_).health, Anchor::Health::kMissing);
  {
    Anchor anchor = make(4, put("old", 9, 1, put(std::string(256, 'n'), 8, 2)));
    ASSERT_TRUE(anchor.commit(5, put("ann", 1, 3)));
    AnchorChanges changes;
    changes.drop(9);
    changes.put("ann", 1, 4, 1004);
    changes.put("bob", 2, 5, 2005);
    changes.put("cyd", 3, 6, 3006);
    ASSERT_TRUE(anchor.commit(6, changes));
    ASSERT_TRUE(anchor.give_up(7, stale(2)));
    ASSERT_TRUE(anchor.give_up(8, stale(3)));
  }
  Anchor::Found found = Anchor::read(path_);
  EXPECT_EQ(found.health, Anchor::Health::kGood);
  EXPECT_EQ(found.store, kStore);
  EXPECT_EQ(found.committed, 6u);
  EXPECT_EQ(found.used, 8u);
  EXPECT_EQ(found.void_from, 7u);
  ASSERT_EQ(found.entries.size(), 4u);
  EXPECT_EQ(found.entries[1].session, "ann");
  EXPECT_EQ(found.entries[1].number, 4u);
  EXPECT_EQ(found.entries[1].proof, 1004u);
  EXPECT_EQ(found.entries[8].session, std::string(256, 'n'));
  EXPECT_EQ(found.entries[2].mark, Anchor::Mark::kStale);
  EXPECT_EQ(found.entries[2].marked_at, 7u);

  auto again = Anchor::resume(path_, found);
  ASSERT_TRUE(again);
  ASSERT_TRUE(again->commit(9, put("bob", 2, 7)));
  found = Anchor::read(path_);
  EXPECT_EQ(found.health, Anchor::Health::kGood);
  EXPECT_EQ(found.entries[2].mark, Anchor::Mark::kNone);
  EXPECT_EQ(found.void_from, 0u) << "what was void is overwritten";
  EXPECT_EQ(found.entries[3].mark, Anchor::Mark::kStale);
}

// Goal: failures that go on for days need no room, and a full disk leaves room for what is out of
// date.
TEST_F(AnchorTest, FailuresNeedNoRoom) {
  Anchor anchor = make();
  const std::uint64_t size = std::filesystem::file_size(path_);
  for (std::uint64_t number = 1; number <= 10'000; ++number) {
    ASSERT_TRUE(anchor.give_up(number, {}));
  }
  for (std::uint64_t birth = 1; birth <= 500; ++birth) {
    ASSERT_TRUE(anchor.give_up(10'000 + birth, stale(birth)));
  }
  EXPECT_EQ(std::filesystem::file_size(path_), size);
  const Anchor::Found found = Anchor::read(path_);
  EXPECT_EQ(found.health, Anchor::Health::kGood);
  EXPECT_EQ(found.void_from, 1u);
  EXPECT_EQ(found.used, 10'500u);
  EXPECT_EQ(found.entries.size(), 500u);
}

// Goal: it grows in steps, before it has to, and asks to be written anew when it is mostly history.
TEST_F(AnchorTest, GrowsAndAsksToBeRewritten) {
  Anchor anchor = make();
  std::uint64_t number = 0;
  while (!anchor.wants_rewrite()) {
    const AnchorChanges changes = put("ann", 1, ++number);
    ASSERT_TRUE(anchor.reserve(changes));
    const std::uint64_t size = std::filesystem::file_size(path_);
    ASSERT_TRUE(anchor.commit(number, changes));
    ASSERT_EQ(std::filesystem::file_size(path_), size) << "the blocks were there before";
    ASSERT_LT(number, 100'000u);
  }
  anchor = make(number, put("ann", 1, number));
  EXPECT_FALSE(anchor.wants_rewrite());
  EXPECT_LT(std::filesystem::file_size(path_), 64u << 10);
  EXPECT_EQ(Anchor::read(path_).committed, number);
}

// Goal: the file is its owner's alone.
TEST_F(AnchorTest, IsItsOwnersAlone) {
  make();
  struct stat stat{};
  ASSERT_EQ(::stat(path_.c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 0777, 0600u);
}

// Goal: what is no anchor is a damaged one, and is read in a bounded time: a directory, a pipe, an
// empty file, garbage, a file of more than any anchor has. A later version's is told.
TEST_F(AnchorTest, WhatIsNoAnchorIsDamaged) {
  std::filesystem::create_directory(path_);
  EXPECT_EQ(Anchor::read(path_).health, Anchor::Health::kDamaged);
  std::filesystem::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(Anchor::read(path_).health, Anchor::Health::kDamaged);
  std::filesystem::remove(path_);
  for (const std::string& content : {std::string(), std::string(100'000, '\x5a')}) {
    write(content);
    EXPECT_EQ(Anchor::read(path_).health, Anchor::Health::kDamaged);
  }
  make();
  std::filesystem::resize_file(path_, 1ULL << 40);
  EXPECT_EQ(Anchor::read(path_).health, Anchor::Health::kDamaged);

  std::filesystem::remove(path_);
  make();
  std::string later = bytes();
  later[8] = 9;  // the version, and the sum over version, store and base
  std::uint64_t base = 0;
  std::memcpy(&base, later.data() + 24, sizeof base);
  const std::uint64_t check = Proof(0).number(9).number(kStore).number(base).value();
  std::memcpy(later.data() + 32, &check, sizeof check);
  write(later);
  EXPECT_EQ(Anchor::read(path_).health, Anchor::Health::kLater);
  EXPECT_EQ(Anchor::read(path_).version, 9u);
}

// Goal: whatever is done to the file, it never says what was not so: every row that it names was
// committed once, and an anchor that says it is good or torn is a whole beginning of what was
// written. Damage that has intact records behind it is seen.
TEST_F(AnchorTest, NeverSaysWhatWasNotSo) {
  std::map<std::uint64_t, Anchor::Found> history;  // by the last commit
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::string> written;
  std::vector<std::uint64_t> ends;  // of each record
  {
    AnchorChanges base;
    for (std::uint64_t birth = 1; birth <= 20; ++birth) {
      base.put("s" + std::to_string(birth), birth, 1, birth);
      written[{birth, 1}] = "s" + std::to_string(birth);
    }
    Anchor anchor = make(1, base);
    history[1] = Anchor::read(path_);
    for (std::uint64_t number = 2; number <= 60; ++number) {
      const std::uint64_t birth = number % 25 + 1;
      AnchorChanges changes;
      if (number % 7 == 0) changes.drop(birth);
      changes.put("s" + std::to_string(birth), birth, number, birth * number);
      written[{birth, number}] = "s" + std::to_string(birth);
      ASSERT_TRUE(anchor.commit(number, changes));
      history[number] = Anchor::read(path_);
    }
  }
  const std::string good = bytes().substr(0, history[60].bytes + 64);
  const std::uint64_t base = history[1].bytes;
  const std::uint64_t end = history[60].bytes;
  const std::uint64_t last = history[59].bytes;  // where the last record begins
  const std::uint64_t seed = 20260;
  RecordProperty("seed", std::to_string(seed));
  Prng prng(seed);
  for (int round = 0; round < 1000; ++round) {
    std::string damaged = good;
    const std::uint64_t at = prng.below(end);
    switch (round % 4) {
      case 0:
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << prng.below(8)));
        break;
      case 1:
        damaged.resize(at);
        break;
      case 2:
        for (std::uint64_t i = at / 512 * 512; i < std::min(end, at / 512 * 512 + 512); ++i) {
          damaged[i] = static_cast<char>(prng.next());
        }
        break;
      case 3:
        for (std::uint64_t i = at / 512 * 512; i < std::min(end, at / 512 * 512 + 512); ++i) {
          damaged[i] = '\0';
        }
        break;
    }
    write(damaged);
    const Anchor::Found found = Anchor::read(path_);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ", round " << round << ", byte " << at);
    for (const auto& [birth, entry] : found.entries) {
      ASSERT_TRUE(written.contains({birth, entry.number}));
      ASSERT_EQ(entry.session, (written[{birth, entry.number}]));
    }
    if (!found.is_usable()) continue;
    ASSERT_TRUE(history.contains(found.committed));
    const Anchor::Found& then = history[found.committed];
    ASSERT_EQ(found.entries.size(), then.entries.size());
    for (const auto& [birth, entry] : then.entries) {
      const auto now = found.entries.find(birth);
      ASSERT_TRUE(now != found.entries.end());
      ASSERT_EQ(now->second.number, entry.number);
    }
    ASSERT_GE(at, base) << "a base that is not whole says less than all";
    if (round % 4 == 0 && found.committed < 60) {
      ASSERT_GE(at, last) << "there were intact records behind it";
    }
  }
}

}  // namespace
}  // namespace keelback::store
