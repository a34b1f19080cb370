// A laboratory that is SIGKILLed at any step of a fault leaves nothing of it. The laboratory here
// is a child that does what the real one does and then dies without a word; the victim is a process
// that somebody else started.
#include "chaos/warden.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "chaos/cleanup.h"
#include "chaos/processors.h"
#include "host/install.h"
#include "load/soon.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
constexpr auto kPatience = 10s;

class Directory {
 public:
  Directory() {
    std::string pattern = (fs::temp_directory_path() / "keelback-warden-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  // A warden whose laboratory has died may make its journal just now, and takes it away then.
  ~Directory() {
    EXPECT_TRUE(load::soon(
        [this] {
          std::error_code error;
          fs::remove_all(path_, error);
          return !error;
        },
        kPatience));
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Victim {
 public:
  Victim() : pid_(::fork()) {
    if (pid_ == 0) {
      for (;;) ::pause();
    }
    start_time_ = os::read_stat(pid_)->start_time;
    ::prlimit(pid_, RLIMIT_NOFILE, nullptr, &before_);
  }
  ~Victim() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  char state() const { return os::read_stat(pid_)->state; }
  bool stopped() const { return state() == 'T'; }
  rlimit limit() const {
    rlimit now{};
    ::prlimit(pid_, RLIMIT_NOFILE, nullptr, &now);
    return now;
  }
  bool as_before() const {
    return !stopped() && state() != 'Z' && limit().rlim_cur == before_.rlim_cur &&
           limit().rlim_max == before_.rlim_max;
  }
  Undo undo(Undo::Kind kind) const {
    return {.lease_ms = 60'000,
            .kind = kind,
            .pid = pid_,
            .start_time = start_time_,
            .resource = RLIMIT_NOFILE,
            .soft = before_.rlim_cur,
            .hard = before_.rlim_max};
  }
  void limit_to(rlim_t soft) const {
    const rlimit lower{.rlim_cur = soft, .rlim_max = before_.rlim_max};
    ::prlimit(pid_, RLIMIT_NOFILE, &lower, nullptr);
  }

 private:
  pid_t pid_;
  std::uint64_t start_time_ = 0;
  rlimit before_{};
};

// Where the laboratory dies.
enum class Step { kStarted, kArmed, kInjected, kUndone };
constexpr Step kSteps[] = {Step::kStarted, Step::kArmed, Step::kInjected, Step::kUndone};

// Runs `inject` in a child that kills itself after the step. Returns when the child is dead.
void laboratory(const std::string& journal, Step until, const std::vector<Undo>& undos,
                const std::function<void()>& inject) {
  const pid_t lab = ::fork();
  if (lab == 0) {
    auto warden = Warden::start(journal);
    if (!warden) ::_exit(1);
    std::vector<std::uint64_t> ids;
    if (until >= Step::kArmed) {
      for (const Undo& each : undos) {
        const auto id = warden->arm(each);
        if (!id) ::_exit(2);
        ids.push_back(*id);
      }
    }
    if (until >= Step::kInjected) inject();
    if (until >= Step::kUndone) {
      if (!warden->undo(ids.front())) ::_exit(3);
    }
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(lab, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status)) << "the laboratory itself failed: " << status;
}

TEST(Warden, AStoppedProcessGoesOnWhereverTheLaboratoryIsKilled) {
  for (const Step step : kSteps) {
    const Directory directory;
    const Victim victim;
    laboratory(directory / "journal", step, {victim.undo(Undo::Kind::kContinue)}, [&] {
      ::kill(victim.pid(), SIGSTOP);
      while (!victim.stopped()) std::this_thread::sleep_for(100us);
    });
    EXPECT_TRUE(load::soon([&] { return !fs::exists(directory / "journal"); }, kPatience))
        << "the warden stays behind, step " << static_cast<int>(step);
    EXPECT_TRUE(victim.as_before()) << "step " << static_cast<int>(step);
  }
}

TEST(Warden, ALimitIsLiftedWhereverTheLaboratoryIsKilled) {
  for (const Step step : kSteps) {
    const Directory directory;
    const Victim victim;
    laboratory(directory / "journal", step, {victim.undo(Undo::Kind::kLimit)},
               [&] { victim.limit_to(7); });
    EXPECT_TRUE(load::soon([&] { return !fs::exists(directory / "journal"); }, kPatience));
    EXPECT_TRUE(victim.as_before()) << "step " << static_cast<int>(step);
  }
}

TEST(Warden, FilesGoAndComeBackWhereverTheLaboratoryIsKilled) {
  for (const Step step : kSteps) {
    const Directory directory;
    const std::string mine = directory / "control", theirs = directory / "theirs";
    std::ofstream(theirs) << "theirs";
    const Undo unlink{.lease_ms = 60'000, .kind = Undo::Kind::kUnlink, .path = mine};
    const Undo rename{.lease_ms = 60'000, .kind = Undo::Kind::kRename, .path = theirs};
    laboratory(directory / "journal", step, {unlink, rename}, [&] {
      std::ofstream(mine) << "order";
      fs::rename(theirs, theirs + std::string(kAside));
    });
    EXPECT_TRUE(load::soon([&] { return !fs::exists(directory / "journal"); }, kPatience));
    EXPECT_FALSE(fs::exists(mine));
    EXPECT_TRUE(fs::exists(theirs)) << "step " << static_cast<int>(step);
  }
}

TEST(Warden, WhatTheLaboratoryStartedDiesWithIt) {
  const Directory directory;
  const Victim victim;
  laboratory(directory / "journal", Step::kInjected, {victim.undo(Undo::Kind::kKill)}, [] {});
  EXPECT_TRUE(load::soon([&] { return victim.state() == 'Z'; }, kPatience));
}

TEST(Warden, ALeaseEndsByItselfWhileTheLaboratoryLives) {
  const Directory directory;
  const Victim victim;
  auto warden = Warden::start(directory / "journal");
  ASSERT_TRUE(warden) << warden.error();
  Undo undo = victim.undo(Undo::Kind::kContinue);
  undo.lease_ms = 50;
  ASSERT_TRUE(warden->arm(undo));
  ::kill(victim.pid(), SIGSTOP);
  ASSERT_TRUE(load::soon([&] { return victim.stopped(); }, kPatience));
  EXPECT_TRUE(load::soon([&] { return !victim.stopped(); }, kPatience));
}

TEST(Warden, UndoingTwiceIsAsGoodAsOnce) {
  const Directory directory;
  const Victim victim;
  auto warden = Warden::start(directory / "journal");
  ASSERT_TRUE(warden) << warden.error();
  const auto id = warden->arm(victim.undo(Undo::Kind::kLimit));
  ASSERT_TRUE(id);
  victim.limit_to(7);
  EXPECT_TRUE(warden->undo(*id));
  EXPECT_TRUE(warden->undo(*id));
  EXPECT_TRUE(victim.as_before());
}

// Goal: a number that changed hands is never hit.
TEST(Warden, AnotherProcessOfTheSameNumberIsLeftAlone) {
  const Victim victim;
  ::kill(victim.pid(), SIGSTOP);
  ASSERT_TRUE(load::soon([&] { return victim.stopped(); }, kPatience));
  for (const Undo::Kind kind : {Undo::Kind::kContinue, Undo::Kind::kLimit, Undo::Kind::kKill}) {
    Undo undo = victim.undo(kind);
    ++undo.start_time;
    EXPECT_EQ(perform(undo).text, "the process is gone");
  }
  EXPECT_TRUE(victim.stopped());
  EXPECT_FALSE(perform({.kind = Undo::Kind::kKill, .pid = 1}).ok);
  EXPECT_FALSE(perform({.kind = Undo::Kind::kKill, .pid = -1}).ok);
}

// Goal: what functions left in shared memory goes with its directory, and nothing else ever does.
TEST(Warden, RemovesADirectoryOfTheLaboratoryAndNoOther) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm takes no files of ours";
  const std::string shared = std::string(kShared) + std::to_string(::getpid());
  fs::create_directory(shared);
  std::ofstream(shared + "/1") << "left";
  std::ofstream(shared + "/2") << "left";
  const Undo undo{.kind = Undo::Kind::kRemove, .path = shared};
  EXPECT_TRUE(perform(undo).ok);
  EXPECT_FALSE(fs::exists(shared));
  EXPECT_TRUE(perform(undo).ok) << "doing it twice is as good as once";
  const Directory other;
  std::ofstream(other / "mine") << "mine";
  for (const std::string& path :
       {other.path(), std::string("/dev/shm"), shared + "/..", shared + "/deeper"}) {
    EXPECT_FALSE(parse_undo("arm 1 2 remove 0 0 0 0 0 " + path)) << path;
    EXPECT_FALSE(perform({.kind = Undo::Kind::kRemove, .path = path}).ok) << path;
  }
  EXPECT_TRUE(fs::exists(other / "mine"));
}

// Goal: a worker that had one processor may use all again.
TEST(Warden, GivesTheProcessorsBack) {
  const Victim victim;
  const std::vector<int> before = processors_of(victim.pid());
  ASSERT_FALSE(before.empty());
  Undo undo = victim.undo(Undo::Kind::kBind);
  undo.path = processors_text(before);
  ASSERT_TRUE(bind_to(victim.pid(), {before.back()}));
  EXPECT_EQ(processors_of(victim.pid()), std::vector<int>{before.back()});
  EXPECT_TRUE(perform(undo).ok);
  EXPECT_EQ(processors_of(victim.pid()), before);
}

// Goal: a competitor does not outlive the laboratory, though nobody was told of it.
TEST(Warden, ACompetitorEndsWithTheLaboratory) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t lab = ::fork();
  if (lab == 0) {
    const auto null = os::open_null();
    const int fds[] = {null->get(), null->get(), null->get()};
    const auto pid = os::spawn({host::find_program("keelback-warden"), "--compete",
                                std::to_string(processors_of(::getpid()).back()), "60000"},
                               fds);
    const pid_t told = pid ? *pid : 0;
    if (::write(ends[1], &told, sizeof(told)) < 0) ::_exit(1);
    ::pause();
  }
  pid_t competitor = 0;
  ASSERT_EQ(::read(ends[0], &competitor, sizeof(competitor)), static_cast<ssize_t>(sizeof(pid_t)));
  ::close(ends[0]);
  ::close(ends[1]);
  ASSERT_GT(competitor, 1);
  EXPECT_TRUE(load::soon(
      [&] {
        const auto time = processor_time(competitor);
        return time && time->ran_ns + time->waited_ns > 5'000'000;
      },
      kPatience))
      << "it does not compete";
  const auto handle = os::Pidfd::open(competitor);
  ASSERT_TRUE(handle);
  ::kill(lab, SIGKILL);
  ::waitpid(lab, nullptr, 0);
  const auto over = handle->wait_dead(10s);
  EXPECT_TRUE(over && *over);
}

TEST(Warden, WhenItIsKilledTheLaboratoryUndoesByItself) {
  const Directory directory;
  const Victim victim;
  auto warden = Warden::start(directory / "journal");
  ASSERT_TRUE(warden) << warden.error();
  const auto id = warden->arm(victim.undo(Undo::Kind::kContinue));
  ASSERT_TRUE(id);
  ::kill(victim.pid(), SIGSTOP);
  ::kill(warden->pid(), SIGKILL);
  EXPECT_FALSE(warden->arm(victim.undo(Undo::Kind::kLimit)))
      << "nothing is injected without a warden";
  EXPECT_TRUE(warden->undo(*id));
  EXPECT_TRUE(load::soon([&] { return !victim.stopped(); }, kPatience));
}

// Goal: laboratory and warden killed together, as the OOM killer may: the journal is enough.
TEST(CleanUp, UndoesWhatAJournalStillHolds) {
  const Directory directory;
  const Victim victim;
  {
    std::ofstream journal(directory / "warden.journal");
    Undo cont = victim.undo(Undo::Kind::kContinue), limit = victim.undo(Undo::Kind::kLimit);
    cont.id = 1;
    limit.id = 2;
    journal << to_line(cont) << "\n" << to_line(limit) << "\n";
  }
  ::kill(victim.pid(), SIGSTOP);
  victim.limit_to(7);
  const std::vector<Cleaned> cleaned = clean_up({directory.path()});
  ASSERT_EQ(cleaned.size(), 1U);
  EXPECT_FALSE(cleaned[0].busy);
  EXPECT_THAT(cleaned[0].text, testing::HasSubstr("SIGCONT sent"));
  EXPECT_THAT(cleaned[0].text, testing::Not(testing::HasSubstr("failed")));
  EXPECT_TRUE(load::soon([&] { return victim.as_before(); }, kPatience));
  EXPECT_FALSE(fs::exists(directory / "warden.journal"));
  EXPECT_THAT(clean_up({directory.path()}), testing::IsEmpty()) << "there is nothing left";
}

TEST(CleanUp, LeavesARunThatGoesOnAlone) {
  const Directory directory;
  const Victim victim;
  auto warden = Warden::start(directory / "warden.journal");
  ASSERT_TRUE(warden) << warden.error();
  ASSERT_TRUE(warden->arm(victim.undo(Undo::Kind::kContinue)));
  ::kill(victim.pid(), SIGSTOP);
  ASSERT_TRUE(load::soon([&] { return victim.stopped(); }, kPatience));
  const std::vector<Cleaned> cleaned = clean_up({directory.path()});
  ASSERT_EQ(cleaned.size(), 1U);
  EXPECT_TRUE(cleaned[0].busy);
  EXPECT_TRUE(victim.stopped());
}

// Goal: two laboratories on one machine do not accuse each other of what they leave; one that is
// gone, or this one, is accused.
TEST(Residue, WhatAnotherLivingLaboratoryHoldsIsNobodysResidue) {
  const auto place = [](pid_t pid) {
    return std::string(kShared) + std::to_string(pid) + "-19c5801b2fb66652";
  };
  EXPECT_TRUE(is_of_another_laboratory(place(::getppid())));
  EXPECT_FALSE(is_of_another_laboratory(place(::getpid())));
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(gone, nullptr, 0), gone);
  EXPECT_FALSE(is_of_another_laboratory(place(gone)));
  EXPECT_FALSE(is_of_another_laboratory("/dev/shm/keelback-1"));
  EXPECT_FALSE(is_of_another_laboratory(std::string(kShared) + "mine"));
}

TEST(UndoLine, ReadsBackWhatItWrote) {
  const Undo all[] = {
      {.id = 3, .lease_ms = 9, .kind = Undo::Kind::kContinue, .pid = 7, .start_time = 8},
      {.id = 4, .kind = Undo::Kind::kKill, .pid = 7, .start_time = 8},
      {.id = 5,
       .kind = Undo::Kind::kLimit,
       .pid = 7,
       .start_time = 8,
       .resource = 9,
       .soft = 10,
       .hard = 11},
      {.id = 6, .kind = Undo::Kind::kUnlink, .path = "/a path/with spaces"},
      {.id = 7, .kind = Undo::Kind::kRename, .path = "/b"},
      {.id = 8, .kind = Undo::Kind::kRemove, .path = std::string(kShared) + "1-2"},
      {.id = 9, .kind = Undo::Kind::kBind, .pid = 7, .start_time = 8, .path = "0,1,5"}};
  for (const Undo& each : all) {
    const auto back = parse_undo(to_line(each));
    ASSERT_TRUE(back) << to_line(each);
    EXPECT_EQ(to_line(*back), to_line(each));
    EXPECT_EQ(back->path, each.path);
  }
  EXPECT_FALSE(parse_undo("arm 1 2 unlink 0 0 0 0 0 "));
  EXPECT_FALSE(parse_undo("arm 1 2 format 0 0 0 0 0 /"));
  EXPECT_FALSE(parse_undo("arm 1 2 bind 7 8 0 0 0 "));
  EXPECT_FALSE(parse_undo("arm 1 2 bind 7 8 0 0 0 0,x"));
  EXPECT_FALSE(parse_undo("arm 1 2 cont 7"));
  EXPECT_FALSE(parse_undo("arm x"));
}

}  // namespace
}  // namespace keelback::chaos
