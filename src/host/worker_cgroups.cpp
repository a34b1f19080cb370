#include "host/worker_cgroups.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "host/environment.h"
#include "host/worker_process.h"

namespace keelback::host {
namespace {

constexpr std::string_view kPrefix = "keelback-";
constexpr int kSweepMs = 200;

// What supervisors have left that were killed together with their guards.
void sweep(const std::string& parent) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !entry.is_directory(error)) continue;
    if (owner_is_dead(name.substr(kPrefix.size()))) {
      static_cast<void>(os::end_cgroup(entry.path().string(), kSweepMs));
    }
  }
}

}  // namespace

WorkerCgroups::WorkerCgroups(const Settings& settings, const std::string& owner,
                             const os::User& user) {
  if (settings.workers.cgroup == CgroupMode::kOff) {
    why_not_ = "workers.cgroup is off";
    return;
  }
  const auto parent = os::own_cgroup();
  if (!parent) {
    why_not_ = "there are no control groups of version 2: " + parent.error().message();
    return;
  }
  sweep(*parent);
  static std::atomic<unsigned> pools = 0;  // of this process
  const std::string name = fmt::format("{}{}.{}", kPrefix, owner, ++pools);
  const std::string made = *parent + "/" + name;
  if (::mkdir(made.c_str(), 0755) < 0) {
    why_not_ = fmt::format("{} cannot be made: {}", made, os::last_failure().error().message());
    return;
  }
  if (::access((made + "/cgroup.kill").c_str(), W_OK) < 0) {
    why_not_ = "this kernel cannot kill a control group (Linux 5.14 can)";
    os::remove_cgroup(made);
    return;
  }
  directory_ = made;
  const auto& workers = settings.workers;
  if (workers.memory_max.count > 0 || workers.processes_max > 0) allow_limits(*parent, name);
  if (!user) return;
  given_ = os::give_cgroup(directory_, user).has_value();
}

// Only a group without processes of its own may bound those below it (the root may, too). So this
// process goes into one beside those of its workers.
void WorkerCgroups::allow_limits(const std::string& parent, const std::string& name) {
  for (const auto& [controller, allowed] :
       {std::pair{"memory", &memory_}, std::pair{"pids", &processes_}}) {
    if (!os::has_controller(parent, controller)) continue;
    const std::string order = std::string("+") + controller;
    auto done = os::write_cgroup(parent, "cgroup.subtree_control", order);
    if (!done) {
      static_cast<void>(os::enter_cgroup({parent + "/" + name + ".daemon", {}, false}));
      done = os::write_cgroup(parent, "cgroup.subtree_control", order);
    }
    *allowed = done && os::write_cgroup(directory_, "cgroup.subtree_control", order);
  }
}

std::string WorkerCgroups::missing(const Settings& settings) const {
  const auto& workers = settings.workers;
  const bool required = workers.cgroup == CgroupMode::kRequire;
  const bool memory = workers.memory_max.count > 0, processes = workers.processes_max > 0;
  if (directory_.empty()) {
    return required || memory || processes ? "workers have no control groups: " + why_not_ : "";
  }
  constexpr auto kText =
      "{} bounds nothing: the control group of this process has no {} controller";
  if (memory && !memory_) return fmt::format(kText, "workers.memory_max", "memory");
  if (processes && !processes_) return fmt::format(kText, "workers.processes_max", "pids");
  return {};
}

os::CgroupPlace WorkerCgroups::place_of_zygote(std::uint64_t number) const {
  if (!given_) return {};
  return {fmt::format("{}/zygote-{}", directory_, number), {}, false};
}

os::CgroupPlace WorkerCgroups::place_of(WorkerId worker, const Settings& settings) const {
  os::CgroupPlace place;
  if (directory_.empty()) return place;
  place.directory = directory_ + "/" + to_string(worker);
  place.required = settings.workers.cgroup == CgroupMode::kRequire;
  const auto set = [&](bool allowed, std::string file, std::uint64_t value) {
    if (value > 0 && (allowed || place.required)) {
      place.settings.emplace_back(std::move(file), std::to_string(value));
    }
  };
  set(memory_, "memory.max", settings.workers.memory_max.count);
  set(processes_, "pids.max", settings.workers.processes_max);
  return place;
}

}  // namespace keelback::host
