// keelback chaos: run, replay, shrink.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "base/reached.h"
#include "base/settings_text.h"
#include "chaos/report.h"
#include "chaos/swarm.h"
#include "cli/chaos_commands.h"
#include "cli/chaos_output.h"

namespace keelback::cli {
namespace {

using chaos::Verdict;

// Refuses every run on this machine.
constexpr const char* kSafetyLever = "KEELBACK_CHAOS_DISABLED";

// Every so many runs on the simulator is made twice (I26); a single one always.
constexpr std::uint64_t kTwiceEvery = 20;
// Of the shrinking that a failed run on the simulator starts by itself.
constexpr std::uint32_t kShrinkRuns = 2000;

std::atomic<bool> g_interrupted{false};
void on_interrupt(int) { g_interrupted = true; }

// The first Ctrl-C undoes the faults and ends the run as ABORTED; the second kills, and the warden
// undoes.
class Interruptible {
 public:
  Interruptible() {
    struct sigaction action{};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESETHAND;
    for (const int signal : {SIGINT, SIGTERM})
      ::sigaction(signal, &action, &before_[signal == SIGTERM]);
  }
  ~Interruptible() {
    for (const int signal : {SIGINT, SIGTERM}) {
      ::sigaction(signal, &before_[signal == SIGTERM], nullptr);
    }
  }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  struct sigaction before_[2]{};
};

std::optional<int> refused(const Invocation& invocation) {
  const std::string lever = environment(kSafetyLever);
  if (lever.empty() || lever == "0") return std::nullopt;
  return chaos_usage(invocation, fmt::format("{} is set: no chaos on this machine", kSafetyLever));
}

// Of a run's directory, or a plan file itself.
std::expected<chaos::Plan, std::string> stored_plan(const std::string& path) {
  const auto text = chaos::read_file(path.ends_with(".json") ? path : path + "/plan.json");
  if (!text) return std::unexpected(text.error());
  return chaos::plan_from_json(*text);
}

bool failed(Verdict verdict) {
  return verdict == Verdict::kSafety || verdict == Verdict::kLiveness ||
         verdict == Verdict::kBudget || verdict == Verdict::kResidue;
}

std::function<void(const chaos::ShrinkStep&)> shrink_progress() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [](const chaos::ShrinkStep& step) {
    fmt::print(stderr, "\r\x1b[Kshrinking: {}{}", step.what, step.kept ? ", still fails" : "");
    std::fflush(stderr);
  };
}

// Keeps the plan in DIR/plan.json and says how to run it.
std::string keep_minimal(const chaos::Shrunk& shrunk, const std::string& directory) {
  const auto result = chaos::replay_plan(shrunk.plan, {.app = shrunk.plan.app, .out = directory});
  if (!result) return "the minimal plan could not be kept: " + result.error();
  return fmt::format("keelback chaos replay {}", shell_quoted(directory));
}

std::string shrunk_text(const chaos::Shrunk& shrunk, const chaos::Plan& before,
                        const std::string& command) {
  std::string out =
      fmt::format("  minimal: {}\n    {} -> {}, in {} runs{}\n", chaos::describe(shrunk.symptom),
                  chaos::size_of(before), chaos::size_of(shrunk.plan), shrunk.runs,
                  shrunk.complete ? "" : " (the limit: a smaller one may exist)");
  if (shrunk.first_runs > 1) {
    out += fmt::format("    the whole plan failed so in {} of {} runs\n", shrunk.first_failed,
                       shrunk.first_runs);
  }
  if (!command.empty()) out += "    " + command + "\n";
  return out;
}

Json shrunk_json(const chaos::Shrunk& shrunk, const std::string& command) {
  Json steps = Json::array();
  for (const chaos::ShrinkStep& step : shrunk.steps) {
    if (step.kept) steps.push_back(step.what);
  }
  return {{"symptom", chaos::describe(shrunk.symptom)},
          {"first_runs", shrunk.first_runs},
          {"first_failed", shrunk.first_failed},
          {"runs", shrunk.runs},
          {"complete", shrunk.complete},
          {"kept", std::move(steps)},
          {"size", chaos::size_of(shrunk.plan)},
          {"repro", command}};
}

// Rare paths of the core, and how often these runs took them.
Json marks_json() {
  Json out = Json::object();
  for (const ReachedMark::Count& mark : ReachedMark::all()) {
    out[std::string(mark.name)] = mark.times;
  }
  return out;
}
std::string marks_text() {
  std::string never;
  const auto all = ReachedMark::all();
  std::size_t reached = 0;
  for (const ReachedMark::Count& mark : all) {
    reached += mark.times > 0;
    if (mark.times == 0) never += fmt::format("{}{}", never.empty() ? "" : ", ", mark.name);
  }
  return fmt::format("{} of {} marks reached{}{}\n", reached, all.size(),
                     never.empty() ? "" : "; not: ", never);
}

class Runs {
 public:
  Runs(const Invocation& invocation, const ChaosOptions& options, const ChaosAsked& wanted)
      : invocation_(invocation), options_(options), wanted_(wanted) {}

