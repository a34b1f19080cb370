// The store on disk: what was answered is there in the next run, whatever happened in between; what
// is out of date or damaged never is.
#include "store/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>

namespace keelback::store {
namespace {

using ::testing::HasSubstr;

class SqliteStoreTest : public testing::Test {
 protected:
  SqliteStoreTest() {
    char name[] = "/tmp/keelback-store-XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~SqliteStoreTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/sessions.db"; }
  std::unique_ptr<SqliteStore> open(std::int64_t pages_max = 0,
                                    std::uint64_t bytes_max = 64 << 20) {
    auto store = SqliteStore::open({.path = path(),
                                    .bytes_max = bytes_max,
                                    .notice =
                                        [this](bool, const std::string& text) {
                                          const std::lock_guard lock(mutex_);
                                          notices_ += text + "\n";
                                        },
                                    .pages_max = pages_max});
    EXPECT_TRUE(store) << store.error();
    return store ? std::move(*store) : nullptr;
  }
  std::string notices() {
    const std::lock_guard lock(mutex_);
    return notices_;
  }
  // Runs SQL on the file of a closed store, as nobody ever should.
  void tamper(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path().c_str(), &db), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK)
        << (error != nullptr ? error : "");
    sqlite3_close(db);
  }
  std::int64_t count(const std::string& sql) {
    Connection db;
    EXPECT_EQ(db.open(path()), SQLITE_OK);
    return db.number(sql, -1);
  }
  // What the disk has at this moment, as after the death of its owner.
  void crash_into(const std::string& other) {
    for (const char* suffix : {"", "-wal", "-stale", "-anchor"}) {
      const std::string from = path() + suffix;
      if (std::filesystem::exists(from)) std::filesystem::copy_file(from, other + suffix);
    }
  }

  std::string directory_;
  std::mutex mutex_;
  std::string notices_;
};

Record record_of(std::string session, std::uint64_t birth, std::uint64_t number,
                 std::string state = "{}") {
  Record record;
  record.session = std::move(session);
  record.birth = birth;
  record.epoch = 3;
  record.number = number;
  record.mode = Affinity::kHint;
  record.opened_ms = 1000;
  record.used_ms = static_cast<std::int64_t>(2000 + number);
  record.snapshot.state = std::make_shared<const std::string>(std::move(state));
  return record;
}

bool keep(Store& store, Record record) {
  std::promise<bool> done;
  const auto at_once = store.keep(std::move(record), [&done](bool kept) { done.set_value(kept); });
  return at_once ? *at_once : done.get_future().get();
}
bool drop(Store& store, std::string session, std::uint64_t birth) {
  std::promise<bool> done;
  const auto at_once =
      store.drop(std::move(session), birth, [&done](bool gone) { done.set_value(gone); });
  return at_once ? *at_once : done.get_future().get();
}
Fetched fetch(Store& store, const std::string& session, std::uint64_t birth, std::uint64_t number) {
  std::promise<Fetched> done;
  auto at_once = store.fetch(session, birth, number,
                             [&done](Fetched found) { done.set_value(std::move(found)); });
  return at_once ? std::move(*at_once) : done.get_future().get();
}

// Goal: everything of a row comes back in the next run, in the order of use; the latest one of each
// session only.
TEST_F(SqliteStoreTest, ARowComesBackInTheNextRun) {
  Record full = record_of("ann \xc3\xa9", 0xfeedfacecafebeef, 7, std::string("\0\xff{}", 4));
  full.snapshot.format = Format::kBytes;
  full.answer = {"key", 99, OutcomeKind::kError, "payload", "ValueError", "no", "Traceback"};
  {
    auto store = open();
    EXPECT_TRUE(store->take_found().empty());
    EXPECT_TRUE(keep(*store, record_of("ann \xc3\xa9", 0xfeedfacecafebeef, 6)));
    EXPECT_TRUE(keep(*store, full));
    EXPECT_TRUE(keep(*store, record_of("bob", 8, 3)));
    EXPECT_TRUE(keep(*store, record_of("cyd", 9, 4)));
    EXPECT_TRUE(drop(*store, "cyd", 9));
    EXPECT_EQ(store->status().sessions, 2u);
  }
  auto store = open();
  const auto found = store->take_found();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].session, "bob") << "used first";
  const Record& ann = found[1];
  EXPECT_EQ(ann.session, full.session);
  EXPECT_EQ(ann.birth, full.birth);
  EXPECT_EQ(ann.epoch, 3u);
  EXPECT_EQ(ann.number, 7u);
  EXPECT_EQ(ann.mode, Affinity::kHint);
  EXPECT_EQ(ann.opened_ms, 1000);
  EXPECT_EQ(ann.used_ms, 2007);
  EXPECT_EQ(ann.answer.key, "key");
  EXPECT_EQ(ann.answer.fingerprint, 99u);
  EXPECT_EQ(ann.answer.kind, OutcomeKind::kError);
  EXPECT_EQ(ann.answer.payload, "payload");
  EXPECT_EQ(ann.answer.traceback, "Traceback");
  const Fetched state = fetch(*store, full.session, full.birth, 7);
  ASSERT_TRUE(state.snapshot);
  EXPECT_EQ(state.snapshot->format, Format::kBytes);
  EXPECT_EQ(*state.snapshot->state, std::string("\0\xff{}", 4));
  EXPECT_TRUE(fetch(*store, full.session, full.birth, 6).gone);
  EXPECT_TRUE(fetch(*store, full.session, full.birth + 1, 7).gone);
  EXPECT_TRUE(fetch(*store, "cyd", 9, 4).gone);
}

