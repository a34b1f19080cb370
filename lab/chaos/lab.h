// The laboratory, end to end: a scenario by name or file, a plan, a run on a backend, a verdict,
// and the directory that keeps it all.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <vector>

#include "chaos/conductor.h"
#include "chaos/judge.h"
#include "chaos/shrink.h"

namespace keelback::chaos {

// In a run's directory; the scratch directory of a run that keeps nothing begins with the prefix.
inline constexpr const char* kJournalName = "warden.journal";
inline constexpr const char* kScratchPrefix = "keelback-chaos-";

struct RunRequest {
  std::string app;  // empty: the laboratory's own functions
  Backend backend = Backend::kSim;
  Level level = Level::kMedium;
  std::uint64_t seed = 1;
  std::string out;        // directory; empty: nothing is kept
  std::string arguments;  // of the command, beyond the fields above: for the report's repro
  // On the simulator: the plan is run a second time, and must give the same history (I26).
  bool twice = false;
  ConductOptions conduct;
};

// One run and all that is known of it.
struct RunResult {
  Scenario scenario;
  Plan plan;
  History history;
  Judgement judgement;
};

// "worker-kill", or a path to a TOML file (anything with a slash or a dot).
struct LoadedScenario {
  std::string text;
  std::string source;
};
[[nodiscard]] std::expected<LoadedScenario, std::string> load_scenario(const std::string& name);
Lookup scenario_lookup();

// The error is the laboratory's or the installation's own, never the application's. A backend that
// cannot inject the scenario's faults: SKIPPED.
[[nodiscard]] std::expected<RunResult, std::string> run_scenario(Scenario scenario,
                                                                 const RunRequest& request);
// Plays a stored plan again.
[[nodiscard]] std::expected<RunResult, std::string> replay_plan(Plan plan,
                                                                const RunRequest& request);
// The shortest plan that fails as this one does, found by runs that leave nothing. A failure of
// real processes is first tried on the simulator, where it shrinks exactly and in no time.
[[nodiscard]] std::expected<Shrunk, std::string> shrink_plan(const Plan& plan,
                                                             ShrinkRequest request);
// Judges what a directory holds, by today's checkers.
[[nodiscard]] std::expected<RunResult, std::string> judge_directory(const std::string& directory);

std::expected<std::string, std::string> read_file(const std::string& path);
std::expected<void, std::string> write_file(const std::string& path, std::string_view text);

}  // namespace keelback::chaos
