// What a number belongs to: the machine, the build, and how it was run. Numbers of different
// machines are never compared but as ratios to the reference arm.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace keelback::bench {

// cpu, ncpu (what this process may use), kernel, virtualization, governor, aslr, thp, memory_gb,
// and "fingerprint": a digest of those that make numbers differ.
nlohmann::json describe_machine();
// Compiler, sanitizer, checks: two builds with different ones are not comparable.
std::string build_text();
std::string fnv_text(std::string_view text);  // 16 hexadecimal digits

}  // namespace keelback::bench