// Goal: what was answered is on the disk already: a copy of the files taken then has it.
TEST_F(SqliteStoreTest, WhatWasAnsweredSurvivesACrash) {
  auto store = open();
  for (std::uint64_t i = 1; i <= 20; ++i) {
    ASSERT_TRUE(keep(*store, record_of("s" + std::to_string(i), i, i)));
  }
  ASSERT_TRUE(drop(*store, "s3", 3));
  const std::string copy = directory_ + "/copy.db";
  crash_into(copy);
  auto after = SqliteStore::open({.path = copy, .bytes_max = 1 << 20, .notice = nullptr});
  ASSERT_TRUE(after) << after.error();
  EXPECT_EQ((*after)->take_found().size(), 19u);
  EXPECT_FALSE(fetch(**after, "s20", 20, 20).gone);
  EXPECT_TRUE(fetch(**after, "s3", 3, 3).gone);
}

// Goal: one owner. The second is told, and harms nothing.
TEST_F(SqliteStoreTest, HasOneOwner) {
  auto store = open();
  const auto second = SqliteStore::open({.path = path(), .bytes_max = 1, .notice = nullptr});
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error(), HasSubstr("another process is using it"));
  EXPECT_TRUE(keep(*store, record_of("ann", 7, 1)));
  store.reset();
  EXPECT_EQ(open()->take_found().size(), 1u);
}

// Goal: nobody but its owner reads what callers have entrusted to their sessions.
TEST_F(SqliteStoreTest, TheFileIsItsOwnersAlone) {
  auto store = open();
  keep(*store, record_of("ann", 7, 1));
  for (const char* suffix : {"", "-wal", "-stale", "-anchor"}) {
    struct stat stat{};
    ASSERT_EQ(::stat((path() + suffix).c_str(), &stat), 0) << suffix;
    EXPECT_EQ(stat.st_mode & 0777, 0600u) << suffix;
  }
}

// Goal: a damaged row is seen at the start, if it can be, and costs its session only. The file that
// had it is kept.
TEST_F(SqliteStoreTest, ADamagedRowIsSeenAtTheStart) {
  {
    auto store = open();
    for (std::uint64_t i = 1; i <= 3; ++i) {
      keep(*store, record_of("s" + std::to_string(i), i, i, "{\"calls\":1}"));
    }
  }
  tamper("UPDATE sessions SET number = 99 WHERE birth = 1");
  auto store = open();
  EXPECT_EQ(store->take_found().size(), 2u);
  EXPECT_EQ(store->take_lost(), std::vector<std::string>{"s1"});
  EXPECT_TRUE(store->take_lost().empty()) << "once";
  EXPECT_THAT(notices(), HasSubstr("2 snapshots are saved, 1 are lost: \"s1\""));
  EXPECT_FALSE(fetch(*store, "s2", 2, 2).gone);
  EXPECT_EQ(store->status().set_aside, 1u);
  EXPECT_EQ(store->status().sessions, 2u);
  store.reset();
  EXPECT_EQ(count("SELECT count(*) FROM sessions"), 2);
  EXPECT_TRUE(open()->take_lost().empty());
}

