// A store one of whose files is damaged, in any way. It opens; no session is found older than it
// was acknowledged; what the damage did not reach is found; each other session is told as lost,
// once; and the store stores again. The files are those of a store that ended, or that was killed,
// or that was killed between a commit and its acknowledgement.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <map>
#include <mutex>
#include <set>

#include "base/prng.h"
#include "store/sqlite_store.h"
#include "store/test_directory.h"

namespace keelback::store {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kFrame = kPage + 24;
constexpr std::size_t kLogHead = 32;
const char* const kSuffixes[] = {"", "-wal", "-anchor", "-stale"};

// The files of a store, by suffix; one that is not there is not in it.
using Files = std::map<std::string, std::string>;

std::string read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
Files take_files(const std::string& path) {
  Files files;
  for (const std::string suffix : kSuffixes) {
    if (fs::is_regular_file(path + suffix)) files[suffix] = read_whole(path + suffix);
  }
  return files;
}

// A session as it was acknowledged.
struct Acked {
  std::uint64_t birth = 0;
  std::uint64_t number = 0;
  bool operator==(const Acked&) const = default;
};
using Sessions = std::map<std::string, Acked>;

// A moment at which a store ended.
struct Moment {
  const char* name = "";
  Files files;
  Sessions acked;
  Sessions newer;                // what the commit under way has made of them
  std::set<std::string> ending;  // which it ends
};

std::string state_of(const std::string& session, std::uint64_t number) {
  const std::size_t size = number % 40 == 0 ? 30'000 : number % 9 == 0 ? 6'000 : 40 + number % 500;
  std::string state = session + "#" + std::to_string(number) + ";";
  if (state.size() < size) state.resize(size, static_cast<char>('a' + number % 26));
  return state;
}

Record record_with(const std::string& session, std::uint64_t birth, std::uint64_t number) {
  Record record;
  record.session = session;
  record.birth = birth;
  record.epoch = 2;
  record.number = number;
  record.opened_ms = 1000;
  record.used_ms = static_cast<std::int64_t>(number);
  record.snapshot.state = std::make_shared<const std::string>(state_of(session, number));
  if (number % 5 == 0) record.answer = {"key", number, OutcomeKind::kOk, "[1]", "", "", ""};
  return record;
}

bool put(Store& store, const std::string& session, std::uint64_t birth, std::uint64_t number) {
  std::promise<bool> done;
  store.keep(record_with(session, birth, number), [&](bool kept) { done.set_value(kept); });
  return done.get_future().get();
}
bool end(Store& store, const std::string& session, std::uint64_t birth) {
  std::promise<bool> done;
  store.drop(session, birth, [&](bool gone) { done.set_value(gone); });
  return done.get_future().get();
}
Fetched get(Store& store, const std::string& session, const Acked& acked) {
  std::promise<Fetched> done;
  store.fetch(session, acked.birth, acked.number,
              [&](Fetched found) { done.set_value(std::move(found)); });
  return done.get_future().get();
}

class DamageTest : public testing::Test {
 protected:
  DamageTest() { directory_ = make_test_directory(); }
  ~DamageTest() override { fs::remove_all(directory_); }

  std::string path() const { return directory_ + "/sessions.db"; }
  std::unique_ptr<SqliteStore> open() {
    notices_.clear();
    auto store = SqliteStore::open(
        {.path = path(), .bytes_max = 64 << 20, .notice = [this](bool, const std::string& text) {
           const std::lock_guard lock(mutex_);
           notices_ += text + "\n";
         }});
    EXPECT_TRUE(store) << "a damaged store never stops the daemon: " << store.error();
    return store ? std::move(*store) : nullptr;
  }
  void put_files(const Files& files) {
    for (const auto& entry : fs::directory_iterator(directory_)) fs::remove_all(entry.path());
    for (const auto& [suffix, bytes] : files) {
      std::ofstream(path() + suffix, std::ios::binary) << bytes;
    }
  }
  std::size_t kept_aside() const {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(directory_)) {
      count += entry.path().string().find(".damaged-") != std::string::npos;
    }
    return count;
  }

