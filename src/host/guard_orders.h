// What the host and its guard say to each other, over a SOCK_SEQPACKET pair: fixed structs of one
// build on one machine, so plain memory. Spawn's text travels in a memfd, because an environment
// may be larger than a packet.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "os/cgroup.h"
#include "os/user.h"

namespace keelback::host {

enum class GuardOp : std::uint32_t {
  kSpawn = 1,  // with descriptors: the spec's memfd, then the child's; answered by a GuardReply
  kWatch,      // pid may become a child of the guard: its zombie waits for kReap, too
  kReap,       // pid's status has been read
  // SIGKILL the guard's other children that a dead worker has left: they are its kin
  // (os::draw_kin), or their environment holds `text`, or they map the memfd with this inode.
  kKillMarked,
  kReport  // answered with tag 0, and in place of a pid the number of descriptors it has open
};

struct GuardOrder {
  GuardOp op = GuardOp::kSpawn;
  std::uint32_t tag = 0;
  std::int32_t pid = 0;
  std::uint64_t inode = 0;
  std::uint64_t kin = 0;
  char text[104] = {};  // NUL-terminated
};

struct GuardReply {
  std::uint32_t tag = 0;
  std::int32_t pid = 0;
  std::int32_t error = 0;  // an errno; 0: pid runs the program
};

// A program to start: in its own process group, no signal blocked or ignored.
struct SpawnSpec {
  std::vector<std::string> argv;         // argv[0] is looked up in the environment's PATH
  std::vector<std::string> environment;  // "NAME=value", all of it
  std::string directory;                 // working directory; empty: the guard's
  std::vector<int> numbers;              // the i-th passed descriptor becomes this number
  std::uint64_t kin = 0;                 // os::draw_kin; 0: the guard's
  os::CgroupPlace place;                 // entered before the program runs
  os::User user;                         // whom it runs as; none: the guard's
};

// Strings one after another, each with its NUL: directory, kin, the group's directory, whether it
// is required, its settings' count, their files and texts, the user's number, its
// group, its groups' count, its groups, numbers' count, numbers, argv's count,
// argv, environment.
inline std::string encode(const SpawnSpec& spec) {
  std::string text;
  const auto put = [&text](std::string_view item) { text.append(item).push_back('\0'); };
  put(spec.directory);
  put(std::to_string(spec.kin));
  put(spec.place.directory);
  put(spec.place.required ? "1" : "0");
  put(std::to_string(spec.place.settings.size()));
  for (const auto& [file, value] : spec.place.settings) {
    put(file);
    put(value);
  }
  put(std::to_string(spec.user.uid));
  put(std::to_string(spec.user.gid));
  put(std::to_string(spec.user.groups.size()));
  for (const gid_t group : spec.user.groups) put(std::to_string(group));
  put(std::to_string(spec.numbers.size()));
  for (int number : spec.numbers) put(std::to_string(number));
  put(std::to_string(spec.argv.size()));
  for (const std::string& item : spec.argv) put(item);
  for (const std::string& item : spec.environment) put(item);
  return text;
}

inline std::optional<SpawnSpec> decode_spawn_spec(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const std::size_t end = text.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    items.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  std::size_t at = 0;
  const auto count = [&]() -> std::size_t {
    const std::size_t value = at < items.size() ? std::strtoul(items[at].c_str(), nullptr, 10) : 0;
    ++at;
    return value <= items.size() ? value : items.size();
  };
  SpawnSpec spec;
  if (items.size() < 7) return std::nullopt;
  spec.directory = items[at++];
  spec.kin = std::strtoull(items[at++].c_str(), nullptr, 10);
  spec.place.directory = items[at++];
  spec.place.required = items[at++] == "1";
  for (std::size_t n = count(); n > 0 && at + 1 < items.size(); --n) {
    spec.place.settings.emplace_back(items[at], items[at + 1]);
    at += 2;
  }
  const auto number = [&] {
    return at < items.size() ? std::strtoul(items[at++].c_str(), nullptr, 10) : 0;
  };
  spec.user.uid = static_cast<uid_t>(number());
  spec.user.gid = static_cast<gid_t>(number());
  for (std::size_t n = count(); n > 0 && at < items.size(); --n) {
    spec.user.groups.push_back(static_cast<gid_t>(number()));
  }
  for (std::size_t n = count(); n > 0 && at < items.size(); --n) {
    spec.numbers.push_back(static_cast<int>(std::strtol(items[at++].c_str(), nullptr, 10)));
  }
  for (std::size_t n = count(); n > 0 && at < items.size(); --n) spec.argv.push_back(items[at++]);
  if (spec.argv.empty()) return std::nullopt;
  for (; at < items.size(); ++at) spec.environment.push_back(items[at]);
  return spec;
}

}  // namespace keelback::host