  int play(const std::vector<std::string>& names) {
    const std::uint64_t count = std::max<std::uint64_t>(options_.seeds, 1);
    total_ = names.size() * count;
    // All of them are read before the first one runs.
    std::vector<std::pair<chaos::Scenario, std::uint64_t>> all;
    for (const std::string& name : names) {
      for (std::uint64_t seed = options_.seed; seed < options_.seed + count; ++seed) {
        if (seed > options_.seed && name != chaos::kSwarm) {
          all.emplace_back(all.back().first, seed);
          continue;
        }
        auto scenario = read_scenario(name, wanted_, seed);
        if (!scenario) return fail(invocation_, kExitLabUsage, "scenario", scenario.error());
        all.emplace_back(std::move(*scenario), seed);
      }
    }
    const Interruptible interruptible;
    for (const auto& [scenario, seed] : all) {
      if (const auto code = one(scenario, seed)) return *code;
      if (g_interrupted) break;
    }
    return total_ > 1 ? summary() : chaos::exit_code(verdicts_.front());
  }

 private:
  std::optional<int> one(const chaos::Scenario& scenario, std::uint64_t seed) {
    const bool several = total_ > 1;
    chaos::RunRequest request{.app = options_.app,
                              .backend = wanted_.backend,
                              .level = wanted_.level,
                              .seed = seed,
                              .out = options_.out,
                              .arguments = wanted_.arguments,
                              .twice = rows_.size() % kTwiceEvery == 0};
    if (several && !options_.out.empty()) {
      request.out += fmt::format("/{}-{}", scenario.name, seed);
    }
    const std::string title =
        several ? fmt::format("{}/{} {}", rows_.size() + 1, total_, scenario.name) : scenario.name;
    request.conduct.on_progress = chaos_progress(title);
    request.conduct.interrupted = &g_interrupted;
    const auto result = chaos::run_scenario(scenario, request);
    end_chaos_progress();
    if (!result) return fail(invocation_, kExitLabFailed, "laboratory", result.error());
    verdicts_.push_back(result->judgement.verdict);
    rows_.push_back({scenario.name, seed, result->judgement.verdict, result->judgement.why,
                     invocation_.json ? chaos::report_json(*result) : std::string(),
                     chaos::repro(*result)});
    if (!invocation_.json) print(several ? rows_text({rows_.back()}) : run_text(*result));
    if (invocation_.json && !several) print(rows_.back().report);
    minimise(*result, request.out);
    return std::nullopt;
  }

  // The first failure on the simulator is shrunk at once: it takes seconds at most.
  void minimise(const chaos::RunResult& result, const std::string& out) {
    const bool exact = result.plan.backend == Backend::kSim;
    if (options_.no_shrink || shrunk_ || !exact || !failed(result.judgement.verdict)) return;
    shrunk_ = true;
    const auto shrunk =
        chaos::shrink_plan(result.plan, {.runs_max = kShrinkRuns, .on_step = shrink_progress()});
    end_chaos_progress();
    if (!shrunk) return;
    const std::string command = out.empty()
                                    ? fmt::format("(with --out DIR it is kept in DIR/minimal)")
                                    : keep_minimal(*shrunk, out + "/minimal");
    if (!invocation_.json) print(shrunk_text(*shrunk, result.plan, command));
  }

