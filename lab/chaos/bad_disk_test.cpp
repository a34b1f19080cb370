// A session store on a disk that is spoilt under it: the refusals are real ones to SQLite, and what
// was stored before is there again when the disk is well.
#include "chaos/bad_disk.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>

#include "store/sqlite_store.h"
#include "support/waiting.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class BadDiskTest : public testing::Test {
 protected:
  BadDiskTest() {
    std::string pattern = (fs::temp_directory_path() / "keelback-disk-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    store_ = open("s.db");
  }
  ~BadDiskTest() override {
    store_.reset();
    fs::remove_all(directory_);
  }

  std::unique_ptr<store::SqliteStore> open(const std::string& name) {
    auto opened = store::SqliteStore::open({.path = directory_ + "/" + name, .bytes_max = 1 << 20});
    EXPECT_TRUE(opened) << opened.error();
    return opened ? std::move(*opened) : nullptr;
  }
  // What the disk has at this moment, under another name: as after a crash.
  void crash_into(const std::string& name, const std::string& of = "s.db") {
    for (const char* suffix : {"", "-wal", "-stale", "-anchor"}) {
      const fs::path from = directory_ + "/" + of + suffix;
      if (fs::exists(from)) fs::copy_file(from, directory_ + "/" + name + suffix);
    }
  }
  bool keep(const std::string& session, std::uint64_t birth, std::uint64_t number = 1) {
    store::Record record{.session = session, .birth = birth, .epoch = 1, .number = number};
    record.snapshot.state = std::make_shared<const std::string>("{\"n\":1}");
    auto kept = std::make_shared<std::promise<bool>>();
    auto answer = kept->get_future();
    const auto at_once =
        store_->keep(std::move(record), [kept](bool done) { kept->set_value(done); });
    return at_once ? *at_once : answer.get();
  }

  bool fetch(const std::string& session, std::uint64_t birth) {
    std::promise<store::Fetched> fetched;
    store_->fetch(session, birth, 1, [&](store::Fetched found) { fetched.set_value(found); });
    return fetched.get_future().get().snapshot.has_value();
  }

  BadDisk disk_;  // before the store
  std::string directory_;
  std::unique_ptr<store::SqliteStore> store_;
};

TEST_F(BadDiskTest, AFullDiskIsOneToTheStoreAndTheRefusalsAreCounted) {
  ASSERT_TRUE(store_);
  ASSERT_TRUE(keep("before", 1));
  EXPECT_EQ(disk_.hits("full"), 0U);
  disk_.spoil({.fault = "full", .error = ENOSPC});
  EXPECT_FALSE(keep("during", 2));
  EXPECT_GT(disk_.hits("full"), 0U);
  EXPECT_EQ(disk_.hits("another"), 0U);
  EXPECT_FALSE(store_->status().up);
  EXPECT_EQ(store_->status().error, "database or disk is full");
  disk_.mend();
  // It tries again after pauses.
  EXPECT_TRUE(test::eventually([&] { return keep("after", 3); }, 30s));
  EXPECT_TRUE(store_->status().up);
  EXPECT_EQ(store_->status().sessions, 2U) << "the one from before and the last one";
}

// Goal: a store that was killed while its disk was full starts on the full disk. What is good can
// be read, what is out of date is found by nobody and told as lost, and when there is room again it
// stores as if nothing had been.
TEST_F(BadDiskTest, AStartOnAFullDiskReadsWhatIsGoodAndReportsWhatIsLost) {
  ASSERT_TRUE(store_);
  ASSERT_TRUE(keep("good", 1));
  ASSERT_TRUE(keep("stale", 2));
  disk_.spoil({.fault = "full", .error = ENOSPC});
  ASSERT_FALSE(keep("stale", 2, 2));
  for (const char* crash : {"again.db", "and_again.db"}) {
    crash_into(crash);
    store_.reset();
    store_ = open(crash);
    ASSERT_TRUE(store_) << "it starts all the same";
    EXPECT_FALSE(store_->status().up);
    EXPECT_EQ(store_->status().error, "database or disk is full");
    const auto found = store_->take_found();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].session, "good");
    EXPECT_EQ(store_->take_lost(), std::vector<std::string>{"stale"});
    std::promise<store::Fetched> fetched;
    ASSERT_FALSE(store_->fetch("good", 1, 1, [&](auto state) { fetched.set_value(state); }));
    EXPECT_TRUE(fetched.get_future().get().snapshot) << "what cannot be written to can be read";
    EXPECT_FALSE(keep("stale", 3)) << "opened anew, and not stored";
    if (std::string_view(crash) == "again.db") {  // the next run begins where this one does
      for (const char* suffix : {"", "-wal", "-stale", "-anchor"}) {
        fs::copy_file(directory_ + "/again.db" + suffix, directory_ + "/s.db" + suffix,
                      fs::copy_options::overwrite_existing);
      }
    }
  }
  disk_.mend();
  EXPECT_TRUE(test::eventually([&] { return keep("stale", 3, 4); }, 30s));
  EXPECT_TRUE(store_->status().up);
  store_.reset();
  store_ = open("and_again.db");
  EXPECT_EQ(store_->take_found().size(), 2U);
  EXPECT_TRUE(store_->take_lost().empty()) << "what was out of date went with the first success";
}

