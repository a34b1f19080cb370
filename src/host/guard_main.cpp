// keelback-guard: the process between the supervisor and everything it starts. It outlives the
// supervisor by the few milliseconds that it takes to kill what is left.
//
//   - It is the sub-reaper of all below it: whatever daemonises or calls setsid falls to it.
//   - It watches the supervisor's pidfd and the order socket; when either ends, it kills all its
//     children, again and again, until it has none, and exits.
//   - It reaps the children that it was told of (spawned or watched) only on order, because the
//     supervisor reads their status from the zombie; strangers that fall to it, it reaps at once.
//   - It waits nowhere but in poll(). A debugger can keep the zombie of a child from it, a process
//     can make /proc wait for its memory, and a supervisor may not read: none of them holds it up.
//     docs/security.md, Waits, has the list.
//
// Descriptors: 3 the order socket, 4 the supervisor's pidfd. One thread, no sanitizer, nothing but
// libc: it must not fail when everything else does.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <set>
#include <vector>

#include "host/guard_orders.h"
#include "os/cgroup.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/socket.h"

namespace keelback::host {
namespace {

constexpr int kOrders = 3;
constexpr int kSupervisor = 4;
constexpr std::size_t kSpecMax = 8 << 20;
constexpr std::size_t kAnswersMax = 4096;  // that the supervisor has not read
constexpr std::size_t kSearchesMax = 4;
constexpr int kGroupEndMs = 2000;  // for the deaths of those in a group

struct Starting {
  std::uint32_t tag;
  pid_t pid;
  os::Fd exec_error;  // ends when exec succeeds; else an errno comes first
};

// One more than the highest number the child is to have.
int first_free_number(const SpawnSpec& spec) { return 1 + *std::ranges::max_element(spec.numbers); }

// In the child of fork: becomes the program or returns the errno that prevented it.
int become(const SpawnSpec& spec, const std::vector<os::Fd>& fds) {
  ::setpgid(0, 0);
  static_cast<void>(os::take_kin(spec.kin));
  if (!spec.place.directory.empty()) {
    const auto entered = os::enter_cgroup(spec.place);
    if (!entered && spec.place.required) return entered.error().value();
  }
  sigset_t none;
  ::sigemptyset(&none);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (!spec.directory.empty() && ::chdir(spec.directory.c_str()) < 0) return errno;
  // First out of the way of every target number, then into place.
  const int above = first_free_number(spec);
  std::vector<os::Fd> copies;
  for (const os::Fd& fd : fds) {
    auto copy = os::duplicate(fd.get(), above);
    if (!copy) return copy.error().value();
    copies.push_back(std::move(*copy));
  }
  for (int number = 0; number < above; ++number) ::close(number);
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (::dup2(copies[i].get(), spec.numbers[i]) < 0) return errno;
  }
  if (spec.user) {
    for (const int number : spec.numbers) os::give_pipe(number, spec.user);
    if (auto done = os::become_user(spec.user); !done) return done.error().value();
  }
  std::vector<char*> argv, environment;
  for (const std::string& item : spec.argv) argv.push_back(const_cast<char*>(item.c_str()));
  for (const std::string& item : spec.environment) {
    environment.push_back(const_cast<char*>(item.c_str()));
    if (item.starts_with("PATH=")) ::setenv("PATH", item.c_str() + 5, 1);  // for the look-up
  }
  argv.push_back(nullptr);
  environment.push_back(nullptr);
  ::execvpe(argv[0], argv.data(), environment.data());
  return errno;
}

class Guard {
 public:
  explicit Guard(std::string cgroups) : cgroups_(std::move(cgroups)) {}
  bool run();  // false: it could not begin

 private:
  void spawn(const GuardOrder& order, std::vector<os::Fd> fds);
  void finish_start(Starting& starting);
  bool obey();  // one packet; false: the supervisor's end is closed
  void reap_strangers();
  void search(const GuardOrder& order);
  void kill_marked(const GuardOrder& order) const;
  std::string cgroup_of(const GuardOrder& order) const;
  void answer(std::uint32_t tag, pid_t pid, int error);
  bool send_answers();
  static void kill_everything();
  static bool all_dead();