// Goal: a damaged state is seen when it is needed, set aside with its reason, reported, and not one
// of the others.
TEST_F(SqliteStoreTest, ADamagedRowIsSetAsideAndReported) {
  {
    auto store = open();
    for (std::uint64_t i = 1; i <= 3; ++i) {
      keep(*store, record_of("s" + std::to_string(i), i, i, "{\"calls\":1}"));
    }
  }
  tamper("UPDATE sessions SET state = CAST('{\"calls\":9}' AS BLOB) WHERE birth = 2");
  {
    auto store = open();
    EXPECT_EQ(store->take_found().size(), 3u);
    EXPECT_TRUE(fetch(*store, "s2", 2, 2).gone);
    EXPECT_THAT(notices(), HasSubstr("session \"s2\" is set aside"));
    EXPECT_FALSE(fetch(*store, "s3", 3, 3).gone);
    EXPECT_EQ(store->status().set_aside, 1u);
    EXPECT_EQ(store->status().sessions, 2u);
  }
  EXPECT_EQ(count("SELECT count(*) FROM set_aside"), 1);
  EXPECT_EQ(count("SELECT count(*) FROM sessions"), 2);
  auto store = open();
  EXPECT_EQ(store->take_found().size(), 2u);
  EXPECT_TRUE(store->take_lost().empty()) << "told already";
}

// Goal: a file that is no database any more does not keep the pool from starting, and is not lost.
TEST_F(SqliteStoreTest, ADamagedFileIsSetAside) {
  {
    auto store = open();
    keep(*store, record_of("ann", 7, 1));
  }
  {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file << std::string(8192, 'x');
  }
  auto store = open();
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->take_found().empty());
  EXPECT_EQ(store->take_lost(), std::vector<std::string>{"ann"}) << "the anchor knows whose it was";
  EXPECT_EQ(store->status().set_aside, 1u);
  EXPECT_THAT(notices(), HasSubstr("set aside as"));
  EXPECT_TRUE(keep(*store, record_of("ann", 8, 1)));
  int aside = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    aside += entry.path().string().find(".damaged-") != std::string::npos;
  }
  EXPECT_GE(aside, 1);
}

// Goal: the file of another program, or of a later version, is refused and left as it is. A file
// that has its anchor beside it is ours, and if it says otherwise it is damaged.
TEST_F(SqliteStoreTest, AForeignFileIsRefused) {
  tamper("CREATE TABLE accounts (id INTEGER); INSERT INTO accounts VALUES (1)");
  auto store = SqliteStore::open({.path = path(), .bytes_max = 1, .notice = nullptr});
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error(), HasSubstr("another program"));
  EXPECT_EQ(count("SELECT count(*) FROM accounts"), 1);
  std::filesystem::remove(path());
  keep(*open(), record_of("ann", 7, 1));
  for (const char* damage : {"PRAGMA user_version = 9", "PRAGMA application_id = 9"}) {
    tamper(damage);
    EXPECT_EQ(open()->take_found().size(), 1u) << damage;
  }
  tamper("PRAGMA user_version = 9");
  std::filesystem::remove(path() + "-anchor");
  store = SqliteStore::open({.path = path(), .bytes_max = 1, .notice = nullptr});
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error(), HasSubstr("version 9"));
}

// What a store of version 1 had in its file; the third row is damaged.
constexpr const char* kVersion1 = R"sql(
CREATE TABLE sessions (
  session BLOB PRIMARY KEY NOT NULL, birth INTEGER NOT NULL, epoch INTEGER NOT NULL,
  number INTEGER NOT NULL, mode INTEGER NOT NULL, opened_ms INTEGER NOT NULL,
  used_ms INTEGER NOT NULL, format INTEGER NOT NULL, state_bytes INTEGER NOT NULL,
  state_sum INTEGER NOT NULL, key BLOB NOT NULL, fingerprint INTEGER NOT NULL,
  kind INTEGER NOT NULL, payload BLOB NOT NULL, error_type BLOB NOT NULL,
  error_message BLOB NOT NULL, error_traceback BLOB NOT NULL, row_sum INTEGER NOT NULL,
  state BLOB NOT NULL);
CREATE INDEX sessions_birth ON sessions (birth);
CREATE TABLE set_aside (at_ms INTEGER NOT NULL, why TEXT NOT NULL, session BLOB, birth, epoch,
  number, mode, opened_ms, used_ms, format, state_bytes, state_sum, key, fingerprint, kind, payload,
  error_type, error_message, error_traceback, row_sum, state);
INSERT INTO sessions VALUES (X'616e6e', 101, 2, 41, 2, 1000, 2001, 1, 11, 3271546013, X'6b6579', 99,
  1, X'7061796c6f6164', X'56616c75654572726f72', X'6e6f', X'54726163656261636b', 2888493196,
  X'7b2263616c6c73223a317d');
