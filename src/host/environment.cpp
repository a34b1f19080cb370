#include "host/environment.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "base/settings_schema.h"
#include "host/worker_user.h"
#include "os/process.h"
#include "wire/frame.h"

namespace keelback::host {
namespace {

constexpr std::string_view kOwner = "KEELBACK_OWNER=";

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

constexpr std::string_view kDevice = "KEELBACK_DEVICE";
constexpr std::string_view kSlot = "{slot}";

std::string with_slot(std::string value, std::uint32_t slot) {
  const std::string number = std::to_string(slot);
  for (std::size_t at = value.find(kSlot); at != value.npos; at = value.find(kSlot, at)) {
    value.replace(at, kSlot.size(), number);
    at += number.size();
  }
  return value;
}

void put(std::vector<std::string>& entries, std::string entry) {
  std::erase_if(entries, [&](const std::string& old) { return name_of(old) == name_of(entry); });
  entries.push_back(std::move(entry));
}

std::uint64_t pid_namespace() {
  struct stat info{};
  return ::stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

struct Owner {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  std::uint64_t name_space = 0;
};
std::optional<Owner> parse_owner(const std::string& text) {
  Owner owner;
  unsigned long start_time = 0, name_space = 0;
  if (std::sscanf(text.c_str(), "%d.%lu.%lu", &owner.pid, &start_time, &name_space) != 3) {
    return std::nullopt;
  }
  owner.start_time = start_time;
  owner.name_space = name_space;
  return owner;
}

}  // namespace

std::vector<std::string> worker_environment(std::vector<std::string> own,
                                            const std::vector<std::string>& extra,
                                            const std::string& python_directory,
                                            const std::string& owner) {
  for (const std::string& entry : extra) put(own, entry);
  if (!python_directory.empty()) {
    std::string path = "PYTHONPATH=" + python_directory;
    for (const std::string& entry : own) {
      if (name_of(entry) == "PYTHONPATH" && entry.size() > sizeof("PYTHONPATH=") - 1) {
        path += ":" + entry.substr(sizeof("PYTHONPATH=") - 1);
      }
    }
    put(own, std::move(path));
  }
  put(own, std::string(kOwner) + owner);
  return own;
}

void add_python_defaults(std::vector<std::string>& environment, std::uint32_t blas_threads,
                         std::uint32_t hash_seed) {
  const auto add = [&environment](std::string_view name, std::uint32_t value) {
    const bool there = std::ranges::any_of(
        environment, [name](const std::string& entry) { return name_of(entry) == name; });
    if (!there) environment.push_back(fmt::format("{}={}", name, value));
  };
  // Most of these libraries start their threads when they are imported, and a process with threads
  // is not safe to fork.
  if (blas_threads > 0) {
    for (const char* name :
         {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"}) {
      add(name, blas_threads);
    }
  }
  add("PYTHONHASHSEED", hash_seed);
}

EnvironmentChanges changes_between(const std::vector<std::string>& from,
                                   const std::vector<std::string>& to) {
  EnvironmentChanges changes;
  std::map<std::string_view, std::string_view> old;
  for (const std::string_view entry : from) old[name_of(entry)] = entry;
  for (const std::string_view entry : to) {
    const std::string_view name = name_of(entry);
    const auto found = old.find(name);
    const bool same = found != old.end() && found->second == entry;
    if (found != old.end()) old.erase(found);
    if (!same) changes[std::string(name)] = entry.substr(std::min(entry.size(), name.size() + 1));
  }
  for (const auto& [name, entry] : old) changes[std::string(name)] = std::nullopt;
  return changes;
}

std::string WorkerEnvironment::taken_device_variable() const {
  for (const std::string& entry : parts_.given) {
    if (std::ranges::find(kDeviceVariables, name_of(entry)) != kDeviceVariables.end()) {
      return std::string(name_of(entry));
    }
  }
  return "";
}

std::vector<std::string> WorkerEnvironment::with(const Settings& settings,
                                                 std::vector<std::string> entries) const {
  std::vector<std::string> own = parts_.inherited;
  // A daemon may have been started by a worker of another one.
  std::erase_if(own, [](const std::string& entry) { return name_of(entry) == kDevice; });
  add_user(own, parts_.user);
  entries.insert(entries.end(), parts_.given.begin(), parts_.given.end());
  own = worker_environment(std::move(own), entries, parts_.python_directory, parts_.owner);
  if (parts_.hash_seed) {
    add_python_defaults(own, settings.workers.blas_threads, *parts_.hash_seed);
  }
  return own;
}

std::vector<std::string> WorkerEnvironment::of_zygote(const Settings& settings) const {
  std::vector<std::string> entries;
  for (const auto& [name, value] : settings.workers.env) {
    if (value.find(kSlot) == value.npos) entries.push_back(name + '=' + value);
  }
  return with(settings, std::move(entries));
}

std::vector<std::string> WorkerEnvironment::of_worker(const Settings& settings,
                                                      WorkerId worker) const {
  const std::uint32_t slot = worker.slot == kProbeSlot ? 0 : worker.slot;
  std::vector<std::string> entries;
  for (const auto& [name, value] : settings.workers.env) {
    entries.push_back(name + '=' + with_slot(value, slot));
  }
  if (const auto& devices = settings.workers.devices; !devices.empty()) {
    const std::string& device = devices[(std::max(slot, 1U) - 1) % devices.size()];
    for (const std::string_view name : kDeviceVariables) {
      entries.push_back(fmt::format("{}={}", name, device));
    }
    entries.push_back(fmt::format("{}={}", kDevice, device));
  }
  return with(settings, std::move(entries));
}

std::string owner_of_this_process() {
  const auto stat = os::read_stat(::getpid());
  return fmt::format("{}.{}.{}", ::getpid(), stat ? stat->start_time : 0, pid_namespace());
}

bool owner_is_dead(const std::string& text) {
  const auto owner = parse_owner(text);
  if (!owner || owner->start_time == 0) return false;
  if (owner->name_space == 0 || owner->name_space != pid_namespace()) return false;
  const auto stat = os::read_stat(owner->pid);
  return !stat || stat->start_time != owner->start_time || stat->state == 'Z';
}

int sweep_orphans(const std::string& own_owner) {
  int killed = 0;
  for (pid_t pid : os::all_processes()) {
    const auto text = os::environment_value(pid, kOwner);
    if (!text || *text == own_owner) continue;
    if (!owner_is_dead(*text)) continue;
    // A handle first, then the question again: the number may have changed hands in between.
    const auto handle = os::Pidfd::open(pid);
    if (!handle || os::environment_value(pid, kOwner) != text) continue;
    if (handle->send_signal(SIGKILL)) ++killed;
  }
  return killed;
}

std::uint32_t frame_bytes_for(std::uint64_t payload_max) {
  constexpr std::uint64_t kSlack = 64 << 20;
  return wire::frame_max(std::max(2 * payload_max, payload_max + kSlack));
}

}  // namespace keelback::host