  // What a run found: each session that was found could be read, or was told when it was.
  struct Run {
    Sessions found;
    std::vector<std::string> lost;
  };
  Run run(SqliteStore& store) {
    Run run;
    for (const Record& record : store.take_found()) {
      const Acked acked{record.birth, record.number};
      const Fetched fetched = get(store, record.session, acked);
      if (!fetched.snapshot) {
        EXPECT_TRUE(fetched.gone);
        run.lost.push_back(record.session);
        continue;
      }
      EXPECT_EQ(*fetched.snapshot->state, state_of(record.session, record.number));
      EXPECT_TRUE(run.found.emplace(record.session, acked).second) << record.session;
    }
    for (std::string& session : store.take_lost()) run.lost.push_back(std::move(session));
    return run;
  }

  // Opens the files as they are now, and holds the promise.
  Run hold_promise(const Moment& then) {
    Run first;
    {
      auto store = open();
      if (!store) return {};
      first = run(*store);
      const std::set<std::string> lost(first.lost.begin(), first.lost.end());
      EXPECT_EQ(lost.size(), first.lost.size()) << "told once";
      for (const auto& [session, acked] : first.found) {
        EXPECT_FALSE(lost.contains(session)) << session << " is found and lost";
        const auto was = then.acked.find(session);
        const auto newer = then.newer.find(session);
        EXPECT_TRUE((was != then.acked.end() && was->second == acked) ||
                    (newer != then.newer.end() && newer->second == acked))
            << session << " came back as number " << acked.number << ", birth " << acked.birth;
      }
      for (const auto& each : then.acked) {
        EXPECT_TRUE(first.found.contains(each.first) || lost.contains(each.first) ||
                    then.ending.contains(each.first))
            << each.first << " is lost, and nobody is told";
      }
      for (const std::string& session : lost) {
        EXPECT_TRUE(then.acked.contains(session) || then.newer.contains(session)) << session;
      }
      // A lost one opens anew, one that was found goes on.
      for (const std::string& session : lost) EXPECT_TRUE(put(*store, session, 777, 5000));
      if (!first.found.empty()) {
        auto& [session, acked] = *first.found.begin();
        acked.number = 5001;
        EXPECT_TRUE(put(*store, session, acked.birth, acked.number));
      }
      EXPECT_TRUE(store->status().up) << store->status().error;
    }
    auto store = open();
    if (!store) return first;
    const Run second = run(*store);
    EXPECT_TRUE(second.lost.empty()) << "told again: " << second.lost[0];
    Sessions expected = first.found;
    for (const std::string& session : first.lost) expected[session] = {777, 5000};
    EXPECT_EQ(second.found, expected);
    EXPECT_EQ(notices_, "") << "a store that was mended is as any other";
    return first;
  }

  std::string directory_;
  std::mutex mutex_;
  std::string notices_;
};

// A store's life: sessions that are changed often or never, ended, and opened anew, over more than
// one checkpoint.
const std::vector<Moment>& moments() {
  static const std::vector<Moment> made = [] {
    const std::string directory = make_test_directory();
    const std::string path = directory + "/sessions.db";
    auto store = SqliteStore::open({.path = path, .bytes_max = 64 << 20, .notice = nullptr});
    EXPECT_TRUE(store);
    Sessions acked;
    Prng prng(7);
    std::uint64_t number = 0;
    const auto change = [&](Sessions& sessions, const std::string& session) {
      const auto known = sessions.find(session);
      const std::uint64_t birth = known == sessions.end() ? prng.next() | 1 : known->second.birth;
      EXPECT_TRUE(put(**store, session, birth, ++number));
      sessions[session] = {birth, number};
    };
    const auto name_of = [](std::uint64_t i) { return "session-" + std::to_string(i); };
    for (std::uint64_t i = 0; i < 150; ++i) change(acked, name_of(i));
    for (int i = 0; i < 450; ++i) change(acked, name_of(prng.below(60)));
    for (std::uint64_t i = 40; i < 50; ++i) {
      EXPECT_TRUE(end(**store, name_of(i), acked[name_of(i)].birth));
      acked.erase(name_of(i));
      if (i % 2 == 0) change(acked, name_of(i));
    }
    for (int i = 0; i < 40; ++i) change(acked, name_of(prng.below(60) + 60));
    std::vector<Moment> moments;
    moments.push_back({"killed", take_files(path), acked, {}, {}});
    // The next commit is in the database, and not in the anchor: nobody has heard of it.
    const auto kill_in = [&](const char* what, const std::function<void(Moment&)>& commit) {
      const Files before = take_files(path);
      Moment moment{what, {}, acked, {}, {}};
      commit(moment);
      moment.files = take_files(path);
      if (before.contains("-anchor")) moment.files["-anchor"] = before.at("-anchor");
      moments.push_back(std::move(moment));
    };
    kill_in("killed in a commit", [&](Moment& moment) {
      change(acked, "session-3");
      moment.newer["session-3"] = acked["session-3"];
    });
    kill_in("killed in an end", [&](Moment& moment) {
      EXPECT_TRUE(end(**store, "session-5", acked["session-5"].birth));
      acked.erase("session-5");
      moment.ending.insert("session-5");
    });
    (*store).reset();
    moments.push_back({"ended", take_files(path), acked, {}, {}});
    fs::remove_all(directory);
    return moments;
  }();
  return made;
}

