// The commands of `keelback chaos`, and what they are asked for.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/lab.h"
#include "cli/command.h"

namespace keelback::cli {

struct ChaosOptions {
  std::vector<std::string> scenarios;  // or files, or directories
  std::string app, backend, level, out, tag;
  std::vector<std::string> settings, calls, session_calls;
  std::uint64_t seed = 1, seeds = 1;
  std::uint32_t runs = 0, nodes = 0;
  bool all = false, placebo = false, classes = false, no_shrink = false;
};

// What a run is asked for, with everything that can be wrong with it found out.
struct ChaosAsked {
  chaos::Level level = chaos::Level::kMedium;
  Backend backend = Backend::kSim;
  chaos::Overrides overrides;
  std::string arguments;
};

void add_chaos(CLI::App& app, Invocation& invocation);

std::string environment(const char* name);  // empty: not set
// The error is a sentence about the first option that is wrong.
std::expected<ChaosAsked, std::string> asked(const ChaosOptions& options);
// By name or from a file; what is wrong with it, a line each. `seed` is that of a swarm.
std::expected<chaos::Scenario, std::vector<std::string>> read_scenario(const std::string& name,
                                                                       const ChaosAsked& asked,
                                                                       std::uint64_t seed);
int chaos_usage(const Invocation& invocation, std::string_view message);

int chaos_list(const Invocation& invocation, ChaosOptions& options);
int chaos_check(const Invocation& invocation, ChaosOptions& options);
int chaos_plan(const Invocation& invocation, ChaosOptions& options);
int chaos_run(const Invocation& invocation, ChaosOptions& options);
int chaos_replay(const Invocation& invocation, ChaosOptions& options);
int chaos_shrink(const Invocation& invocation, ChaosOptions& options);
int chaos_judge(const Invocation& invocation, ChaosOptions& options);
int chaos_report(const Invocation& invocation, ChaosOptions& options);
int chaos_cleanup(const Invocation& invocation, ChaosOptions& options);
int chaos_doctor(const Invocation& invocation, ChaosOptions& options);

}  // namespace keelback::cli
