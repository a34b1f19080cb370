#include "bench/machine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include "base/hash.h"
#include "base/sanitizer.h"
#include "os/machine.h"

namespace keelback::bench {
namespace {

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
  const os::Machine facts = os::describe_machine();
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                        static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e9;
  const std::string governor =
      os::first_line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  nlohmann::json machine = {
      {"cpu", facts.processor},
      {"ncpu", facts.processors},
      {"kernel", facts.release},
      {"virtual", facts.is_virtual},
      {"governor", governor},
      {"aslr", os::first_line_of("/proc/sys/kernel/randomize_va_space")},
      {"thp", bracketed(os::first_line_of("/sys/kernel/mm/transparent_hugepage/enabled"))},
      {"memory_gb", std::round(memory * 10) / 10}};
  machine["fingerprint"] = fnv_text(fmt::format("{}|{}|{}|{}|{}", facts.processor, facts.processors,
                                                facts.release, facts.is_virtual, governor));
  return machine;
}

}  // namespace keelback::bench