INSERT INTO sessions VALUES (X'626f62', 102, 2, 42, 2, 1000, 2002, 2, 11, 3922888542, X'', 0, 0, X'',
  X'', X'', X'', 319061785, X'7b2263616c6c73223a327d');
INSERT INTO sessions VALUES (X'637964', 103, 2, 44, 2, 1000, 2003, 1, 11, 4039751199, X'', 0, 0, X'',
  X'', X'', X'', 3349607649, X'7b2263616c6c73223a337d');
PRAGMA application_id = 0x4b45454c;
PRAGMA user_version = 1;
)sql";

// Goal: the file of version 1 is read once and brought into a new one. What was out of date or
// damaged in it is lost as it was then, and the old file stays.
TEST_F(SqliteStoreTest, AFileOfVersion1IsBroughtIntoANewOne) {
  tamper(kVersion1);
  {
    auto store = open();
    const auto found = store->take_found();
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found[0].session, "ann");
    EXPECT_EQ(found[0].epoch, 2u);
    EXPECT_EQ(found[0].number, 41u);
    EXPECT_EQ(found[0].mode, Affinity::kHint);
    EXPECT_EQ(found[0].answer.payload, "payload");
    EXPECT_EQ(found[0].answer.traceback, "Traceback");
    EXPECT_EQ(*fetch(*store, "ann", 101, 41).snapshot->state, "{\"calls\":1}");
    EXPECT_EQ(fetch(*store, "bob", 102, 42).snapshot->format, Format::kBytes);
    EXPECT_EQ(store->take_lost(), std::vector<std::string>{"cyd"});
    EXPECT_THAT(notices(), HasSubstr("it is of version 1"));
    EXPECT_TRUE(keep(*store, record_of("ann", 101, 43)));
  }
  EXPECT_TRUE(std::filesystem::exists(path() + ".version-1"));
  {
    auto store = open();
    EXPECT_EQ(store->take_found().size(), 2u);
    EXPECT_TRUE(store->take_lost().empty());
    EXPECT_FALSE(fetch(*store, "ann", 101, 43).gone);
  }
  std::filesystem::rename(path() + ".version-1", path());  // whose anchor names other rows
  auto store = open();
  EXPECT_TRUE(store->take_found().empty()) << "an old backup is not believed beside an anchor";
  EXPECT_EQ(store->take_lost(), (std::vector<std::string>{"ann", "bob"}));
}

// Goal: what a run of version 1 could not replace is not found by this one either.
TEST_F(SqliteStoreTest, AFileOfVersion1KeepsItsStaleList) {
  tamper(kVersion1);
  {
    auto list = StaleList::open(path() + "-stale");
    ASSERT_TRUE(list->add(102));
  }
  auto store = open();
  EXPECT_EQ(store->take_found().size(), 1u);
  EXPECT_THAT(store->take_lost(), testing::UnorderedElementsAre("bob", "cyd"));
}

// Goal: damage of a file of version 1, which has no anchor: it starts, and what is whole is found.
TEST_F(SqliteStoreTest, ADamagedFileOfVersion1CostsWhatIsDamaged) {
  for (const char* damage : {"PRAGMA user_version = 9", "PRAGMA application_id = 9"}) {
    tamper(kVersion1);
    tamper(damage);
    auto store = open();
    ASSERT_TRUE(store) << damage;
    EXPECT_EQ(store->take_found().size(), 2u) << damage;
    store.reset();
    for (const char* suffix : {"", "-anchor"}) std::filesystem::remove(path() + suffix);
  }
  tamper(kVersion1);
  {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file << std::string(100, 'x');
  }
  auto store = open();
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->take_found().empty());
  EXPECT_EQ(store->take_lost(), (std::vector<std::string>{"ann", "bob", "cyd"}));
}

// Goal: what keeps the store from being opened and is no damage is told in a sentence.
TEST_F(SqliteStoreTest, WhatIsNoDamageIsRefused) {
  const auto error_of = [](const std::string& path) {
    auto store = SqliteStore::open({.path = path, .bytes_max = 1, .notice = nullptr});
    return store ? std::string() : store.error();
  };
  EXPECT_THAT(error_of(directory_ + "/none/s.db"), HasSubstr("No such file or directory"));
  EXPECT_THAT(error_of(directory_), HasSubstr("it is not a file"));
}

