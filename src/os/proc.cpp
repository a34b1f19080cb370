// What /proc says about processes.
#include <dirent.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "os/process.h"

namespace keelback::os {
namespace {

std::string path_of(pid_t pid, std::string_view file) {
  return "/proc/" + std::to_string(pid) + "/" + std::string(file);
}

template <typename T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value{};
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (end.ec != std::errc{}) return std::nullopt;
  return value;
}

// The number after "name:" at the start of a line, in the unit that the file has.
std::uint64_t field(std::string_view text, std::string_view name, int base = 10) {
  std::size_t at = 0;
  while ((at = text.find(name, at)) != std::string_view::npos) {
    if (at == 0 || text[at - 1] == '\n') {
      std::string_view rest = text.substr(at + name.size());
      rest.remove_prefix(std::min(rest.find_first_not_of(" :\t"), rest.size()));
      return number<std::uint64_t>(rest, base).value_or(0);
    }
    at += name.size();
  }
  return 0;
}

// "ran waited slices", in nanoseconds.
std::optional<ProcessorUse> parse_schedstat(std::string_view text) {
  const std::size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  const auto ran = number<std::uint64_t>(text.substr(0, blank));
  const auto waited = number<std::uint64_t>(text.substr(blank + 1));
  if (!ran || !waited) return std::nullopt;
  return ProcessorUse{std::chrono::nanoseconds(*ran), std::chrono::nanoseconds(*waited)};
}

// Numbered entries of a directory of /proc, e.g. threads.
std::vector<pid_t> numbered_entries(const std::string& path) {
  std::vector<pid_t> found;
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return found;
  while (const dirent* entry = ::readdir(directory)) {
    if (auto pid = number<pid_t>(entry->d_name)) found.push_back(*pid);
  }
  ::closedir(directory);
  return found;
}

// For kernels without CONFIG_PROC_CHILDREN: looks at the parent of every process.
std::vector<pid_t> children_by_parent(pid_t parent) {
  std::vector<pid_t> children;
  for (pid_t pid : all_processes()) {
    const auto stat = read_stat(pid);
    if (stat && stat->parent == parent) children.push_back(pid);
  }
  return children;
}

}  // namespace

std::optional<ProcStat> parse_stat(std::string_view text) {
  // "pid (comm) state ppid …": comm may contain blanks and brackets, so the last ')' counts.
  const std::size_t bracket = text.rfind(')');
  if (bracket == std::string_view::npos || bracket + 2 >= text.size()) return std::nullopt;
  std::vector<std::string_view> fields;  // fields[0] is field 3 of proc(5)
  std::string_view rest = text.substr(bracket + 2);
  while (!rest.empty()) {
    const std::size_t blank = std::min(rest.find_first_of(" \n"), rest.size());
    if (blank > 0) fields.push_back(rest.substr(0, blank));
    rest.remove_prefix(std::min(blank + 1, rest.size()));
  }
  if (fields.size() < 50) return std::nullopt;
  const auto parent = number<pid_t>(fields[1]);
  const auto start_time = number<std::uint64_t>(fields[19]);
  if (!parent || !start_time) return std::nullopt;
  ProcStat stat;
  stat.state = fields[0][0];
  stat.parent = *parent;
  stat.group = number<pid_t>(fields[2]).value_or(0);
  stat.session = number<pid_t>(fields[3]).value_or(0);
  constexpr std::uint64_t kPfExiting = 0x4;  // of the kernel's task flags
  stat.exiting = (number<std::uint64_t>(fields[6]).value_or(0) & kPfExiting) != 0;
  stat.threads = number<std::uint64_t>(fields[17]).value_or(0);
  stat.start_time = *start_time;
  stat.exit_status = number<int>(fields[49]).value_or(0);
  return stat;
}

Result<ProcStat> read_stat(pid_t pid) {
  auto text = read_text_file(path_of(pid, "stat"));
  if (!text) return std::unexpected(text.error());
  const auto stat = parse_stat(*text);
  if (!stat) return failure(EPROTO);
  return *stat;
}

Result<MemoryUse> read_memory_use(pid_t pid) {
  auto text = read_text_file(path_of(pid, "smaps_rollup"));
  if (!text) return std::unexpected(text.error());
  constexpr std::uint64_t kKib = 1024;
  return MemoryUse{field(*text, "Rss:") * kKib,
                   (field(*text, "Private_Clean:") + field(*text, "Private_Dirty:")) * kKib};
}