std::string noise(Prng& prng, std::size_t bytes) {
  std::string noise(bytes, '\0');
  for (char& byte : noise) byte = static_cast<char>(prng.next());
  return noise;
}

// Where the pages of a file lie.
std::size_t page_of(const std::string& suffix, std::size_t at) {
  if (suffix != "-wal" || at < kLogHead) return at / kPage * kPage;
  return kLogHead + (at - kLogHead) / kFrame * kFrame;
}

// The bytes of the log that SQLite reads: it begins anew from time to time, and what is behind its
// end is what earlier rounds have left.
std::size_t live_bytes(const std::string& log) {
  std::size_t at = kLogHead;
  while (at + kFrame <= log.size() && log.compare(at + 8, 8, log, 16, 8) == 0) at += kFrame;
  return std::min(at, log.size());
}

struct Damage {
  std::string what;
  std::size_t lost_max = 0;  // sessions that it may cost
};

// Damages one file. A page of 4096 bytes has the rows of at most 16 sessions.
Damage damage(Prng& prng, const std::string& suffix, Files& files) {
  constexpr std::size_t kOfAPage = 16;
  constexpr std::size_t kAll = 1000;
  std::string& bytes = files[suffix];
  const bool rows = suffix.empty() || suffix == "-wal";
  const auto costs = [rows](std::size_t sessions) { return rows ? sessions : 0; };
  const std::size_t live = suffix == "-wal" ? live_bytes(bytes) : bytes.size();
  const std::size_t at = prng.below(prng.chance(0.75) ? live : bytes.size());
  const std::size_t page = page_of(suffix, at);
  const std::size_t length = std::min(suffix == "-wal" ? kFrame : kPage, bytes.size() - page);
  const std::string where = suffix + " at " + std::to_string(at);
  switch (prng.below(9)) {
    case 0:
    case 1:
    case 2:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << prng.below(8)));
      return {"a bit of " + where, costs(kOfAPage)};
    case 3:
      bytes.replace(page, length, length, '\0');
      return {"a page of zeros, " + where, costs(kOfAPage)};
    case 4:
      bytes.replace(page, length, noise(prng, length));
      return {"a page of noise, " + where, costs(kOfAPage)};
    case 5: {
      const std::size_t other = page_of(suffix, prng.below(bytes.size()));
      const std::string copy = bytes.substr(other, length);
      bytes.replace(page, copy.size(), copy);
      return {"a page of another place, " + where, costs(kOfAPage)};
    }
    case 6:
      bytes.resize(at);
      return {"cut, " + where, costs(kAll)};
    case 7: {
      const std::size_t many = std::min<std::size_t>(bytes.size() - at, 1 + prng.below(30'000));
      bytes.replace(at, many, noise(prng, many));
      return {"noise, " + where, costs(kAll)};
    }
    default:
      files.erase(suffix);
      return {"no file " + suffix, costs(kAll)};
  }
}

