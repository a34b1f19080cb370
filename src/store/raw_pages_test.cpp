// Pages read without SQLite: what SQLite has written is read as SQLite reads it, from the file and
// from the log; bytes that are no pages are nothing.
#include "store/raw_pages.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/prng.h"
#include "store/sqlite.h"
#include "store/test_directory.h"

namespace keelback::store {
namespace {

class RawPagesTest : public testing::Test {
 protected:
  RawPagesTest() {
    directory_ = make_test_directory();
    path_ = directory_ + "/x.db";
  }
  ~RawPagesTest() override { std::filesystem::remove_all(directory_); }
  // The rows of three columns: integer, integer, blob; each value that any image has.
  std::map<std::int64_t, std::set<std::pair<std::int64_t, std::string>>> rows() const {
    std::map<std::int64_t, std::set<std::pair<std::int64_t, std::string>>> rows;
    const RawPages pages(path_, path_ + "-wal");
    pages.each_cell([&](RawPages::Place place, std::string_view local) {
      const auto head = RawRecord::parse(local);
      if (!head || head->columns() != 3) return;
      const auto payload = pages.payload(place);
      if (!payload) return;
      const auto record = RawRecord::parse(*payload);
      ASSERT_TRUE(record);
      EXPECT_FALSE(record->integer(2));
      EXPECT_FALSE(record->blob(0));
      rows[*record->integer(0)].emplace(*record->integer(1), std::string(*record->blob(2)));
    });
    return rows;
  }
  std::string directory_, path_;
};

// Goal: integers of every size and sign, blobs in the leaf, at its edge and over many further
// pages; older values in the file beside newer ones in the log.
TEST_F(RawPagesTest, ReadWhatSqliteWrote) {
  const std::int64_t numbers[] = {0,
                                  1,
                                  -1,
                                  127,
                                  -128,
                                  32767,
                                  -32768,
                                  8388607,
                                  -8388608,
                                  2147483647,
                                  -2147483648LL,
                                  140737488355327LL,
                                  -140737488355328LL,
                                  INT64_MAX,
                                  INT64_MIN};
  std::map<std::int64_t, std::pair<std::int64_t, std::string>> written;
  Connection db;
  ASSERT_EQ(db.open(path_), 0);
  db.run("PRAGMA page_size = 4096");
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA wal_autocheckpoint = 0");
  ASSERT_EQ(db.run("CREATE TABLE t (a INTEGER, b INTEGER, c BLOB)"), 0);
  Statement put = db.prepare("INSERT INTO t VALUES (?,?,?)");
  std::int64_t key = 0;
  const auto add = [&](std::int64_t number, std::size_t bytes) {
    const std::string blob(bytes, static_cast<char>('a' + key % 26));
    written[++key] = {number, blob};
    ASSERT_EQ(put.bind(key).bind(number).bind_blob(blob).run(), 101);
  };
  for (const std::int64_t number : numbers) add(number, 3);
  for (std::size_t bytes = 4000; bytes < 4120; ++bytes) add(7, bytes);
  for (std::size_t bytes = 8100; bytes < 8250; bytes += 3) add(8, bytes);
  for (const std::size_t bytes : {0, 1, 12'000, 100'000, 3'000'000}) add(9, bytes);
  for (const bool checkpointed : {false, true}) {
    if (checkpointed) db.run("PRAGMA wal_checkpoint(TRUNCATE)");
    const auto read = rows();
    ASSERT_EQ(read.size(), written.size());
    for (const auto& [each, row] : written) EXPECT_TRUE(read.at(each).contains(row)) << each;
  }
  db.run("UPDATE t SET b = 70, c = zeroblob(50000) WHERE b = 7");
  const auto read = rows();
  for (const auto& [each, row] : written) {
    EXPECT_TRUE(read.at(each).contains(row)) << "still in the file: " << each;
    if (row.first == 7) {
      EXPECT_TRUE(read.at(each).contains({70, std::string(50'000, '\0')})) << each;
    }
  }
}

// Goal: no bytes are too strange: noise, noise behind a leaf's first byte, files that are cut.
TEST_F(RawPagesTest, NoiseIsNothing) {
  EXPECT_TRUE(rows().empty()) << "no file";
  Prng prng(3);
  for (int round = 0; round < 200; ++round) {
    for (const char* suffix : {"", "-wal"}) {
      std::string bytes(prng.below(40'000), '\0');
      for (char& byte : bytes) byte = static_cast<char>(prng.next());
      const std::size_t head = *suffix == 0 ? 0 : 32 + 24;
      for (std::size_t at = head; at < bytes.size(); at += *suffix == 0 ? 4096 : 4120) {
        bytes[at] = 0x0d;
        if (at + 4 < bytes.size()) bytes[at + 3] = 0;
      }
      std::ofstream(path_ + suffix, std::ios::binary | std::ios::trunc) << bytes;
    }
    const RawPages pages(path_, path_ + "-wal");
    pages.each_cell([&](RawPages::Place place, std::string_view local) {
      if (const auto record = RawRecord::parse(local)) {
        for (std::size_t i = 0; i < record->columns(); ++i) {
          static_cast<void>(record->integer(i));
          static_cast<void>(record->blob(i));
        }
      }
      static_cast<void>(pages.payload(place));
    });
  }
}

}  // namespace
}  // namespace keelback::store