  int summary() const {
    const Verdict worst = chaos::worst(verdicts_);
    if (invocation_.json) {
      Json json = rows_json(rows_, worst);
      if (wanted_.backend == Backend::kSim) json["marks"] = marks_json();
      print_json(json);
    } else {
      const auto n = [&](Verdict verdict) { return std::ranges::count(verdicts_, verdict); };
      if (wanted_.backend == Backend::kSim) print(marks_text());
      print(fmt::format("{}: {} runs, {} passed, {} skipped\n", chaos::to_string(worst),
                        rows_.size(), n(Verdict::kPass), n(Verdict::kSkipped)));
    }
    return chaos::exit_code(worst);
  }

  const Invocation& invocation_;
  const ChaosOptions& options_;
  const ChaosAsked& wanted_;
  std::size_t total_ = 0;
  std::vector<RunRow> rows_;
  std::vector<Verdict> verdicts_;
  bool shrunk_ = false;
};

}  // namespace

int chaos_run(const Invocation& invocation, ChaosOptions& options) {
  if (const auto no = refused(invocation)) return *no;
  const auto wanted = asked(options);
  if (!wanted) return chaos_usage(invocation, wanted.error());
  std::vector<std::string> names = options.scenarios;
  if (options.all) names = chaos::library_names();
  if (names.empty()) {
    return chaos_usage(invocation, "which scenario? (keelback chaos list; or --all)");
  }
  return Runs(invocation, options, *wanted).play(names);
}

int chaos_replay(const Invocation& invocation, ChaosOptions& options) {
  if (const auto no = refused(invocation)) return *no;
  const std::string directory = options.scenarios.front();
  auto stored = stored_plan(directory);
  if (!stored) return chaos_usage(invocation, stored.error());
  const Interruptible interruptible;
  chaos::RunRequest request{.app = stored->app,
                            .backend = stored->backend,
                            .level = stored->level,
                            .seed = stored->seed,
                            .out = options.out,
                            .arguments = stored->arguments};
  request.conduct.on_progress = chaos_progress("replay " + stored->name);
  request.conduct.interrupted = &g_interrupted;
  const auto result = chaos::replay_plan(std::move(*stored), request);
  end_chaos_progress();
  if (!result) return fail(invocation, kExitLabFailed, "laboratory", result.error());
  print(invocation.json ? chaos::report_json(*result) : run_text(*result));
  const auto before = chaos::judge_directory(directory);
  if (before && !invocation.json) {
    const bool same = before->judgement.verdict == result->judgement.verdict;
    const bool exact = before->history.facts.trace_hash != 0 &&
                       before->history.facts.trace_hash == result->history.facts.trace_hash;
    print(fmt::format(
        "  {} the run in {}{}\n", same ? "reproduces" : "DIFFERS from", directory,
        same ? exact ? ", event for event" : ""
             : fmt::format(", which was {}", chaos::to_string(before->judgement.verdict))));
  }
  return chaos::exit_code(result->judgement.verdict);
}

int chaos_shrink(const Invocation& invocation, ChaosOptions& options) {
  if (const auto no = refused(invocation)) return *no;
  const std::string path = options.scenarios.front();
  const auto stored = stored_plan(path);
  if (!stored) return chaos_usage(invocation, stored.error());
  const Interruptible interruptible;
  chaos::ShrinkRequest request{.on_step = shrink_progress()};
  if (options.runs > 0) request.runs_max = options.runs;
  const auto shrunk = chaos::shrink_plan(*stored, request);
  end_chaos_progress();
  if (!shrunk) return chaos_usage(invocation, shrunk.error());
  std::string out = options.out;
  if (out.empty() && !path.ends_with(".json")) out = path + "/minimal";
  const std::string command =
      out.empty() ? "(with --out DIR it is kept)" : keep_minimal(*shrunk, out);
  if (invocation.json) {
    print_json(shrunk_json(*shrunk, command));
  } else {
    print(shrunk_text(*shrunk, *stored, command));
  }
  return kExitOk;
}

}  // namespace keelback::cli