// Goal: the moments themselves are found whole, so that what the tests below find is damage.
TEST_F(DamageTest, WithoutDamageAllIsFound) {
  for (const Moment& moment : moments()) {
    SCOPED_TRACE(moment.name);
    put_files(moment.files);
    const Run run = hold_promise(moment);
    EXPECT_TRUE(run.lost.empty());
    for (const auto& [session, acked] : moment.acked) {
      const auto newer = moment.newer.find(session);
      if (moment.ending.contains(session)) continue;
      if (session == run.found.begin()->first) continue;  // which the run has changed
      EXPECT_EQ(run.found.at(session), newer == moment.newer.end() ? acked : newer->second);
    }
    EXPECT_EQ(kept_aside(), 0u);
  }
}

// Goal: 300 damages of one file each, drawn by chance. KEELBACK_SEED plays another sequence.
TEST_F(DamageTest, ThreeHundredDamagesTakeNothingBackInSilence) {
  std::uint64_t seed = 21;
  if (const char* given = std::getenv("KEELBACK_SEED")) seed = std::strtoull(given, nullptr, 0);
  RecordProperty("seed", std::to_string(seed));
  std::map<std::string, std::size_t> lost;
  for (std::uint64_t round = 0; round < 300; ++round) {
    Prng prng(seed * 1'000'003 + round);
    const Moment& moment = moments()[prng.below(moments().size())];
    Files files = moment.files;
    // Mostly where rows are.
    const std::string suffix = kSuffixes[std::min<std::uint64_t>(prng.below(8) / 2, 3)];
    if (!files.contains(suffix) || files[suffix].empty()) continue;
    const Damage done = damage(prng, suffix, files);
    put_files(files);
    SCOPED_TRACE(testing::Message() << "KEELBACK_SEED=" << seed << ", round " << round << ": "
                                    << moment.name << ", " << done.what);
    const Run run = hold_promise(moment);
    EXPECT_LE(run.lost.size(), done.lost_max) << "what is provably good is found";
    lost[suffix] += run.lost.size();
    if (HasFailure()) return;
  }
  EXPECT_GT(lost[""], 0u) << "no damage hit anything";
}

// Goal: a damaged head of the log, of one of its frames, or of the database costs nobody anything,
// because rows prove themselves.
TEST_F(DamageTest, DamagedHeadsCostNothing) {
  const Moment& killed = moments()[0];
  const auto flip = [&](const std::string& suffix, std::size_t bit) {
    Files files = killed.files;
    files[suffix][bit / 8] = static_cast<char>(files[suffix][bit / 8] ^ (1 << bit % 8));
    put_files(files);
    SCOPED_TRACE(testing::Message() << "bit " << bit << " of " << suffix);
    EXPECT_EQ(hold_promise(killed).lost.size(), 0u);
  };
  for (std::size_t bit = 0; bit < kLogHead * 8 && !HasFailure(); bit += 11) flip("-wal", bit);
  for (std::size_t bit = 0; bit < 24 * 8 && !HasFailure(); bit += 13) {
    flip("-wal", (kLogHead + 3 * kFrame) * 8 + bit);
  }
  for (std::size_t bit = 0; bit < 100 * 8 && !HasFailure(); bit += 23) flip("", bit);
}

// Goal: the fault that began this: a bit of the log, near its beginning, took 733 of 800 sessions
// back to what they had been, without a word. Now it costs what its page had, and is told.
TEST_F(DamageTest, ABitOfTheLogTakesNobodyBack) {
  const Moment& killed = moments()[0];
  Files files = killed.files;
  ASSERT_GT(files["-wal"].size(), 20 * kFrame);
  char& byte = files["-wal"][kLogHead + 2 * kFrame + 2000];
  byte = static_cast<char>(byte ^ 4);
  put_files(files);
  const Run run = hold_promise(killed);
  EXPECT_LE(run.lost.size(), 16u);
  EXPECT_GT(run.found.size(), 100u);
  EXPECT_EQ(kept_aside(), 2u) << "the database and its log are kept";
}

