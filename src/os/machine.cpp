#include "os/machine.h"

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "os/fd.h"

namespace keelback::os {
namespace {

// What follows "name:" at the start of a line; empty: no line has that name.
std::string_view value_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(name)) continue;
    const std::size_t value = line.find_first_not_of(": \t", name.size());
    return value == line.npos ? std::string_view() : line.substr(value);
  }
  return {};
}

std::uint64_t kibibytes(std::string_view text, std::string_view name) {
  return std::strtoull(std::string(value_of(text, name)).c_str(), nullptr, 10) << 10;
}

}  // namespace

Machine describe_machine() {
  Machine out;
  const std::string text = read_text_file("/proc/cpuinfo").value_or("");
  out.processor = value_of(text, "model name");
  out.is_virtual = value_of(text, "flags").find(" hypervisor") != std::string_view::npos;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
    out.processors = static_cast<std::uint32_t>(CPU_COUNT(&set));
  }
  utsname name{};
  if (::uname(&name) == 0) {
    out.system = name.sysname;
    out.release = name.release;
  }
  return out;
}

std::string host_name() {
  utsname names{};
  return ::uname(&names) == 0 ? names.nodename : "";
}

MachineMemory machine_memory() {
  const std::string text = read_text_file("/proc/meminfo").value_or("");
  return {kibibytes(text, "MemTotal"), kibibytes(text, "MemAvailable")};
}

double load_average() { return std::strtod(first_line_of("/proc/loadavg").c_str(), nullptr); }

std::string first_line_of(const std::string& path) {
  const std::string text = read_text_file(path).value_or("");
  return text.substr(0, text.find('\n'));
}

}  // namespace keelback::os
