// The machine that this process runs on.
#pragma once

#include <cstdint>
#include <string>

namespace keelback::os {

struct Machine {
  std::string processor;         // "AMD EPYC 7B13"; empty: the kernel does not say
  std::uint32_t processors = 0;  // that this process may use
  bool is_virtual = false;       // it runs under a hypervisor
  std::string system;            // "Linux"
  std::string release;           // of the kernel: "6.1.0-18-amd64"
};
Machine describe_machine();

// Bytes; 0: the kernel does not say.
struct MachineMemory {
  std::uint64_t total = 0;
  std::uint64_t available = 0;  // what can still be taken without swapping
};
MachineMemory machine_memory();

// "web-3"; empty: the kernel does not say.
std::string host_name();

// Runnable processes, averaged over the last minute; 0: the kernel does not say.
double load_average();

// The first line of a file below /proc or /sys; empty: there is none.
std::string first_line_of(const std::string& path);

}  // namespace keelback::os