// Goal: the log is gone, or ends early at the end of a commit, where nothing in it is wrong: what
// is left looks like a whole store, and only the anchor knows that it is older.
TEST_F(DamageTest, ALogThatEndsEarlyIsNoTornEnd) {
  const Moment& killed = moments()[0];
  const std::size_t live = (live_bytes(killed.files.at("-wal")) - kLogHead) / kFrame;
  ASSERT_GT(live, 20u);
  std::size_t found = 0;
  for (const std::size_t frames : {std::size_t{0}, std::size_t{1}, live / 3, live / 2, live - 1}) {
    Files files = killed.files;
    files["-wal"].resize(kLogHead + frames * kFrame);
    put_files(files);
    SCOPED_TRACE(frames);
    const Run run = hold_promise(killed);
    EXPECT_GE(run.found.size(), found) << "more of the log, more sessions";
    EXPECT_GT(run.lost.size(), 0u);
    found = run.found.size();
  }
  EXPECT_GT(found, 60u) << "sessions that the cut part did not change are found";
}

// Goal: each page of the database in turn, of a store that ended and of one that was killed:
// whatever SQLite keeps in it, it costs what rows it has, and the store starts. So does a damaged
// row beside a damaged page.
TEST_F(DamageTest, NoPageIsNeededToStart) {
  for (const std::size_t moment : {moments().size() - 1, std::size_t{0}}) {
    const std::string& good = moments()[moment].files.at("");
    for (std::size_t page = 0; page < good.size() && !HasFailure(); page += kPage) {
      if (moment == 0 && page / kPage % 5 > 1) continue;  // of the killed one the first, and some
      Files files = moments()[moment].files;
      files[""].replace(page, kPage, kPage, page % (2 * kPage) == 0 ? '\0' : '\x5a');
      const std::size_t row = good.rfind("session-");
      if (page / kPage % 3 == 0) files[""][row] = 'S';
      put_files(files);
      SCOPED_TRACE(testing::Message() << moments()[moment].name << ", page " << page / kPage + 1);
      EXPECT_LE(hold_promise(moments()[moment]).lost.size(), 17u);
    }
  }
}

// Goal: a write that the disk has lost: pages, or the whole file, as they were at an earlier
// moment. Each of their rows proves itself, and is older than what was acknowledged.
TEST_F(DamageTest, PagesOfAnEarlierMomentAreNotBelieved) {
  const Moment& ended = moments().back();
  const std::string& before = moments()[0].files.at("");
  const std::size_t common = std::min(before.size(), ended.files.at("").size());
  std::size_t lost = 0;
  for (std::size_t page = 0; page < common && !HasFailure(); page += kPage) {
    Files files = ended.files;
    if (files[""].compare(page, kPage, before, page, kPage) == 0) continue;
    files[""].replace(page, kPage, before, page, kPage);
    put_files(files);
    SCOPED_TRACE(testing::Message() << "page " << page / kPage + 1);
    lost += hold_promise(ended).lost.size();
  }
  EXPECT_GT(lost, 0u);
  Files files = ended.files;
  files[""] = before;
  put_files(files);
  const Run run = hold_promise(ended);
  EXPECT_GT(run.lost.size(), 0u);
  EXPECT_GT(run.found.size(), 50u) << "sessions that have not changed since";
}

// Goal: the same with the database gone: what the log has is found.
TEST_F(DamageTest, WithoutADatabaseTheLogIsRead) {
  const Moment& killed = moments()[0];
  Files files = killed.files;
  files.erase("");
  put_files(files);
  const Run run = hold_promise(killed);
  EXPECT_GT(run.found.size(), 10u);
  EXPECT_GT(run.lost.size(), 0u);
}

