// The pool that an agent measures, and what can be read off it from outside: processor time,
// memory, system calls, context switches, descriptors.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "api/driver_factory.h"
#include "load/soon.h"
#include "os/process.h"

namespace keelback::bench {

nlohmann::json refusal(std::string why);  // {"ok": false, "error": why}
double ms(Duration d);
double us(Duration d);
Duration from_ms(double milliseconds);

// Nanoseconds that the process' first thread has run, from the scheduler; 0 if it is gone.
std::uint64_t run_time(std::int64_t pid);
std::uint64_t pss_kb(std::int64_t pid);  // proportional: shared pages are shared out

// How often somebody left its processor: to sleep, or because another took it.
struct Switches {
  std::uint64_t voluntary = 0, forced = 0;
  std::uint64_t all() const { return voluntary + forced; }
};

class PoolUnderTest {
 public:
  // The order's fields: workers, app, expose, env, settings, cpu, function, payload, calls. Answers
  // the stages.
  nlohmann::json start(const nlohmann::json& order);
  // Blocks until nothing of it is left or is said to be left.
  nlohmann::json stop();

  bool wait_until_ready();  // every worker; false: not within a minute
  bool running() const { return static_cast<bool>(driver_); }
  host::Driver& driver() { return *driver_; }
  std::uint32_t size() const { return workers_; }

  // Of this process and the workers, nanoseconds.
  std::uint64_t cpu();
  // Of all threads of all workers.
  os::ProcessorUse workers_use();
  Switches own_switches() const;  // of every thread of this process
  Switches worker_switches();
  std::uint64_t total_pss_kb() const;  // this process and all its descendants

 private:
  nlohmann::json first_calls(const nlohmann::json& order,
                             std::chrono::steady_clock::time_point began);

  api::OwnedDriver driver_;
  std::uint32_t workers_ = 0;
  std::size_t fds_before_ = 0;
};

}  // namespace keelback::bench
