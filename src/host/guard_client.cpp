#include "host/guard_client.h"

#include <signal.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <cstring>
#include <utility>

#include "os/memory.h"
#include "os/socket.h"

namespace keelback::host {
namespace {

// How long a guard that has been killed may take to become a zombie.
constexpr std::chrono::milliseconds kReapLimit(1000);

// A debugger that is attached to a process keeps its zombie from us for as long as it likes, and
// waitpid() would wait with us: the zombie is asked for again until it can be had, or the loop
// ends.
void reap_when_it_can_be(boost::asio::io_context& loop, pid_t pid,
                         std::chrono::milliseconds limit) {
  if (os::try_to_reap(pid, limit)) return;
  auto timer = std::make_shared<boost::asio::steady_timer>(loop, std::chrono::milliseconds(100));
  timer->async_wait([&loop, pid, timer](const boost::system::error_code& error) {
    if (!error) reap_when_it_can_be(loop, pid, std::chrono::milliseconds(0));
  });
}

}  // namespace

os::Result<std::unique_ptr<GuardClient>> GuardClient::start(boost::asio::io_context& loop,
                                                            const std::string& program,
                                                            OnDeath on_death,
                                                            const std::string& cgroups) {
  auto pair = os::make_seqpacket_pair();
  if (!pair) return std::unexpected(pair.error());
  auto self = os::Pidfd::open(::getpid());
  if (!self) return std::unexpected(self.error());
  auto null = os::open_null();
  if (!null) return std::unexpected(null.error());
  const int fds[] = {null->get(), null->get(), null->get(), pair->theirs.get(), self->get()};
  auto pid = os::spawn(cgroups.empty() ? std::vector{program} : std::vector{program, cgroups}, fds);
  if (!pid) return std::unexpected(pid.error());
  auto pidfd = os::Pidfd::open(*pid);  // our own child: it stands until we reap it
  if (!pidfd) {
    pair->ours.reset();  // it ends at the end of its socket
    pair->theirs.reset();
    reap_when_it_can_be(loop, *pid, kReapLimit);
    return std::unexpected(pidfd.error());
  }
  return std::unique_ptr<GuardClient>(
      new GuardClient(loop, *pid, std::move(*pidfd), std::move(pair->ours), std::move(on_death)));
}

GuardClient::GuardClient(boost::asio::io_context& loop, pid_t pid, os::Pidfd pidfd, os::Fd socket,
                         OnDeath on_death)
    : loop_(loop),
      pid_(pid),
      pidfd_(std::move(pidfd)),
      on_death_(std::move(on_death)),
      link_(std::make_unique<PacketLink>(
          loop, std::move(socket), [this](std::string_view packet) { answered(packet); },
          // A guard that cannot be ordered is none: its death brings another.
          [this] { static_cast<void>(pidfd_.send_signal(SIGKILL)); })),
      death_watch_(watch_death(loop, pidfd_, [this] { died(); })) {}

GuardClient::~GuardClient() { stop(std::chrono::milliseconds(1000)); }

void GuardClient::spawn(const SpawnSpec& spec, std::vector<os::Fd> fds, OnSpawned done) {
  auto text = os::make_text_memfd("keelback-spawn", encode(spec));
  const std::uint32_t tag = ++last_tag_;
  spawning_.emplace(tag, std::move(done));
  if (!text) {
    const GuardReply reply{tag, 0, text.error().value()};
    return answered({reinterpret_cast<const char*>(&reply), sizeof(reply)});
  }
  fds.insert(fds.begin(), std::move(*text));
  GuardOrder spawn_order{};
  spawn_order.op = GuardOp::kSpawn;
  spawn_order.tag = tag;
  order(spawn_order, std::move(fds));
}

void GuardClient::watch(pid_t pid) { order({GuardOp::kWatch, 0, pid, 0, 0, {}}); }
void GuardClient::reap(pid_t pid) { order({GuardOp::kReap, 0, pid, 0, 0, {}}); }

void GuardClient::kill_marked(const std::string& entry, std::uint64_t inode, std::uint64_t kin) {
  GuardOrder kill_order{GuardOp::kKillMarked, 0, 0, inode, kin, {}};
  const std::size_t length = std::min(entry.size(), sizeof(kill_order.text) - 1);
  std::memcpy(kill_order.text, entry.data(), length);
  order(kill_order);
}

OwnUse GuardClient::use() {
  order({GuardOp::kReport, 0, 0, 0, 0, {}});
  return {open_fds_, os::read_resident_bytes(pid_).value_or(0)};
}

void GuardClient::order(const GuardOrder& order, std::vector<os::Fd> fds) {
  if (link_ == nullptr) return;
  // A guard that takes no orders is dead or dying: died() cancels what waits for it.
  static_cast<void>(
      link_->send({reinterpret_cast<const char*>(&order), sizeof(order)}, std::move(fds)));
}

void GuardClient::answered(std::string_view packet) {
  GuardReply reply;
  if (packet.size() != sizeof(reply)) return;
  std::memcpy(&reply, packet.data(), sizeof(reply));
  if (reply.tag == 0) open_fds_ = static_cast<std::uint64_t>(reply.pid);
  auto node = spawning_.extract(reply.tag);
  if (node.empty()) return;
  if (reply.error != 0) {
    node.mapped()(os::failure(reply.error));
  } else {
    node.mapped()(reply.pid);
  }
}

void GuardClient::died() {
  death_watch_->stop();
  alive_ = false;
  reap_when_it_can_be(loop_, pid_, std::chrono::milliseconds(0));
  for (auto& [tag, done] : std::exchange(spawning_, {})) done(os::failure(ECANCELED));
  if (auto on_death = std::exchange(on_death_, nullptr)) on_death();
}

void GuardClient::stop(std::chrono::milliseconds limit) {
  link_.reset();
  death_watch_.reset();
  spawning_.clear();
  if (!alive_) return;
  alive_ = false;
  if (!pidfd_.wait_dead(limit).value_or(false)) {
    // Stopped, perhaps by a debugger: what it would have killed is killed here.
    for (const pid_t pid : os::descendants_of(pid_)) ::kill(pid, SIGKILL);
    static_cast<void>(pidfd_.send_signal(SIGKILL));
  }
  reap_when_it_can_be(loop_, pid_, kReapLimit);
}

}  // namespace keelback::host
