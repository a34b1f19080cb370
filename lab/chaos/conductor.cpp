#include "chaos/conductor.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/settings_text.h"
#include "chaos/catalogue.h"
#include "chaos/injector.h"
#include "chaos/recorder.h"
#include "chaos/recovery.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr Duration kSampleEvery = 5ms;
constexpr Duration kProgressEvery = 200ms;
constexpr Duration kLookEvery = 250ms;  // at the machine
constexpr Duration kProbe = 30ms;       // each keeps its worker busy so long
constexpr int kProbeRounds = 20;
constexpr Duration kRest = 1s;       // of the latch test, with nothing in flight
constexpr Duration kLagMax = 250ms;  // p99 of the generator's own lateness

class Conductor {
 public:
  Conductor(const Scenario& scenario, const Plan& plan, World& world, const ConductOptions& options)
      : scenario_(scenario),
        plan_(plan),
        world_(world),
        options_(options),
        recorder_(world, plan),
        injector_(scenario, plan, world, recorder_) {}

  History run() {
    History& history = recorder_.history();
    history.facts.backend = std::string(setting_name(plan_.backend));
    if (plan_.backend != Backend::kSim) history.facts.machine = describe_machine();
    history.calls = options_.before;
    if (!start()) return finish();
    origin_ = world_.now();
    recorder_.begin(origin_);
    play();
    if (!history.facts.stopped) {
      if (below_baseline("load", last_heal(input()), plan_.phases.end)) test_latch();
      quiesce(scenario_.load.deadline + scenario_.settings.calls.grace + 1s);
      probe();
      verify();
    }
    return finish();
  }

 private:
  Duration now() { return world_.now() - origin_; }
  void wait_until(Duration when, bool or_ended = false) {
    world_.wait_until(origin_ + when, or_ended);
    recorder_.collect();
  }

  bool interrupted() const { return options_.interrupted != nullptr && *options_.interrupted; }

  void stop(std::string why) {
    RunFacts& facts = recorder_.history().facts;
    if (facts.stopped) return;
    facts.stopped = true;
    facts.stop_reason = std::move(why);
  }

  // The run begins with a whole pool, whatever the application's import takes.
  bool start() {
    progress("start");
    if (wait_until_whole(world_, scenario_.settings.pool.workers, options_.start_limit,
                         [this] { return interrupted(); })) {
      return true;
    }
    const host::PoolInfo info = world_.info();
    std::string why = "the pool never became whole";
    for (const std::string& reason : info.stats.reasons) why += "; " + reason;
    if (!info.start.reason.empty()) why += "; " + info.start.reason;
    stop(interrupted() ? "interrupted" : why);
    return false;
  }

  // ---- the plan

  void play() {
    std::size_t next_load = 0;
    Duration next_sample{0}, next_progress{0}, next_look{0};
    while (now() < plan_.phases.end) {
      if (interrupted()) return stop("interrupted");
      Duration next = std::min(next_sample, plan_.phases.end);
      if (next_load < plan_.load.size()) next = std::min(next, plan_.load[next_load].at);
      next = std::min(next, injector_.next_due());
      wait_until(next);
      const Duration at = now();
      while (next_load < plan_.load.size() && plan_.load[next_load].at <= at) {
        recorder_.send(plan_.load[next_load], "load", plan_.load[next_load].at);
        ++next_load;
      }
      injector_.run_due(at);
      if (at >= next_sample) {
        sample();  // at its own time: a fault may have struck since `at`, and was waited for
        next_sample = at + kSampleEvery;
        if (stop_condition(at)) return;
      }
      if (at >= next_look) {
        if (host_is_exhausted()) return;
        next_look = at + kLookEvery;
      }
      if (at >= next_progress) {
        progress(phase_at(at));
        next_progress = at + kProgressEvery;
      }
    }
    injector_.undo_all(now());
  }

  // What the run may take of its host has an end.
  bool host_is_exhausted() {
    auto left = world_.machine();
    if (!left) return false;
    left->at = now();
    const auto why = too_little(*left, scenario_.host);
    recorder_.history().machine.push_back(*left);
    if (why) stop("host guard: " + *why);
    return why.has_value();
  }

  std::string phase_at(Duration at) const {
    return at < plan_.phases.baseline   ? "ramp"
           : at < plan_.phases.faults   ? "baseline"
           : at < plan_.phases.recovery ? "faults"
                                        : "recovery";
  }

  bool stop_condition(Duration at) {
    if (!scenario_.stop_ok || at < plan_.phases.faults + scenario_.stop_for) return false;
    const auto [ended, ok] = recorder_.ended_since(at - scenario_.stop_for);
    const bool low =
        ended > 20 && static_cast<double>(ok) < *scenario_.stop_ok * static_cast<double>(ended);
    if (low) {
      stop(fmt::format("stop condition: {} of the last {} calls ok, in {}", ok, ended,
                       format_duration(scenario_.stop_for)));
    }
    return low;
  }

  // ---- the latch test: what brings back a service that did not come back in time?

  CheckInput input() { return {recorder_.history(), scenario_, plan_}; }

