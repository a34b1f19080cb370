// A run, decided before it happens: every call with its time, payload and session, every fault with
// its time and the word that picks its victim. All chance is spent here; the same scenario, level
// and seed give the same plan on every machine, and its hash says so. The file replays without the
// seed.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "base/prng.h"
#include "base/settings.h"
#include "base/time.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

struct PlannedCall {
  Duration at{0};        // from the start of the run; of a fault's calls: from its firing
  std::string function;  // the laboratory's word, or the application's function
  std::string payload;   // JSON
  std::string session;   // empty: stateless
  // Of a call that a fault makes to its target without a session: it goes to the n-th of those that
  // live there, from 0.
  std::uint32_t place = 0;
  std::uint64_t token = 0;
  bool own = false;  // a function of the application
  bool idempotent = false;
  Duration deadline{0};
  Duration leave_after{0};  // > 0: the client leaves then
};

struct Firing {
  std::string fault;
  std::uint32_t round = 0;  // of `times`
  Duration at{0};           // from the start of the fault phase, or from its trigger
  std::uint64_t pick = 0;   // chooses the target
  std::vector<PlannedCall> calls;
};

struct Phases {
  Duration baseline{0};  // each: when it begins, from the start of the run; the ramp is before
  Duration faults{0};
  Duration recovery{0};
  Duration end{0};
};

struct Plan {
  std::string scenario;  // its TOML, complete
  std::string name;
  Level level = Level::kMedium;
  std::uint64_t seed = 0;
  Backend backend = Backend::kSim;
  std::string app;        // empty: the laboratory's own functions alone
  std::string arguments;  // of the command, beyond these fields; for people only
  Phases phases;
  std::vector<PlannedCall> load;  // by time
  std::vector<PlannedCall> verify;
  std::vector<Firing> firings;
};

struct PlanRequest {
  std::uint64_t seed = 1;
  Level level = Level::kMedium;
  Backend backend = Backend::kSim;
  std::string app;
  std::string arguments;
};
Plan make_plan(const Scenario& scenario, const PlanRequest& request);

std::string to_json_text(const Plan& plan);
[[nodiscard]] std::expected<Plan, std::string> plan_from_json(std::string_view text);
// FNV-1a of the plan's JSON.
std::uint64_t hash(const Plan& plan);

// The next value of a session's chain: what the probe functions compute, in Python too.
std::uint64_t chain_step(std::uint64_t before, std::uint64_t token);

}  // namespace keelback::chaos
