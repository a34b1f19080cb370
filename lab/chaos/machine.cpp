#include "chaos/machine.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "base/settings_text.h"
#include "os/machine.h"

namespace keelback::chaos {
namespace {

std::string field_of(const char* path, std::string_view name) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name)) continue;
    const std::size_t text = line.find_first_not_of(": \t", name.size());
    return text == line.npos ? std::string() : line.substr(text);
  }
  return {};
}

// What this process's cgroup may still take, of how much; its inactive file pages are as good as
// free. nullopt: it has no limit that can be read.
std::optional<std::pair<std::uint64_t, std::uint64_t>> left_in_cgroup() {
  const std::string self = field_of("/proc/self/cgroup", "0:");
  for (const std::string& group : {self, std::string("/")}) {  // a container may not see its own
    const std::string folder = "/sys/fs/cgroup" + group + "/";
    std::uint64_t most = 0, used = 0;
    if (!(std::ifstream(folder + "memory.max") >> most)) continue;
    if (!(std::ifstream(folder + "memory.current") >> used)) continue;
    const std::string idle = field_of((folder + "memory.stat").c_str(), "inactive_file");
    used -= std::min<std::uint64_t>(used, std::strtoull(idle.c_str(), nullptr, 10));
    return std::pair(most - std::min(most, used), most);
  }
  return std::nullopt;
}

}  // namespace

MachineFacts describe_machine() {
  os::Machine machine = os::describe_machine();
  return {.cpu = std::move(machine.processor),
          .kernel = fmt::format("{} {}", machine.system, machine.release),
          .version = KEELBACK_VERSION,
          .cpus = machine.processors};
}

MachineSample look_at_machine(const std::string& directory) {
  const os::MachineMemory memory = os::machine_memory();
  MachineSample out{.memory_total = memory.total, .memory_available = memory.available};
  if (const auto left = left_in_cgroup(); left && left->second < out.memory_total) {
    out.memory_total = left->second;
    out.memory_available = std::min(out.memory_available, left->first);
  }
  struct statvfs disk{};
  if (::statvfs(directory.c_str(), &disk) == 0) {
    out.disk_total = disk.f_blocks * disk.f_frsize;
    out.disk_available = disk.f_bavail * disk.f_frsize;
  }
  out.load = os::load_average();
  return out;
}

std::optional<std::string> too_little(const MachineSample& sample, const HostGuard& guard) {
  if (sample.memory_total > 0 && sample.memory_available < guard.memory.count) {
    return fmt::format("only {} of the machine's memory are left; stop.memory_below is {}",
                       format_bytes(Bytes{sample.memory_available >> 20 << 20}),
                       format_bytes(guard.memory));
  }
  if (sample.disk_total > 0 && sample.disk_available < guard.disk.count) {
    return fmt::format("only {} of the disk are left; stop.disk_below is {}",
                       format_bytes(Bytes{sample.disk_available >> 20 << 20}),
                       format_bytes(guard.disk));
  }
  return std::nullopt;
}

}  // namespace keelback::chaos
