// The supervisor's end of the guard: starts programs, watches over zombies. Loop thread only.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/driver.h"
#include "host/guard_orders.h"
#include "host/loop_io.h"
#include "os/process.h"

namespace keelback::host {

class GuardClient {
 public:
  using OnSpawned = std::move_only_function<void(os::Result<pid_t>)>;
  using OnDeath = std::move_only_function<void()>;

  // Starts `program`. `on_death` comes once if the guard dies before stop(), on the loop.
  static os::Result<std::unique_ptr<GuardClient>> start(boost::asio::io_context& loop,
                                                        const std::string& program,
                                                        OnDeath on_death,
                                                        const std::string& cgroups = {});
  ~GuardClient();

  // `fds` become spec.numbers; ours are closed once sent. The answer comes on the loop, ECANCELED
  // if the guard dies first. The child's zombie stands until reap().
  void spawn(const SpawnSpec& spec, std::vector<os::Fd> fds, OnSpawned done);
  // `pid`, a grandchild so far, is to be treated like a child should it become one.
  void watch(pid_t pid);
  void reap(pid_t pid);
  // Kills its strangers that are `kin`, whose environment holds "NAME=value" or that map the memfd
  // `inode`.
  void kill_marked(const std::string& entry, std::uint64_t inode, std::uint64_t kin);

  // What it holds, as far as it has said; and asks it again.
  OwnUse use();

  pid_t pid() const { return pid_; }
  bool alive() const { return alive_; }
  // Lets it kill what is left, then reaps it; at most `limit`, then all below it and it are killed.
  void stop(std::chrono::milliseconds limit);

 private:
  GuardClient(boost::asio::io_context& loop, pid_t pid, os::Pidfd pidfd, os::Fd socket,
              OnDeath on_death);
  void order(const GuardOrder& order, std::vector<os::Fd> fds = {});
  void answered(std::string_view packet);
  void died();

  boost::asio::io_context& loop_;
  pid_t pid_;
  bool alive_ = true;
  os::Pidfd pidfd_;
  OnDeath on_death_;
  std::uint32_t last_tag_ = 0;  // of a spawn
  std::uint64_t open_fds_ = 0;
  std::unordered_map<std::uint32_t, OnSpawned> spawning_;
  std::unique_ptr<PacketLink> link_;
  std::unique_ptr<FdWatch> death_watch_;
};

}  // namespace keelback::host