  const std::string cgroups_;       // the workers' groups, each in a directory of its name; or none
  const pid_t guard_ = ::getpid();  // also in a search
  std::set<pid_t> told_of_;
  std::deque<GuardReply> answers_;  // not yet sent
  std::deque<pid_t> searches_;      // processes of ours that may still be at it
  std::vector<Starting> starting_;
};

void Guard::answer(std::uint32_t tag, pid_t pid, int error) {
  answers_.push_back({tag, pid, error});
  static_cast<void>(send_answers());
}

// False: the supervisor has stopped reading for good. If it is gone, poll will say so.
bool Guard::send_answers() {
  while (!answers_.empty()) {
    const GuardReply& next = answers_.front();
    const auto sent = os::send_packet(kOrders, {reinterpret_cast<const char*>(&next), sizeof(next)},
                                      os::Wait::kNo);
    if (!sent && sent.error().value() == EAGAIN) return answers_.size() < kAnswersMax;
    answers_.pop_front();
  }
  return true;
}

void Guard::spawn(const GuardOrder& order, std::vector<os::Fd> fds) {
  if (fds.empty()) return answer(order.tag, 0, EPROTO);
  auto text = os::read_all(fds.front().get(), kSpecMax);
  if (!text) return answer(order.tag, 0, text.error().value());
  fds.erase(fds.begin());
  const auto spec = decode_spawn_spec(*text);
  if (!spec || spec->numbers.empty() || spec->numbers.size() != fds.size()) {
    return answer(order.tag, 0, EPROTO);
  }
  auto pipe = os::make_pipe();
  if (!pipe) return answer(order.tag, 0, pipe.error().value());
  if (int error = os::fault::next()) return answer(order.tag, 0, error);
  const pid_t pid = ::fork();
  if (pid < 0) return answer(order.tag, 0, errno);
  if (pid == 0) {
    // Closed by exec, which says that all is well.
    const auto report = os::duplicate(pipe->write.get(), first_free_number(*spec));
    if (!report) ::_exit(127);
    const int number = become(*spec, fds);
    [[maybe_unused]] const auto put = ::write(report->get(), &number, sizeof(number));
    ::_exit(127);
  }
  ::setpgid(pid, pid);
  told_of_.insert(pid);
  starting_.push_back({order.tag, pid, std::move(pipe->read)});
}

void Guard::finish_start(Starting& starting) {
  int error = 0;
  auto got = os::read_some(starting.exec_error.get(), &error, sizeof(error));
  if (got && *got == sizeof(error)) {
    told_of_.erase(starting.pid);  // a stranger, reaped as soon as it can be
    ::waitpid(starting.pid, nullptr, WNOHANG);
    return answer(starting.tag, 0, error);
  }
  answer(starting.tag, starting.pid, 0);
}

bool Guard::obey() {
  GuardOrder order;
  std::vector<os::Fd> fds;
  auto packet = os::receive_packet_with_fds(kOrders, std::as_writable_bytes(std::span(&order, 1)),
                                            fds, os::Wait::kNo);
  if (!packet && packet.error().value() == EAGAIN) return true;
  if (!packet || packet->size == 0) return false;
  if (packet->size != sizeof(order)) return true;
  order.text[sizeof(order.text) - 1] = '\0';
  switch (order.op) {
    case GuardOp::kSpawn:
      spawn(order, std::move(fds));
      break;
    case GuardOp::kWatch:
      told_of_.insert(order.pid);
      break;
    case GuardOp::kReap:
      // If it is not our child, its parent has the same order, or dies and leaves it to us.
      told_of_.erase(order.pid);
      ::waitpid(order.pid, nullptr, WNOHANG);
      break;
    case GuardOp::kKillMarked:
      search(order);
      break;
    case GuardOp::kReport:
      answer(0, static_cast<pid_t>(os::count_open_fds().value_or(0)), 0);
      break;
  }
  return true;
}

void Guard::reap_strangers() {
  for (pid_t pid : os::children_of(::getpid())) {
    if (!told_of_.contains(pid)) ::waitpid(pid, nullptr, WNOHANG);
  }
}

// In a process of its own: what is sought can make whoever reads its environment or its maps wait.
void Guard::search(const GuardOrder& order) {
  const pid_t pid = ::fork();
  if (pid < 0) return kill_marked(order);
  if (pid == 0) {
    kill_marked(order);
    const std::string group = cgroup_of(order);
    if (!group.empty()) static_cast<void>(os::end_cgroup(group, kGroupEndMs));
    ::_exit(0);
  }
  searches_.push_back(pid);
  if (searches_.size() <= kSearchesMax) return;
  // Most have ended long ago. A stranger is reaped only while it is our child, so the number is not
  // somebody else's unless it was reaped: then it is no child of ours, and left alone.
  const auto children = os::children_of(::getpid());
  if (std::ranges::find(children, searches_.front()) != children.end()) {
    ::kill(searches_.front(), SIGKILL);
  }
  searches_.pop_front();
}

// The directory of the dead worker's group; empty: it has none.
std::string Guard::cgroup_of(const GuardOrder& order) const {
  const std::string_view entry = order.text;
  const std::size_t name = entry.find('=') + 1;
  const bool named = name != 0 && name < entry.size() && entry.find('/') == entry.npos;
  return cgroups_.empty() || !named ? "" : cgroups_ + "/" + std::string(entry.substr(name));
}

// What a dead worker left behind outside its group. Their own children fall to the guard when they
// die, so the search goes on until nobody new is found.
void Guard::kill_marked(const GuardOrder& order) const {
  const std::string group = cgroup_of(order);
  if (!group.empty()) static_cast<void>(os::kill_cgroup(group));
  const std::string_view entry = order.text;
  const auto left_behind = [&](pid_t pid) {
    return os::is_kin(pid, order.kin) || os::environment_has(pid, entry) ||
           os::maps_inode(pid, order.inode);
  };
  // Through a handle that is older than the look: a number that is used again is not mistaken.
  const auto kill_if_left = [&](pid_t pid) {
    const auto handle = os::Pidfd::open(pid);
    if (!handle || !left_behind(pid)) return false;
    static_cast<void>(handle->send_signal(SIGKILL));
    return true;
  };
  std::set<pid_t> seen = {::getpid()};
  for (bool found = true; found;) {
    found = false;
    for (pid_t pid : os::children_of(guard_)) {
      if (told_of_.contains(pid) || seen.contains(pid)) continue;
      const auto below = os::descendants_of(pid);  // before it dies and they are somebody else's
      if (!kill_if_left(pid)) continue;
      for (pid_t each : below) kill_if_left(each);
      seen.insert(pid);
      found = true;
    }
  }
}

// No more is alive below us. Zombies may be left: a debugger has them, or we have not reaped them.
bool Guard::all_dead() {
  return std::ranges::none_of(os::descendants_of(::getpid()), [](pid_t pid) {
    const auto stat = os::read_stat(pid);
    return stat && stat->state != 'Z' && stat->state != 'X';
  });
}

void Guard::kill_everything() {
  constexpr int kRounds = 10;  // of all being dead and nobody to be reaped
  for (int rounds = 0; rounds < kRounds;) {
    for (pid_t pid : os::descendants_of(::getpid())) ::kill(pid, SIGKILL);
    pid_t reaped = 0;
    bool any = false;
    while ((reaped = ::waitpid(-1, nullptr, WNOHANG)) > 0) any = true;
    if (reaped < 0 && errno == ECHILD) return;
    rounds = !any && all_dead() ? rounds + 1 : 0;
    // A death wakes us (SIGCHLD is blocked, so it stays pending); a process in the D state only
    // lets us wait.
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    const timespec pause{0, 5'000'000};
    ::sigtimedwait(&child, nullptr, &pause);
  }
}

bool Guard::run() {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child, nullptr);
  if (os::fault::next() != 0) return false;
  const os::Fd children(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!children) return false;
  for (bool serving = true; serving;) {
    const short orders = answers_.empty() ? POLLIN : POLLIN | POLLOUT;
    std::vector<pollfd> entries = {
        {kOrders, orders, 0}, {kSupervisor, POLLIN, 0}, {children.get(), POLLIN, 0}};
    for (const Starting& starting : starting_) {
      entries.push_back({starting.exec_error.get(), POLLIN, 0});
    }
    if (::poll(entries.data(), entries.size(), -1) < 0) continue;  // EINTR
    std::vector<Starting> waiting;
    for (std::size_t i = 0; i < starting_.size(); ++i) {
      if (entries[3 + i].revents == 0) {
        waiting.push_back(std::move(starting_[i]));
      } else {
        finish_start(starting_[i]);
      }
    }
    starting_ = std::move(waiting);
    if (entries[2].revents != 0) {
      signalfd_siginfo info;
      while (os::read_some(children.get(), &info, sizeof(info))) {
      }
      reap_strangers();
    }
    if ((entries[0].revents & ~POLLOUT) != 0) serving = obey();
    if ((entries[0].revents & POLLOUT) != 0 && !send_answers()) serving = false;
    if (entries[1].revents != 0) serving = false;
  }
  kill_everything();
  if (!cgroups_.empty()) static_cast<void>(os::end_cgroup(cgroups_, kGroupEndMs));
  return true;
}

}  // namespace
}  // namespace keelback::host

int main(int argc, char** argv) {
  using namespace keelback::host;
  // A service manager's SIGTERM goes to the whole group of processes; it is the supervisor's to
  // obey, and ours to be there afterwards.
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2}) {
    ::signal(signal, SIG_IGN);
  }
  keelback::os::forbid_inspection();
  ::close_range(kSupervisor + 1, ~0U, 0);
  for (int fd : {kOrders, kSupervisor}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return EXIT_FAILURE;
  }
  if (::chdir("/") < 0 || ::prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) return EXIT_FAILURE;
  return Guard(argc > 1 ? argv[1] : "").run() ? EXIT_SUCCESS : EXIT_FAILURE;
}
