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
    auto opened = store::SqliteStore::open(
        {.path = directory_ + "/s.db", .bytes_max = 1 << 20, .notice = {}});
    if (opened) store_ = std::move(*opened);
  }
  ~BadDiskTest() override {
    store_.reset();
    fs::remove_all(directory_);
  }

  bool keep(const std::string& session, std::uint64_t birth) {
    store::Record record{.session = session, .birth = birth, .epoch = 1, .number = 1};
    record.snapshot.state = std::make_shared<const std::string>("{\"n\":1}");
    auto kept = std::make_shared<std::promise<bool>>();
    auto answer = kept->get_future();
    const auto at_once =
        store_->keep(std::move(record), [kept](bool done) { kept->set_value(done); });
    return at_once ? *at_once : answer.get();
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

TEST_F(BadDiskTest, AFailingDiskIsAnotherError) {
  ASSERT_TRUE(store_);
  disk_.spoil({.fault = "fails", .error = EIO});
  EXPECT_FALSE(keep("a", 1));
  EXPECT_EQ(store_->status().error, "disk I/O error");
  EXPECT_GT(disk_.hits("fails"), 0U);
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