// Goal: an anchor that is damaged, gone, or no file is made anew from a database that is whole,
// with a warning, and costs nobody a session. What was there is kept.
TEST_F(DamageTest, AnAnchorIsMadeAnew) {
  for (const Moment& moment : moments()) {
    SCOPED_TRACE(moment.name);
    Files files = moment.files;
    files["-anchor"] = std::string(100'000, '\x5a');
    put_files(files);
    EXPECT_TRUE(hold_promise(moment).lost.empty());
    EXPECT_EQ(kept_aside(), 1u);
  }
  const Moment& killed = moments()[0];
  Files files = killed.files;
  files.erase("-anchor");
  put_files(files);
  {
    auto store = open();
    EXPECT_THAT(notices_, HasSubstr("no anchor"));
  }
  put_files(files);
  fs::create_directories(path() + "-anchor/with/something");
  EXPECT_TRUE(hold_promise(killed).lost.empty());
  put_files(files);
  std::ofstream(path() + "-anchor").close();
  fs::resize_file(path() + "-anchor", 1ULL << 40);
  EXPECT_TRUE(hold_promise(killed).lost.empty());
}

// Goal: other things in the way of the store's files: directories, and files that SQLite leaves.
TEST_F(DamageTest, WhatIsNoFileIsPutOutOfTheWay) {
  const Moment& ended = moments().back();
  for (const char* suffix : {"-wal", "-stale", "-anchor", "-shm"}) {
    Files files = ended.files;
    files.erase(suffix);
    put_files(files);
    fs::create_directories(path() + suffix + "/x");
    SCOPED_TRACE(suffix);
    EXPECT_TRUE(hold_promise(ended).lost.empty());
  }
  Files files = moments()[0].files;
  files["-shm"] = std::string(32768, '\x5a');
  put_files(files);
  EXPECT_TRUE(hold_promise(moments()[0]).lost.empty()) << "the store has no use for it";
}

// Goal: a page that is reached only when something is written: the list of free pages. The damage
// costs no session, and the store stores.
TEST_F(DamageTest, DamagedFreePagesCostNothing) {
  std::uint64_t number = 0;
  Moment moment;
  {
    auto store = open();
    for (int i = 0; i < 50; ++i) {
      const std::string session = "session-" + std::to_string(i);
      ASSERT_TRUE(put(*store, session, 100 + i, number += 40));  // with further pages
    }
    for (int i = 0; i < 50; ++i) {
      const std::string session = "session-" + std::to_string(i);
      if (i % 2 == 0) {
        ASSERT_TRUE(end(*store, session, 100 + i));
      } else {
        moment.acked[session] = {static_cast<std::uint64_t>(100 + i),
                                 static_cast<std::uint64_t>(i + 1) * 40};
      }
    }
  }
  Files files = take_files(path());
  const auto word = [&](std::size_t at) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      value = value << 8 | static_cast<unsigned char>(files[""][at + i]);
    }
    return value;
  };
  const std::size_t trunk = word(32);
  ASSERT_GT(trunk, 0u) << "there are free pages";
  // The first free page is said to be the first page of the rows.
  files[""].replace((trunk - 1) * kPage + 8, 4, std::string("\0\0\0\2", 4));
  put_files(files);
  EXPECT_TRUE(hold_promise(moment).lost.empty());
}