// Goal: a path that is a link: the file that it names is the store, also after damage.
TEST_F(SqliteStoreTest, ALinkIsFollowed) {
  const std::string elsewhere = directory_ + "/elsewhere";
  std::filesystem::create_directory(elsewhere);
  std::filesystem::create_symlink(elsewhere + "/s.db", path());
  keep(*open(), record_of("ann", 7, 1));
  tamper("PRAGMA user_version = 9");
  EXPECT_EQ(open()->take_found().size(), 1u);
  EXPECT_TRUE(std::filesystem::is_symlink(path()));
  EXPECT_TRUE(std::filesystem::exists(elsewhere + "/s.db-anchor"));
}

// Goal: the bound holds, live; what does not fit leaves no older row behind.
TEST_F(SqliteStoreTest, TheBoundHoldsAndLeavesNothingStale) {
  const std::uint64_t each = bytes_of(record_of("s1", 1, 1, std::string(1000, 'x')));
  auto store = open(0, 2 * each);
  EXPECT_TRUE(keep(*store, record_of("s1", 1, 1, std::string(1000, 'x'))));
  EXPECT_TRUE(keep(*store, record_of("s2", 2, 2, std::string(1000, 'x'))));
  EXPECT_FALSE(keep(*store, record_of("s3", 3, 3)));
  EXPECT_FALSE(keep(*store, record_of("s2", 2, 4, std::string(1001, 'x'))));
  EXPECT_TRUE(fetch(*store, "s2", 2, 2).gone);
  EXPECT_TRUE(keep(*store, record_of("s3", 3, 5, std::string(1000, 'x')))) << "s2 made room";
  EXPECT_EQ(store->status().failed, 2u);
  EXPECT_TRUE(store->status().up) << "full is not down";
  EXPECT_EQ(store->status().bytes, 2 * each);
}