  bool below_baseline(std::string_view origin, Duration from, Duration to) {
    const CheckInput so_far = input();
    const Losses losses = explain(so_far);
    const PhaseStats baseline =
        phase_stats(so_far.history, losses, plan_.phases.baseline, plan_.phases.faults);
    const Stretch stretch{.origin = origin, .from = from, .to = to};
    return baseline.offered > 0 && !service_back(so_far, losses, baseline, stretch);
  }

  // The recovery phase's load once more, from now on.
  void load_again(const std::string& origin) {
    const Duration begin = now();
    for (const PlannedCall& call : plan_.load) {
      if (call.at < plan_.phases.recovery || interrupted()) continue;
      const Duration due = begin + call.at - plan_.phases.recovery;
      while (now() < due) {
        wait_until(std::min(due, now() + kSampleEvery));
        sample();
      }
      recorder_.send(call, origin, due);
    }
  }

  void test_latch() {
    const Duration patience = scenario_.load.deadline + scenario_.settings.calls.grace + 1s;
    progress("held");
    const Duration held = now();
    load_again(kHeldLoad);
    if (!below_baseline(kHeldLoad, held, now())) return;
    quiesce(patience);
    for (const Duration rested = now() + kRest; now() < rested && !interrupted();) {
      wait_until(now() + kSampleEvery);
      sample();
    }
    progress("restored");
    load_again(kRestoredLoad);
  }

  // ---- afterwards

  // Waits until nothing is in flight any more.
  void quiesce(Duration limit) {
    const Duration until = now() + limit;
    while (now() < until && !interrupted()) {
      if (recorder_.waiting() == 0) break;
      wait_until(now() + kSampleEvery);
      sample();
    }
  }

  void sample() {
    recorder_.sample(now());
    injector_.look(now());
  }

  // As many calls at once as there are workers, until each slot has answered one.
  void probe() {
    progress("verify");
    const std::uint32_t workers = scenario_.settings.pool.workers;
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(kProbe).count();
    std::set<std::uint32_t> answered;
    for (int round = 0; round < kProbeRounds && answered.size() < workers; ++round) {
      const std::size_t first = recorder_.history().calls.size();
      for (std::uint32_t i = 0; i < workers; ++i) {
        recorder_.send({.function = "sleep",
                        .payload = fmt::format("[{}]", ms),
                        .deadline = scenario_.load.deadline},
                       "probe", now());
      }
      quiesce(scenario_.load.deadline + scenario_.settings.calls.grace + 1s);
      const auto& calls = recorder_.history().calls;
      for (std::size_t i = first; i < calls.size(); ++i) {
        if (calls[i].ok()) answered.insert(calls[i].worker.slot);
      }
    }
  }

  void verify() {
    for (const PlannedCall& call : plan_.verify) {
      if (interrupted()) return;
      recorder_.send(call, "verify", now());
      const Duration until = now() + call.deadline + scenario_.settings.calls.grace + 1s;
      while (recorder_.waiting() > 0 && now() < until) wait_until(until, true);
    }
  }

  History finish() {
    History& history = recorder_.history();
    injector_.undo_all(now());
    quiesce(scenario_.settings.calls.grace + 1s);
    sample();
    recorder_.final_counts();
    progress("end");
    const Duration began = world_.now();
    history.facts.shut_down = world_.shut_down(scenario_.settings.workers.drain_timeout);
    history.facts.shutdown = world_.now() - began;
    recorder_.collect();
    history.effects = world_.effects();
    history.facts.effects_known = world_.effects_known();
    history.facts.links_known = world_.links_known();
    history.facts.trace_hash = world_.trace_hash();
    if (auto commits = world_.commits()) {
      history.facts.commits_known = true;
      history.commits = std::move(*commits);
    }
    generator(history);
    return std::move(history);
  }

  // Open load that was late is not open load.
  void generator(History& history) const {
    std::vector<Duration> lags;
    for (const CallEvent& call : history.calls) {
      if (call.origin == "load" && call.call != 0) lags.push_back(call.sent - call.planned);
    }
    if (lags.empty()) return;
    const std::size_t rank = lags.size() * 99 / 100;
    std::ranges::nth_element(lags, lags.begin() + static_cast<std::ptrdiff_t>(rank));
    history.facts.generator_lag = lags[rank];
    if (lags[rank] <= kLagMax) return;
    history.facts.generator =
        fmt::format("the load generator was {:.0f} ms late at p99: this machine is too busy",
                    std::chrono::duration<double, std::milli>(lags[rank]).count());
  }

  void progress(const std::string& phase) {
    if (!options_.on_progress) return;
    Progress made = recorder_.progress();
    made.phase = phase;
    made.at = now();
    made.end = plan_.phases.end;
    made.last = injector_.last_word();
    options_.on_progress(made);
  }

  const Scenario& scenario_;
  const Plan& plan_;
  World& world_;
  const ConductOptions& options_;
  Recorder recorder_;
  Injector injector_;
  Duration origin_{0};
};

}  // namespace

History conduct(const Scenario& scenario, const Plan& plan, World& world,
                const ConductOptions& options) {
  return Conductor(scenario, plan, world, options).run();
}

}  // namespace keelback::chaos
