// keelback-warden JOURNAL: undoes faults when the laboratory cannot. A process of its own, in a
// session of its own: it lives on when the laboratory is killed, undoes what is still in force,
// last first, and goes. Nothing is injected before its undoing stands in the journal and has been
// acknowledged; what has no end by itself has a lease.
//
// keelback-warden --compete PROCESSOR MS: keeps a processor busy until it is killed, until the
// laboratory that started it is gone, or for so long.
//
// Descriptor 3: SOCK_SEQPACKET to the laboratory. Packets: "arm ID LEASE_MS …" -> "ok ID";
// "undo ID" -> "undone ID TEXT" or "failed ID TEXT"; its end: undo everything.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/processors.h"
#include "chaos/undo.h"

namespace keelback::chaos {
namespace {

constexpr int kLab = 3;

std::uint64_t now_ms() {
  timespec ts{};
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<std::uint64_t>(ts.tv_sec) * 1000 +
         static_cast<std::uint64_t>(ts.tv_nsec) / 1'000'000;
}

class Warden {
 public:
  explicit Warden(std::string journal) : path_(std::move(journal)) {
    journal_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    // Until we end: whoever cleans up leaves the journal of a living warden alone.
    if (journal_ >= 0) ::flock(journal_, LOCK_EX);
  }

  int run() {
    if (journal_ < 0) return 1;
    while (true) {
      pollfd lab{.fd = kLab, .events = POLLIN, .revents = 0};
      const int ready = ::poll(&lab, 1, patience());
      expire();
      if (ready < 0 && errno != EINTR) break;
      if (ready <= 0) continue;
      char packet[1024];
      const ssize_t got = ::recv(kLab, packet, sizeof(packet), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      obey(std::string(packet, static_cast<std::size_t>(got)));
    }
    bool all = true;
    while (!armed_.empty()) all = undo(armed_.back().undo.id).ok && all;
    if (all) ::unlink(path_.c_str());
    return all ? 0 : 1;
  }

 private:
  struct Armed {
    Undo undo;
    std::uint64_t until = 0;
  };

  void note(const std::string& line) {
    const std::string whole = line + "\n";
    if (::write(journal_, whole.data(), whole.size()) < 0) return;  // a second line of defence only
  }
  void answer(const std::string& text) { ::send(kLab, text.data(), text.size(), MSG_NOSIGNAL); }

  void obey(const std::string& packet) {
    if (const auto order = parse_undo(packet)) {
      note(packet);
      armed_.push_back({*order, now_ms() + order->lease_ms});
      return answer("ok " + std::to_string(order->id));
    }
    unsigned long long id = 0;
    if (std::sscanf(packet.c_str(), "undo %llu", &id) == 1) {
      const Undone done = undo(id);
      return answer((done.ok ? "undone " : "failed ") + std::to_string(id) + " " + done.text);
    }
    answer("what");
  }

  Undone undo(std::uint64_t id) {
    const auto found =
        std::ranges::find_if(armed_, [id](const Armed& a) { return a.undo.id == id; });
    if (found == armed_.end()) return {true, "it was undone already"};
    const Undone done = perform(found->undo);
    if (done.ok) note("done " + std::to_string(id));
    armed_.erase(found);
    return done;
  }

  int patience() const {
    std::uint64_t next = now_ms() + 60'000;
    for (const Armed& armed : armed_) next = std::min(next, armed.until);
    const std::uint64_t now = now_ms();
    return next <= now ? 0 : static_cast<int>(next - now) + 1;
  }
  void expire() {
    const std::uint64_t now = now_ms();
    for (std::size_t i = 0; i < armed_.size();) {
      if (armed_[i].until <= now) {
        undo(armed_[i].undo.id);
      } else {
        ++i;
      }
    }
  }

  std::string path_;
  int journal_ = -1;
  std::vector<Armed> armed_;
};

int compete(int processor, std::uint64_t ms) {
  const pid_t laboratory = ::getppid();
  if (!bind_to(::getpid(), {processor})) return 1;
  const std::uint64_t until = now_ms() + ms;
  while (now_ms() < until && ::getppid() == laboratory) {
    for (const std::uint64_t slice = now_ms() + 1; now_ms() < slice;) {
    }
  }
  return 0;
}

}  // namespace
}  // namespace keelback::chaos

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == "--compete") {
    return keelback::chaos::compete(std::atoi(argv[2]), std::strtoull(argv[3], nullptr, 10));
  }
  if (argc != 2) return 64;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  return keelback::chaos::Warden(argv[1]).run();
}