// Goal: a full disk. Calls go on without snapshots, the loss is reported, what cannot be replaced
// is found neither now nor after a crash, and when there is room again the store works again.
TEST_F(SqliteStoreTest, AFullDiskLosesLoudlyAndNeverGoesBack) {
  auto store = open(24);  // pages of 4 KiB
  ASSERT_TRUE(keep(*store, record_of("ann", 7, 1, std::string(2000, 'a'))));
  std::uint64_t number = 1;
  bool failed = false;
  for (int i = 0; i < 100 && !failed; ++i) {
    ++number;
    failed = !keep(
        *store, record_of("s" + std::to_string(i), 100 + number, number, std::string(8000, 'x')));
  }
  ASSERT_TRUE(failed) << "24 pages hold no 800 KB";
  EXPECT_FALSE(store->status().up);
  EXPECT_THAT(store->status().error, HasSubstr("full"));
  EXPECT_THAT(notices(), HasSubstr("snapshots cannot be stored"));
  EXPECT_FALSE(keep(*store, record_of("ann", 7, ++number, std::string(2000, 'b'))));
  EXPECT_TRUE(fetch(*store, "ann", 7, 1).gone) << "out of date";
  EXPECT_FALSE(fetch(*store, "s0", 102, 2).gone) << "what is good can still be read";

  const std::string copy = directory_ + "/copy.db";
  crash_into(copy);
  auto after = SqliteStore::open({.path = copy, .bytes_max = 1 << 20, .notice = nullptr});
  ASSERT_TRUE(after) << after.error();
  for (const Record& record : (*after)->take_found()) EXPECT_NE(record.session, "ann");
  EXPECT_EQ((*after)->take_lost(), std::vector<std::string>{"ann"}) << "it is said whose it was";

  // Two files say that ann's row is out of date, so that no damage of one hides it.
  for (const char* suffix : {"-stale", "-anchor"}) {
    for (const bool gone : {true, false}) {
      after->reset();
      std::filesystem::remove_all(directory_ + "/once");
      std::filesystem::create_directory(directory_ + "/once");
      const std::string once = directory_ + "/once/copy.db";
      crash_into(once);
      std::filesystem::remove(once + suffix);
      if (!gone) std::ofstream(once + suffix) << std::string(65536, '\0');
      after = SqliteStore::open({.path = once, .bytes_max = 1 << 20, .notice = nullptr});
      ASSERT_TRUE(after) << after.error();
      for (const Record& record : (*after)->take_found()) EXPECT_NE(record.session, "ann");
      EXPECT_EQ((*after)->take_lost(), std::vector<std::string>{"ann"}) << suffix;
    }
  }

  // Rows go, and the store comes back by itself.
  for (int i = 0; i < 10; ++i) drop(*store, "s" + std::to_string(i), 102 + i);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  bool works = false;
  while (!works && std::chrono::steady_clock::now() < until) {
    works = keep(*store, record_of("ann", 7, ++number, std::string(2000, 'c')));
    if (!works) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ASSERT_TRUE(works);
  EXPECT_TRUE(store->status().up);
  EXPECT_EQ(*fetch(*store, "ann", 7, number).snapshot->state, std::string(2000, 'c'));
  EXPECT_THAT(notices(), HasSubstr("stored again"));
}

// Goal: a file that is cut costs what was behind the cut, by name, and nothing else; a write that
// was torn before it was acknowledged costs nothing that was.
TEST_F(SqliteStoreTest, TornFilesLoseLoudlyAndTornTailsLoseNothing) {
  constexpr std::size_t kRows = 60;
  auto store = open();
  for (std::uint64_t i = 1; i <= kRows; ++i) {
    ASSERT_TRUE(
        keep(*store, record_of("s" + std::to_string(100 + i), i, i, std::string(3000, 'x'))));
  }
  const std::string tail = directory_ + "/tail.db";
  crash_into(tail);
  {
    std::ofstream wal(tail + "-wal", std::ios::binary | std::ios::app);
    wal << std::string(2500, '\x5a');  // of a frame that the crash has cut
  }
  auto after = SqliteStore::open({.path = tail, .bytes_max = 64 << 20, .notice = nullptr});
  ASSERT_TRUE(after) << after.error();
  EXPECT_EQ((*after)->take_found().size(), kRows);
  EXPECT_TRUE((*after)->take_lost().empty());
  after->reset();

  store.reset();  // everything is in the main file now
  std::filesystem::resize_file(path(), std::filesystem::file_size(path()) / 2 + 100);
  store = open();
  ASSERT_TRUE(store);
  const std::size_t found = store->take_found().size();
  EXPECT_GT(found, kRows / 3);
  EXPECT_EQ(store->take_lost().size(), kRows - found);
  EXPECT_THAT(notices(), HasSubstr("set aside as"));
  EXPECT_TRUE(keep(*store, record_of("s101", 1000, 1000)));
}

// Goal: what piles up is committed together, and everything is answered, in order, before the end.
TEST_F(SqliteStoreTest, EverythingIsAnsweredInOrderBeforeItEnds) {
  auto store = open();
  std::vector<std::uint64_t> answered;
  for (std::uint64_t i = 1; i <= 2000; ++i) {
    const auto at_once = store->keep(record_of("s" + std::to_string(i % 50), 1 + i % 50, i),
                                     [&answered, i](bool kept) {
                                       if (kept) answered.push_back(i);
                                     });
    ASSERT_FALSE(at_once);
  }
  store->close();
  ASSERT_EQ(answered.size(), 2000u);
  EXPECT_TRUE(std::ranges::is_sorted(answered));
  EXPECT_EQ(store->keep(record_of("late", 1, 1), nullptr), false) << "closed";
  store.reset();
  const auto found = open()->take_found();
  ASSERT_EQ(found.size(), 50u);
  for (const Record& record : found) EXPECT_GT(record.number, 1950u);
}

// Goal: the list of what is out of date remembers across runs, ignores what is no entry, and says
// "all" when it is more than it can hold.
TEST_F(SqliteStoreTest, TheStaleListRemembers) {
  const std::string list = path() + "-stale";
  {
    auto stale = StaleList::open(list);
    ASSERT_TRUE(stale);
    EXPECT_TRUE(stale->add(7));
    EXPECT_TRUE(stale->add(8));
  }
  {
    auto stale = StaleList::open(list);
    EXPECT_TRUE(stale->had(7) && stale->had(8));
    EXPECT_FALSE(stale->had(9));
    for (std::size_t i = 2; i <= StaleList::kEntriesMax; ++i) EXPECT_TRUE(stale->add(100 + i));
  }
  {
    auto stale = StaleList::open(list);
    EXPECT_TRUE(stale->had(1u << 20)) << "all";
    EXPECT_TRUE(stale->clear());
  }
  EXPECT_TRUE(StaleList::open(list)->empty());
  {
    std::ofstream file(list, std::ios::binary);
    file << std::string(65536, '\x5a');
  }
  auto strange = StaleList::open(list);
  EXPECT_TRUE(strange->empty());
  EXPECT_FALSE(strange->had(0x5a5a5a5a5a5a5a5a));
}

}  // namespace
}  // namespace keelback::store
