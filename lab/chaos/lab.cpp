#include "chaos/lab.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/nearest.h"
#include "base/settings_text.h"
#include "chaos/application.h"
#include "chaos/report.h"
#include "chaos/world.h"

namespace keelback::chaos {
namespace {

namespace fs = std::filesystem;

// A scratch directory for a run that keeps nothing.
class Scratch {
 public:
  explicit Scratch(const std::string& wanted) : path_(wanted), mine_(wanted.empty()) {
    std::error_code error;
    if (mine_) {
      std::string pattern =
          (fs::temp_directory_path(error) / (std::string(kScratchPrefix) + "XXXXXX")).string();
      const char* made = ::mkdtemp(pattern.data());
      path_ = made != nullptr ? made : "";
    } else {
      fs::create_directories(path_, error);
    }
  }
  ~Scratch() {
    std::error_code error;
    if (mine_ && !path_.empty()) fs::remove_all(path_, error);
  }
  Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, {})), mine_(other.mine_) {}
  Scratch& operator=(Scratch&&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool mine_;
};

// A world with its directory, and what was learnt of the application in it before the run.
struct Stage {
  explicit Stage(const std::string& out) : directory(out) {}

  Scratch directory;
  WorldOptions options;
  std::unique_ptr<World> world;  // goes before the directory does
  Census before;
  bool whole = true;  // false: it did not become whole in time
  Trial trial;
};

std::expected<void, std::string> raise(Stage& stage, const Scenario& scenario,
                                       const RunRequest& request) {
  if (stage.directory.path().empty()) {
    return std::unexpected("no directory for the run could be made");
  }
  stage.options = {.settings = scenario.settings,
                   .app = request.app,
                   .directory = stage.directory.path(),
                   .seed = request.seed,
                   .nodes = scenario.nodes};
  for (const FaultSpec& fault : scenario.faults) {
    const FaultClass* kind = find_fault_class(fault.fault_class);
    auto& all = stage.options.prepare;  // each once
    if (kind == nullptr || kind->prepare == nullptr) continue;
    if (std::ranges::find(all, kind->prepare) == all.end()) all.push_back(kind->prepare);
  }
  stage.options.settings.pool.backend = request.backend;
  auto world = make_world(stage.options);
  if (!world) return std::unexpected(world.error());
  stage.world = std::move(*world);
  stage.before = stage.world->census("before");
  if (request.app.empty() || request.backend != Backend::kPython) return {};
  const auto interrupted = [&] {
    return request.conduct.interrupted != nullptr && *request.conduct.interrupted;
  };
  const std::uint32_t workers = scenario.settings.pool.workers;
  stage.whole = wait_until_whole(*stage.world, workers, kStartLimit, interrupted);
  if (!stage.whole) return {};
  stage.trial = try_functions(
      *stage.world, scenario,
      choose_functions(stage.world->application().get(), scenario.load.calls), interrupted);
  return {};
}

std::expected<RunResult, std::string> play(Stage stage, Scenario scenario, Plan plan,
                                           const RunRequest& request) {
  const std::string where = stage.directory.path();
  if (const auto kept = write_file(where + "/plan.json", to_json_text(plan)); !kept) {
    return std::unexpected(kept.error());
  }
  RunResult result{.scenario = std::move(scenario), .plan = std::move(plan)};
  ConductOptions conducting = request.conduct;
  conducting.before = std::move(stage.trial.calls);
  if (!stage.whole) conducting.start_limit = Duration{0};
  const host::StartPath start = stage.world->info().start;
  result.history = conduct(result.scenario, result.plan, *stage.world, conducting);
  result.history.functions = std::move(stage.trial.functions);
  result.history.facts.import_s = start.import_s;
  result.history.facts.start_mode = start.mode;
  result.history.facts.start_reason = start.reason;
  result.history.census = {std::move(stage.before), stage.world->census("after")};
  stage.world.reset();
  if (request.twice && result.plan.backend == Backend::kSim) {
    const auto again = make_sim_world(stage.options);
    result.history.facts.trace_hash_again =
        conduct(result.scenario, result.plan, *again).facts.trace_hash;
  }
  result.judgement = judge({result.history, result.scenario, result.plan});
  if (!request.out.empty()) {
    const auto written = write_report(request.out, result);
    if (!written) return std::unexpected(written.error());
  }
  return result;
}

std::expected<RunResult, std::string> skipped(Scenario scenario, Plan plan,
                                              const std::string& out) {
  std::string missing;
  for (const FaultSpec& fault : scenario.faults) {
    const FaultClass* known = find_fault_class(fault.fault_class);
    if (known == nullptr || known->on(plan.backend)) continue;
    missing += fmt::format("{}{}", missing.empty() ? "" : ", ", fault.fault_class);
  }
  RunResult result{.scenario = std::move(scenario), .plan = std::move(plan)};
  result.judgement.verdict = Verdict::kSkipped;
  result.judgement.why =
      fmt::format("backend {} cannot inject {}", setting_name(result.plan.backend), missing);
  if (out.empty()) return result;
  std::error_code error;
  fs::create_directories(out, error);
  if (auto kept = write_file(out + "/plan.json", to_json_text(result.plan)); !kept) {
    return std::unexpected(kept.error());
  }
  if (auto kept = write_report(out, result); !kept) return std::unexpected(kept.error());
  return result;
}

}  // namespace

