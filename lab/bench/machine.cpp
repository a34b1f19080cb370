#include "bench/machine.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/hash.h"
#include <cmath>
#include <fstream>

#include "base/sanitizer.h"

namespace keelback::bench {
namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Of the first processor: "model name", "flags", …
std::string cpu_field(std::string_view field) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(field)) continue;
    const auto colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
  return {};
}

std::string bracketed(std::string text) {  // "always [madvise] never" -> "madvise"
  const auto open = text.find('['), close = text.find(']');
  return open == std::string::npos || close < open ? text : text.substr(open + 1, close - open - 1);
}

}  // namespace

std::string fnv_text(std::string_view text) { return fmt::format("{:016x}", fnv1a(text)); }

std::string build_text() {
#if defined(__clang__)
  std::string text = "clang " __clang_version__;
#else
  std::string text = "gcc " __VERSION__;
#endif
  if (!kSanitizer.empty()) text += fmt::format(", sanitizer {}", kSanitizer);
#if defined(__OPTIMIZE__)
  text += ", optimised";
#endif
  return text;
}

nlohmann::json describe_machine() {
  utsname system{};
  ::uname(&system);
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                        static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e9;
  nlohmann::json machine = {
      {"cpu", cpu_field("model name")},
      {"ncpu", CPU_COUNT(&set)},
      {"kernel", system.release},
      {"virtual", cpu_field("flags").find(" hypervisor") != std::string::npos},
      {"governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")},
      {"aslr", first_line("/proc/sys/kernel/randomize_va_space")},
      {"thp", bracketed(first_line("/sys/kernel/mm/transparent_hugepage/enabled"))},
      {"memory_gb", std::round(memory * 10) / 10}};
  machine["fingerprint"] = fnv_text(fmt::format(
      "{}|{}|{}|{}|{}", machine["cpu"].get<std::string>(), CPU_COUNT(&set), system.release,
      machine["virtual"].get<bool>(), machine["governor"].get<std::string>()));
  return machine;
}

}  // namespace keelback::bench
