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
#include "os/process.h"

namespace keelback::chaos {
namespace {

constexpr std::size_t kPathMax = 900;

std::string read_all(const std::string& path) {
  std::string text;
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return text;
  char buffer[4096];
  std::size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof(buffer), file)) > 0) text.append(buffer, got);
  std::fclose(file);
  return text;
}

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

const char* word_of_path(Undo::Kind kind) {
  return kind == Undo::Kind::kUnlink ? "unlink" : kind == Undo::Kind::kRename ? "rename" : "remove";
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
  char buffer[256];
  const auto id = static_cast<unsigned long long>(undo.id);
  const auto lease = static_cast<unsigned long long>(undo.lease_ms);
  const auto start = static_cast<unsigned long long>(undo.start_time);
  switch (undo.kind) {
    case Undo::Kind::kContinue:
      std::snprintf(buffer, sizeof(buffer), "arm %llu %llu cont %d %llu", id, lease, undo.pid,
                    start);
      return buffer;
    case Undo::Kind::kLimit:
      std::snprintf(buffer, sizeof(buffer), "arm %llu %llu limit %d %llu %d %llu %llu", id, lease,
                    undo.pid, start, undo.resource, static_cast<unsigned long long>(undo.soft),
                    static_cast<unsigned long long>(undo.hard));
      return buffer;
    case Undo::Kind::kKill:
      std::snprintf(buffer, sizeof(buffer), "arm %llu %llu kill %d %llu", id, lease, undo.pid,
                    start);
      return buffer;
    case Undo::Kind::kBind:
      std::snprintf(buffer, sizeof(buffer), "arm %llu %llu bind %d %llu ", id, lease, undo.pid,
                    start);
      return buffer + undo.path;
    case Undo::Kind::kUnlink:
    case Undo::Kind::kRename:
    case Undo::Kind::kRemove:
      std::snprintf(buffer, sizeof(buffer), "arm %llu %llu %s ", id, lease,
                    word_of_path(undo.kind));
      return buffer + undo.path;
  }
  return "";
}

std::optional<Undo> parse_undo(std::string_view text) {
  const std::string line(text);
  Undo undo;
  unsigned long long id = 0, lease = 0, start = 0, soft = 0, hard = 0;
  char kind[16] = {};
  int used = 0;
  if (std::sscanf(line.c_str(), "arm %llu %llu %15s %n", &id, &lease, kind, &used) != 3) {
    return std::nullopt;
  }
  undo.id = id;
  undo.lease_ms = lease;
  const char* rest = line.c_str() + used;
  if (std::strcmp(kind, "cont") == 0 || std::strcmp(kind, "kill") == 0) {
    if (kind[0] == 'k') undo.kind = Undo::Kind::kKill;
    if (std::sscanf(rest, "%d %llu", &undo.pid, &start) != 2) return std::nullopt;
  } else if (std::strcmp(kind, "limit") == 0) {
    undo.kind = Undo::Kind::kLimit;
    if (std::sscanf(rest, "%d %llu %d %llu %llu", &undo.pid, &start, &undo.resource, &soft,
                    &hard) != 5) {
      return std::nullopt;
    }
  } else if (std::strcmp(kind, "bind") == 0) {
    undo.kind = Undo::Kind::kBind;
    int at = 0;
    if (std::sscanf(rest, "%d %llu %n", &undo.pid, &start, &at) != 2) return std::nullopt;
    undo.path = rest + at;
    if (!parse_processors(undo.path)) return std::nullopt;
  } else if (std::strcmp(kind, "unlink") == 0 || std::strcmp(kind, "rename") == 0 ||
             std::strcmp(kind, "remove") == 0) {
    undo.kind = kind[0] == 'u'   ? Undo::Kind::kUnlink
                : kind[2] == 'n' ? Undo::Kind::kRename
                                 : Undo::Kind::kRemove;
    undo.path = rest;
    if (undo.path.empty() || undo.path.size() > kPathMax) return std::nullopt;
    if (undo.kind == Undo::Kind::kRemove && !may_be_removed(undo.path)) return std::nullopt;
  } else {
    return std::nullopt;
  }
  undo.start_time = start;
  undo.soft = soft;
  undo.hard = hard;
  return undo;
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
  const std::string text = read_all(path);
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