std::expected<std::string, std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::unexpected(fmt::format("{} cannot be read", path));
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::expected<void, std::string> write_file(const std::string& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.flush();
  if (!out) return std::unexpected(fmt::format("{} cannot be written", path));
  return {};
}

std::expected<LoadedScenario, std::string> load_scenario(const std::string& name) {
  if (name.find('/') != name.npos || name.find('.') != name.npos) {
    auto text = read_file(name);
    if (!text) return std::unexpected(text.error());
    return LoadedScenario{std::move(*text), name};
  }
  if (auto text = library_text(name)) return LoadedScenario{std::move(*text), "library"};
  const std::vector<std::string> names = library_names();
  const std::vector<std::string_view> views(names.begin(), names.end());
  return std::unexpected(
      fmt::format("there is no scenario '{}'{}", name, did_you_mean(name, views)));
}

Lookup scenario_lookup() {
  return [](std::string_view name) -> std::optional<std::string> {
    auto loaded = load_scenario(std::string(name));
    return loaded ? std::optional(std::move(loaded->text)) : std::nullopt;
  };
}

std::expected<RunResult, std::string> run_scenario(Scenario scenario, const RunRequest& request) {
  if (std::ranges::find(scenario.backends, request.backend) == scenario.backends.end()) {
    Plan plan = make_plan(scenario, {.seed = request.seed,
                                     .level = request.level,
                                     .backend = request.backend,
                                     .app = request.app,
                                     .arguments = request.arguments});
    return skipped(std::move(scenario), std::move(plan), request.out);
  }
  Stage stage(request.out);
  if (auto raised = raise(stage, scenario, request); !raised) {
    return std::unexpected(raised.error());
  }
  const bool named = std::ranges::any_of(scenario.load.calls, &LoadCall::own);
  const Overrides found{.calls = load_of(stage.trial.functions, scenario)};
  if (!named && !found.calls.empty()) {
    const std::string source = scenario.source;
    auto parsed = parse_scenario(scenario.text, request.level, scenario_lookup(), source, found);
    if (!parsed.ok()) return std::unexpected(describe(parsed.findings.front()));
    scenario = std::move(*parsed.scenario);
  }
  Plan plan = make_plan(scenario, {.seed = request.seed,
                                   .level = request.level,
                                   .backend = request.backend,
                                   .app = request.app,
                                   .arguments = request.arguments});
  return play(std::move(stage), std::move(scenario), std::move(plan), request);
}

std::expected<RunResult, std::string> replay_plan(Plan plan, const RunRequest& request) {
  auto parsed = parse_scenario(plan.scenario, plan.level, scenario_lookup(), "plan.json");
  if (!parsed.ok()) return std::unexpected(describe(parsed.findings.front()));
  RunRequest same = request;
  same.app = plan.app;
  same.backend = plan.backend;
  same.seed = plan.seed;
  same.level = plan.level;
  Stage stage(request.out);
  if (auto raised = raise(stage, *parsed.scenario, same); !raised) {
    return std::unexpected(raised.error());
  }
  return play(std::move(stage), std::move(*parsed.scenario), std::move(plan), same);
}

std::expected<Shrunk, std::string> shrink_plan(const Plan& plan, ShrinkRequest request) {
  request.run = [](const Plan& candidate) -> std::expected<Judgement, std::string> {
    auto result = replay_plan(candidate, {.app = candidate.app});
    if (!result) return std::unexpected(result.error());
    return std::move(result->judgement);
  };
  const auto parsed = parse_scenario(plan.scenario, plan.level, scenario_lookup(), "plan.json");
  if (!parsed.ok()) return std::unexpected(describe(parsed.findings.front()));
  const auto& backends = parsed.scenario->backends;
  ShrinkRequest exact = request;
  exact.first_runs = 1;
  if (plan.backend == Backend::kSim) return shrink(plan, exact);
  if (std::ranges::find(backends, Backend::kSim) != backends.end() && plan.app.empty()) {
    Plan simulated = plan;
    simulated.backend = Backend::kSim;
    if (auto shrunk = shrink(simulated, exact)) return shrunk;
  }
  return shrink(plan, request);
}

std::expected<RunResult, std::string> judge_directory(const std::string& directory) {
  const auto plan_text = read_file(directory + "/plan.json");
  if (!plan_text) return std::unexpected(plan_text.error());
  auto plan = plan_from_json(*plan_text);
  if (!plan) return std::unexpected(plan.error());
  auto parsed = parse_scenario(plan->scenario, plan->level, scenario_lookup(), "plan.json");
  if (!parsed.ok()) return std::unexpected(describe(parsed.findings.front()));
  const auto events = read_file(directory + "/events.jsonl");
  if (!events) return std::unexpected(events.error());
  auto history = history_from_jsonl(*events);
  if (!history) return std::unexpected("events.jsonl: " + history.error());
  RunResult result{.scenario = std::move(*parsed.scenario),
                   .plan = std::move(*plan),
                   .history = std::move(*history)};
  result.judgement = judge({result.history, result.scenario, result.plan});
  return result;
}

}  // namespace keelback::chaos
