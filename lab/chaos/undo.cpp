#include "chaos/undo.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <vector>

#include "chaos/processors.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

constexpr std::size_t kPathMax = 900;

bool may_be_removed(std::string_view path) {
  return path.starts_with(kShared) && path.find('/', kShared.size()) == path.npos;
}

// The files in it, and then itself; not what lies deeper.
Undone remove_directory(const std::string& path) {
  if (!may_be_removed(path)) return {false, path + " is no directory of the laboratory's"};
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return {errno == ENOENT, "it was gone"};
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(directory);
  for (const std::string& name : names) ::unlink((path + "/" + name).c_str());
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return {false, std::strerror(errno)};
  return {true, "removed " + path + " and " + std::to_string(names.size()) + " files in it"};
}

// By kind.
constexpr const char* kWords[] = {"cont", "limit", "unlink", "rename", "kill", "bind", "remove"};

bool is_valid(const Undo& undo) {
  using enum Undo::Kind;
  if (undo.kind == kBind) return parse_processors(undo.path).has_value();
  if (undo.kind == kRemove) return may_be_removed(undo.path);
  const bool needs_path = undo.kind == kUnlink || undo.kind == kRename;
  return !needs_path || (!undo.path.empty() && undo.path.size() <= kPathMax);
}

}  // namespace

bool is_of_another_laboratory(std::string_view path) {
  if (!path.starts_with(kShared)) return false;
  const std::string_view owner = path.substr(kShared.size());
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(owner.data(), owner.data() + owner.size(), pid);
  if (error != std::errc() || end == owner.data() + owner.size() || *end != '-') return false;
  return pid > 0 && pid != ::getpid() && os::read_stat(pid).has_value();
}

std::string to_line(const Undo& undo) {
  std::string out = std::string("arm ") + std::to_string(undo.id) + " " +
                    std::to_string(undo.lease_ms) + " " +
                    kWords[static_cast<std::size_t>(undo.kind)];
  for (const std::string& field :
       {std::to_string(undo.pid), std::to_string(undo.start_time), std::to_string(undo.resource),
        std::to_string(undo.soft), std::to_string(undo.hard), undo.path}) {
    out += " " + field;
  }
  return out;
}

std::optional<Undo> parse_undo(std::string_view text) {
  const std::string line(text);
  unsigned long long id = 0, lease = 0, start = 0, soft = 0, hard = 0;
  Undo undo;
  char word[16] = {};
  int used = 0;
  if (std::sscanf(line.c_str(), "arm %llu %llu %15s %d %llu %d %llu %llu %n", &id, &lease, word,
                  &undo.pid, &start, &undo.resource, &soft, &hard, &used) != 8) {
    return std::nullopt;
  }
  const auto kind = std::ranges::find(kWords, std::string_view(word));
  if (kind == std::end(kWords)) return std::nullopt;
  undo.kind = static_cast<Undo::Kind>(kind - kWords);
  undo.id = id;
  undo.lease_ms = lease;
  undo.start_time = start;
  undo.soft = soft;
  undo.hard = hard;
  undo.path = line.substr(static_cast<std::size_t>(used));
  return is_valid(undo) ? std::optional(undo) : std::nullopt;
}

Undone perform(const Undo& undo) {
  if (undo.kind == Undo::Kind::kUnlink) {
    if (::unlink(undo.path.c_str()) == 0) return {true, "removed " + undo.path};
    return {errno == ENOENT, errno == ENOENT ? "it was gone" : std::strerror(errno)};
  }
  if (undo.kind == Undo::Kind::kRename) {
    const std::string aside = undo.path + std::string(kAside);
    if (::rename(aside.c_str(), undo.path.c_str()) == 0) return {true, "put back " + undo.path};
    return {errno == ENOENT, errno == ENOENT ? "it was back" : std::strerror(errno)};
  }
  if (undo.kind == Undo::Kind::kRemove) return remove_directory(undo.path);
  if (undo.pid <= 1) return {false, "that is no process of ours"};
  const auto handle = os::Pidfd::open(undo.pid);
  const auto stat = os::read_stat(undo.pid);
  // The handle was opened first: if the start time fits now, it is a handle of that very process.
  if (!handle || !stat || stat->start_time != undo.start_time) return {true, "the process is gone"};
  if (undo.kind == Undo::Kind::kContinue) {
    const auto sent = handle->send_signal(SIGCONT);
    if (!sent && sent.error().value() != ESRCH) return {false, sent.error().message()};
    return {true, "SIGCONT sent"};
  }
  if (undo.kind == Undo::Kind::kBind) {
    const auto processors = parse_processors(undo.path);
    if (processors && bind_to(undo.pid, *processors)) return {true, "it may use them all again"};
    return {errno == ESRCH, errno == ESRCH ? "the process is gone" : std::strerror(errno)};
  }
  if (undo.kind == Undo::Kind::kKill) {
    // Its group is its own: os::spawn() makes every process a session leader.
    if (stat->group == undo.pid) static_cast<void>(os::kill_group(undo.pid));
    const auto sent = handle->send_signal(SIGKILL);
    if (!sent && sent.error().value() != ESRCH) return {false, sent.error().message()};
    return {true, "it was killed"};
  }
  const rlimit limit{.rlim_cur = undo.soft, .rlim_max = undo.hard};
  if (::prlimit(undo.pid, static_cast<__rlimit_resource>(undo.resource), &limit, nullptr) == 0) {
    return {true, "the old limit is back"};
  }
  return {errno == ESRCH, errno == ESRCH ? "the process is gone" : std::strerror(errno)};
}

std::string undo_journal(const std::string& path) {
  const std::string text = os::read_text_file(path).value_or("");
  std::vector<Undo> open;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    unsigned long long done = 0;
    if (const auto undo = parse_undo(line)) {
      open.push_back(*undo);
    } else if (std::sscanf(line.c_str(), "done %llu", &done) == 1) {
      std::erase_if(open, [&](const Undo& each) { return each.id == done; });
    }
  }
  std::string report;
  bool all = true;
  for (auto it = open.rbegin(); it != open.rend(); ++it) {
    const Undone undone = perform(*it);
    all = all && undone.ok;
    report += (undone.ok ? "" : "failed: ") + undone.text + "\n";
  }
  if (all) ::unlink(path.c_str());
  return report;
}

}  // namespace keelback::chaos