// Goal: damage that appears while the store runs, in pages that it reads again: what its memory
// knows to be the latest is saved, nothing older comes back, and the store goes on.
TEST_F(DamageTest, DamageUnderARunningStoreIsMended) {
  auto store = open();
  Sessions acked;
  for (std::uint64_t i = 0; i < 300; ++i) {  // nine MiB: more than SQLite's cache holds
    const std::string session = "session-" + std::to_string(i);
    ASSERT_TRUE(put(*store, session, i + 1, 40 * (i + 1)));
    acked[session] = {i + 1, 40 * (i + 1)};
  }
  for (const char* suffix : {"", "-wal"}) {  // in place: a file of this process must not be closed
    const std::size_t size = fs::file_size(path() + suffix);
    const std::string zeros(kPage, '\0');
    const int fd = ::open((path() + suffix).c_str(), O_WRONLY);
    for (std::size_t at = 0; at + 2 * kPage < size; at += 64 * kPage) {
      ASSERT_EQ(::pwrite(fd, zeros.data(), zeros.size(), static_cast<off_t>(at)),
                static_cast<ssize_t>(kPage));
    }
    static_cast<void>(fd);  // open until the test ends, for the lock's sake
  }
  std::set<std::string> gone;
  std::size_t good = 0;
  for (const auto& [session, latest] : acked) {
    const Fetched fetched = get(*store, session, latest);
    if (fetched.snapshot) {
      EXPECT_EQ(*fetched.snapshot->state, state_of(session, latest.number));
      ++good;
    } else {
      EXPECT_TRUE(fetched.gone);
      gone.insert(session);
    }
  }
  EXPECT_GT(gone.size(), 0u);
  EXPECT_GT(good, 100u);
  EXPECT_TRUE(put(*store, "session-1", 2, 90'000));
  EXPECT_TRUE(store->status().up) << store->status().error;
  store.reset();
  store = open();
  const Run after = run(*store);
  for (const std::string& session : after.lost) {
    EXPECT_FALSE(gone.contains(session)) << session << " was told already";
  }
  EXPECT_EQ(after.found.at("session-1"), (Acked{2, 90'000}));
  for (const auto& [session, found] : after.found) {
    EXPECT_TRUE(session == "session-1" || found == acked.at(session)) << session;
  }
}

// Goal: damage is not forgotten by one start that is killed: whatever a start has done before it is
// killed, the next one finds no session older, and none that is lost is found again.
TEST_F(DamageTest, FilesThatChangePlacesMayBeKilledAtAnyTime) {
  const Moment& killed = moments()[0];
  Files damaged = killed.files;
  damaged["-wal"].resize(kLogHead + 20 * kFrame);
  put_files(damaged);
  Run whole;
  Files after;
  {
    auto store = open();
    whole = run(*store);
    after = take_files(path());
  }
  ASSERT_GT(whole.lost.size(), 0u);
  ASSERT_GT(whole.found.size(), 0u);
  // The steps of a swap (store_paths.h): made; the old file aside; its log too; in its place; and
  // then the anchor.
  const Files made = {{"-ready", after.at("")}, {"-anchor", damaged.at("-anchor")}};
  const auto with = [](Files files, const Files& more) {
    files.insert(more.begin(), more.end());
    return files;
  };
  const Files steps[] = {
      with({{"", damaged.at("")}, {"-wal", damaged.at("-wal")}, {"-new", "half of it"}},
           {{"-anchor", damaged.at("-anchor")}}),
      with({{"", damaged.at("")}, {"-wal", damaged.at("-wal")}}, made),
      with({{"-wal", damaged.at("-wal")}}, made),
      made,
      {{"", after.at("")}, {"-anchor", damaged.at("-anchor")}},
  };
  for (std::size_t step = 0; step < std::size(steps); ++step) {
    put_files(steps[step]);
    SCOPED_TRACE(step);
    auto store = open();
    ASSERT_TRUE(store);
    const Run again = run(*store);
    EXPECT_EQ(again.found, whole.found);
    EXPECT_EQ(again.lost, step == 0 ? whole.lost : std::vector<std::string>());
  }
}

// Goal: damage after damage does not fill the disk: what is set aside is kept for three occasions.
TEST_F(DamageTest, WhatIsSetAsideIsKeptForThreeOccasions) {
  put_files(moments().back().files);
  for (int i = 0; i < 6; ++i) {
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << std::string(20'000, 'x');
    auto store = open();
    ASSERT_TRUE(store);
    EXPECT_THAT(notices_, HasSubstr("set aside as"));
    EXPECT_TRUE(put(*store, "session", 1, 1));
  }
  EXPECT_EQ(kept_aside(), 3u);
}

// Goal: a file that is not to be damaged but is: two of them. Nothing is proven then, and nothing
// is served; but it is told, and the store starts.
TEST_F(DamageTest, OfTwoDamagedFilesNothingIsServedAndAllIsTold) {
  const Moment& killed = moments()[0];
  Files files = killed.files;
  files["-anchor"][100] = static_cast<char>(files["-anchor"][100] ^ 1);
  files["-wal"].resize(live_bytes(files["-wal"]) / 2);
  put_files(files);
  auto store = open();
  ASSERT_TRUE(store);
  const Run run = this->run(*store);
  EXPECT_TRUE(run.found.empty());
  std::set<std::string> lost(run.lost.begin(), run.lost.end());
  for (const auto& each : killed.acked) EXPECT_TRUE(lost.contains(each.first)) << each.first;
  EXPECT_TRUE(put(*store, "session-1", 777, 5000));
}

}  // namespace
}  // namespace keelback::store