Result<std::uint64_t> read_resident_bytes(pid_t pid) {
  auto text = read_text_file(path_of(pid, "statm"));
  if (!text) return std::unexpected(text.error());
  const std::size_t blank = text->find(' ');
  if (blank == std::string::npos) return failure(EPROTO);
  const auto pages = number<std::uint64_t>(std::string_view(*text).substr(blank + 1));
  if (!pages) return failure(EPROTO);
  return *pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Result<ProcessorUse> read_processor_use(pid_t pid) {
  auto text = read_text_file(path_of(pid, "schedstat"));
  if (!text) return std::unexpected(text.error());
  const auto use = parse_schedstat(*text);
  if (!use) return failure(EPROTO);
  return *use;
}

Result<ProcessorUse> read_processor_use_of_threads(pid_t pid) {
  ProcessorUse sum;
  bool some = false;
  for (const pid_t thread : threads_of(pid)) {
    const auto text = read_text_file(path_of(pid, "task/") + std::to_string(thread) + "/schedstat");
    const auto use = text ? parse_schedstat(*text) : std::nullopt;
    if (!use) continue;  // this thread has ended meanwhile
    sum.ran += use->ran;
    sum.waited += use->waited;
    some = true;
  }
  if (!some) return failure(ESRCH);
  return sum;
}

Result<std::uint64_t> read_data_bytes(pid_t pid) {
  auto text = read_text_file(path_of(pid, "status"));
  if (!text) return std::unexpected(text.error());
  constexpr std::uint64_t kKib = 1024;
  return field(*text, "VmData:") * kKib;
}

Result<std::uint64_t> read_status_number(pid_t pid, std::string_view name, int base) {
  auto text = read_text_file(path_of(pid, "status"));
  if (!text) return std::unexpected(text.error());
  return field(*text, name, base);
}

std::vector<pid_t> threads_of(pid_t pid) { return numbered_entries(path_of(pid, "task")); }

Result<std::vector<int>> descriptors_of(pid_t pid) {
  if (int error = fault::next()) return failure(error);
  DIR* directory = ::opendir(path_of(pid, "fd").c_str());
  if (directory == nullptr) return last_failure();
  std::vector<int> found;
  while (const dirent* entry = ::readdir(directory)) {
    if (auto fd = number<int>(entry->d_name)) found.push_back(*fd);
  }
  ::closedir(directory);
  return found;
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  for (pid_t thread : threads_of(pid)) {
    auto text = read_text_file(path_of(pid, "task/") + std::to_string(thread) + "/children");
    if (!text && text.error().value() == ENOENT && read_stat(pid)) return children_by_parent(pid);
    if (!text) continue;
    std::string_view rest = *text;
    while (!rest.empty()) {
      const std::size_t blank = std::min(rest.find(' '), rest.size());
      if (auto child = number<pid_t>(rest.substr(0, blank))) children.push_back(*child);
      rest.remove_prefix(std::min(blank + 1, rest.size()));
    }
  }
  return children;
}

std::vector<pid_t> descendants_of(pid_t pid) {
  std::vector<pid_t> found = children_of(pid);
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (pid_t child : children_of(found[i])) {
      if (std::ranges::find(found, child) == found.end()) found.push_back(child);
    }
  }
  return found;
}

std::optional<std::string> environment_value(pid_t pid, std::string_view prefix) {
  auto text = read_text_file(path_of(pid, "environ"), 4 << 20);
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\0'), rest.size());
    if (rest.starts_with(prefix))
      return std::string(rest.substr(prefix.size(), end - prefix.size()));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return std::nullopt;
}

bool environment_has(pid_t pid, std::string_view entry) {
  const std::size_t name = std::min(entry.find('='), entry.size() - 1) + 1;
  return environment_value(pid, entry.substr(0, name)) == entry.substr(name);
}

bool maps_inode(pid_t pid, std::uint64_t inode) {
  if (inode == 0) return false;
  const auto text = read_text_file(path_of(pid, "maps"), 16 << 20);
  if (!text) return false;
  // "begin-end perms offset major:minor inode   /memfd:name (deleted)"
  std::size_t at = 0;
  while ((at = text->find("/memfd:", at)) != std::string::npos) {
    const std::size_t digits_end = text->find_last_of("0123456789", at);
    const std::size_t before = text->find_last_not_of("0123456789", digits_end);
    if (number<std::uint64_t>(std::string_view(*text).substr(before + 1)) == inode) return true;
    ++at;
  }
  return false;
}

std::vector<pid_t> all_processes() { return numbered_entries("/proc"); }

std::optional<std::string> cgroup_path(std::string_view self, std::string_view controller) {
  // "hierarchy:controllers:path"; the unified hierarchy is number 0 and names no controllers.
  while (!self.empty()) {
    const std::size_t end = std::min(self.find('\n'), self.size());
    const std::string_view line = self.substr(0, end);
    self.remove_prefix(std::min(end + 1, self.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    std::string_view names = line.substr(first + 1, second - first - 1);
    const bool unified = controller.empty() && names.empty() && line.substr(0, first) == "0";
    bool named = false;
    while (!controller.empty() && !names.empty() && !named) {
      const std::size_t comma = std::min(names.find(','), names.size());
      named = names.substr(0, comma) == controller;
      names.remove_prefix(std::min(comma + 1, names.size()));
    }
    if (unified || named) return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

std::optional<std::uint64_t> oom_kills() {
  const auto self = read_text_file("/proc/self/cgroup");
  if (!self) return std::nullopt;
  if (const auto path = cgroup_path(*self, "")) {
    const auto events = read_text_file("/sys/fs/cgroup" + *path + "/memory.events");
    if (events) return field(*events, "oom_kill ");
  }
  if (const auto path = cgroup_path(*self, "memory")) {  // the older hierarchies
    const auto control = read_text_file("/sys/fs/cgroup/memory" + *path + "/memory.oom_control");
    if (control && control->find("oom_kill ") != std::string::npos) {
      return field(*control, "oom_kill ");
    }
  }
  return std::nullopt;
}

}  // namespace keelback::os