// Goal: the same with no store there yet: it is made when the disk has room for it.
TEST_F(BadDiskTest, ANewStoreOnAFullDiskIsMadeLater) {
  disk_.spoil({.fault = "full", .error = ENOSPC});
  store_ = open("new.db");
  ASSERT_TRUE(store_);
  EXPECT_FALSE(store_->status().up);
  EXPECT_FALSE(keep("a", 1));
  const auto second =
      store::SqliteStore::open({.path = directory_ + "/new.db", .bytes_max = 1 << 20});
  ASSERT_FALSE(second) << "it has its owner already";
  disk_.mend();
  EXPECT_TRUE(test::eventually([&] { return keep("a", 1, 2); }, 30s));
  EXPECT_TRUE(store_->status().up);
  store_.reset();
  EXPECT_EQ(open("new.db")->take_found().size(), 1U);
}

// Goal: damage on a full disk is told as on any other, once, however often the store is killed
// there. What is good is read from the damaged file, until the disk takes a new one.
TEST_F(BadDiskTest, ADamagedRowOnAFullDiskIsToldAndSetAsideLater) {
  ASSERT_TRUE(keep("good", 1));
  ASSERT_TRUE(keep("bad", 2));
  ASSERT_TRUE(keep("worse", 3));
  store_.reset();
  {
    store::Connection tamper;
    ASSERT_EQ(tamper.open(directory_ + "/s.db"), 0);
    ASSERT_EQ(tamper.run("UPDATE sessions SET number = 99 WHERE birth = 2"), 0);
    tamper.finish();
  }
  disk_.spoil({.fault = "full", .error = ENOSPC});
  store_ = open("s.db");
  ASSERT_TRUE(store_);
  EXPECT_EQ(store_->take_lost(), std::vector<std::string>{"bad"});
  EXPECT_EQ(store_->status().set_aside, 1U);
  EXPECT_FALSE(store_->status().up);
  EXPECT_EQ(store_->take_found().size(), 2U);
  EXPECT_TRUE(fetch("good", 1)) << "from the damaged file";
  crash_into("again.db");

  store_.reset();
  store_ = open("again.db");
  EXPECT_TRUE(store_->take_lost().empty()) << "told already";
  ASSERT_EQ(store_->take_found().size(), 2U);
  EXPECT_TRUE(fetch("good", 1));
  EXPECT_FALSE(keep("worse", 3, 2)) << "its state is newer than what is stored";
  crash_into("third.db", "again.db");

  store_.reset();
  store_ = open("third.db");
  EXPECT_EQ(store_->take_lost(), std::vector<std::string>{"worse"});
  EXPECT_EQ(store_->take_found().size(), 1U);
  disk_.mend();
  EXPECT_TRUE(test::eventually([&] { return keep("good", 1, 2); }, 30s));
  store_.reset();
  store_ = open("third.db");
  EXPECT_EQ(store_->take_found().size(), 1U);
  EXPECT_TRUE(store_->take_lost().empty());
}

TEST_F(BadDiskTest, AFailingDiskIsAnotherError) {
  ASSERT_TRUE(store_);
  disk_.spoil({.fault = "fails", .error = EIO});
  EXPECT_FALSE(keep("a", 1));
  EXPECT_EQ(store_->status().error, "disk I/O error");
  EXPECT_GT(disk_.hits("fails"), 0U);
}

TEST_F(BadDiskTest, ADiskThatTurnsReadOnlyIsUsedAgainWhenItIsNot) {
  ASSERT_TRUE(keep("before", 1));
  disk_.spoil({.fault = "read_only", .error = EROFS});
  EXPECT_FALSE(keep("during", 2));
  EXPECT_FALSE(store_->status().up);
  EXPECT_FALSE(store_->status().error.empty());
  disk_.mend();
  EXPECT_TRUE(test::eventually([&] { return keep("after", 3); }, 30s));
  EXPECT_EQ(store_->status().sessions, 2U);
}

TEST_F(BadDiskTest, ASlowDiskKeepsWhatItIsGiven) {
  ASSERT_TRUE(store_);
  disk_.spoil({.fault = "slow", .delay = 1ms});
  EXPECT_TRUE(keep("a", 1));
  EXPECT_GT(disk_.hits("slow"), 0U);
  EXPECT_TRUE(store_->status().up);
}

}  // namespace
}  // namespace keelback::chaos
