#include "host/environment.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "os/process.h"
#include "wire/frame.h"

namespace keelback::host {
namespace {

constexpr std::string_view kOwner = "KEELBACK_OWNER=";

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

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
