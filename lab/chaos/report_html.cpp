// report.html: the verdict first, then what to do, then what happened over one time axis, then what
// each claim rests on.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/settings_text.h"
#include "chaos/deaths.h"
#include "chaos/report.h"
#include "chaos/report_figures.h"
#include "report/page.h"

namespace keelback::chaos {
namespace {

using report::Cell;
using report::Tone;

constexpr std::size_t kListed = 60;

Cell number(std::string text, Tone tone = Tone::kPlain) { return {std::move(text), tone, true}; }
Cell count(std::uint64_t n) { return number(n == 0 ? "" : std::to_string(n)); }
std::string ms(Duration duration) { return fmt::format("{:.1f} ms", milliseconds(duration)); }

Tone tone_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return Tone::kGood;
    case Verdict::kSkipped:
      return Tone::kMuted;
    case Verdict::kBudget:
    case Verdict::kInvalid:
    case Verdict::kAborted:
    case Verdict::kInconclusive:
      return Tone::kWarn;
    default:
      return Tone::kBad;
  }
}

Tone tone_of(Status status) {
  return status == Status::kHolds     ? Tone::kGood
         : status == Status::kVacuous ? Tone::kMuted
                                      : Tone::kBad;
}

class Html {
 public:
  explicit Html(const RunResult& result)
      : run_(result),
        judgement_(result.judgement),
        figures_(result),
        page_("Chaos: " + result.plan.name, result.scenario.why) {}

  std::string make() {
    banner();
    advice();
    happened();
    faults();
    workers();
    losses();
    costs();
    ledgers();
    invariants();
    application();
    latency();
    untested();
    machine();
    again();
    return page_.html();
  }

 private:
  void banner() {
    page_.banner(
        tone_of(judgement_.verdict), to_string(judgement_.verdict), judgement_.why,
        {{"scenario", run_.plan.name},
         {"backend", std::string(setting_name(run_.plan.backend))},
         {"level", std::string(to_string(run_.plan.level))},
         {"seed", std::to_string(run_.plan.seed)},
         {"application", run_.plan.app.empty() ? "the laboratory's own" : run_.plan.app},
         {"ok during", fmt::format("{:.1f} %", 100 * judgement_.during.success())},
         {"ok after", fmt::format("{:.1f} %", 100 * judgement_.after.success())},
         {"unexplained losses", std::to_string(judgement_.losses.unexplained)},
         {"verification", fmt::format("{} of {}", judgement_.verified, judgement_.verify_offered)},
         {"service back",
          judgement_.service ? "after " + ms(*judgement_.service) : std::string("never")},
         {"not tested", std::to_string(judgement_.not_tested.size())}});
  }

  void advice() {
    if (judgement_.reasons.size() < 2 && judgement_.advice.empty()) return;
    page_.section("What to mend");
    for (const std::string& each : judgement_.advice) page_.note(Tone::kWarn, each);
    for (const Reason& reason : judgement_.reasons) {
      page_.note(tone_of(reason.verdict),
                 fmt::format("{}: {}", to_string(reason.verdict), reason.text));
    }
  }

  void happened() {
    page_.section(
        "What happened",
        "One time axis, from ramp to recovery. Calls count at the time they were due, not "
        "when they could be sent: that is what a user sees. Shaded: a fault in force.");
    page_.figure(figures_.curve(), "What became of the calls that were due.");
    page_.figure(figures_.faults(),
                 "The faults; small strokes are the rungs of the ladder, in milliseconds below.");
    page_.figure(figures_.share(),
                 fmt::format("Share of ok. At its deepest {:.0f} % below the baseline; lost {:.2f} "
                             "outage-seconds before the recovery phase, {:.2f} after it.",
                             100 * judgement_.shape.depth, judgement_.shape.area_during,
                             judgement_.shape.area_after));
    page_.figure(figures_.latency(), "");
    report::Table table{.head = {"phase", "offered", "ok", "success", "p50", "p99", "p99.9"}};
    for (const auto& [name, stats] : phases_of(judgement_)) {
      table.rows.push_back(
          {name, number(std::to_string(stats->offered)), number(std::to_string(stats->ok)),
           number(fmt::format("{:.2f} %", 100 * stats->success())), number(ms(stats->p50)),
           number(ms(stats->p99)), number(ms(stats->p999))});
    }
    page_.table(table);
    latch();
    thresholds();
  }

  // What became of a service that was not back in time: the same load went on, then it was taken
  // away and came again.
  void latch() {
    if (judgement_.latch == Latch::kNone) return;
    static constexpr std::pair<std::string_view, const char*> kSteps[] = {
        {kHeldLoad, "the same load, as long again"},
        {kRestoredLoad, "after a rest without load, the same again"}};
    report::Table table{.head = {"latch test", "offered", "ok", "success"}};
    for (const auto& [origin, words] : kSteps) {
      std::uint64_t offered = 0, ok = 0;
      for (const CallEvent& call : run_.history.calls) {
        offered += call.origin == origin;
        ok += call.origin == origin && call.ok() && call.mine && call.intact;
      }
      if (offered == 0) continue;
      const double share = 100 * static_cast<double>(ok) / static_cast<double>(offered);
      table.rows.push_back({words, number(std::to_string(offered)), number(std::to_string(ok)),
                            number(fmt::format("{:.2f} %", share))});
    }
    page_.note(Tone::kBad,
               fmt::format("The service was not back in time: {}.", to_string(judgement_.latch)));
    if (!table.rows.empty()) page_.table(table);
  }

  // What was promised less than by the scenario that this one extends.
  void thresholds() {
    for (const std::string& each : run_.scenario.loosened) {
      page_.note(Tone::kWarn, fmt::format("Promises less: {} ({})", each, run_.scenario.reason));
    }
  }

  // Numbers that no verdict depends on.
  void costs() {
    page_.section("What it cost beside its losses", "No verdict depends on these.");
    const Metrics& metrics = judgement_.metrics;
    const Collateral& groups = metrics.collateral;
    const auto share = [](std::uint64_t lost, std::uint64_t offered) {
      return offered == 0
                 ? std::string("none")
                 : fmt::format("{} of {} lost ({:.2f} %)", lost, offered,
                               100 * static_cast<double>(lost) / static_cast<double>(offered));
    };
    const auto ratio = groups.ratio();
    report::Table table{.head = {"what", "this run", "read it as"}};
    table.rows = {{"session calls on workers that a fault touched",
                   number(share(groups.exposed_lost, groups.exposed_offered)), "the exposed group"},
                  {"session calls on the other workers",
                   number(share(groups.control_lost, groups.control_offered)),
                   "the control group: a loss here is collateral"},
                  {"collateral ratio", number(ratio ? fmt::format("{:.3f}", *ratio) : "not known"),
                   "loss a call of the control group over that of the exposed one; 0 is contained"},
                  {"attempts a call", number(fmt::format("{:.3f}", metrics.attempts_per_call)),
                   "above 1: what retries have added"},
                  {"wasted work", number(std::to_string(metrics.wasted_effects)),
                   "function bodies that ran for callers who got no ok"},
                  {"false alarms", number(std::to_string(metrics.false_detections)),
                   "workers suspect or gone in the baseline, before any fault"},
                  {"flaps", number(std::to_string(metrics.flaps)),
                   "how often the service fell again after it was back"},
                  {"widest window", number(ms(metrics.widest_window)),
                   "the longest stretch in which one fault may explain a loss"}};
    page_.table(table);
  }

  void machine() {
    page_.section("The machine", "Whom these numbers belong to.");
    const RunFacts& facts = run_.history.facts;
    const MachineFacts& what = facts.machine;
    if (what.cpus == 0) {
      page_.paragraph("None: the run was simulated, on virtual time.");
      return;
    }
    report::Table table{.head = {"what", ""}};
    table.rows = {{"Keelback", what.version},
                  {"processor", what.cpu.empty() ? "not known" : what.cpu},
                  {"processors that the run may use", std::to_string(what.cpus)},
                  {"kernel", what.kernel},
                  {"load generator", fmt::format("{} late at p99", ms(facts.generator_lag))}};
    const auto& seen = run_.history.machine;
    if (!seen.empty()) {
      const auto size = [](std::uint64_t bytes) {
        return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1ULL << 30));
      };
      const auto least = std::ranges::min(seen, {}, &MachineSample::memory_available);
      const auto room = std::ranges::min(seen, {}, &MachineSample::disk_available);
      const auto [low, high] = std::ranges::minmax(seen, {}, &MachineSample::load);
      table.rows.push_back(
          {"memory", fmt::format("{}, of which at least {} were available; a run "
                                 "ends below {}",
                                 size(least.memory_total), size(least.memory_available),
                                 format_bytes(run_.scenario.host.memory))});
      table.rows.push_back(
          {"disk", fmt::format("at least {} free; a run ends below {}", size(room.disk_available),
                               format_bytes(run_.scenario.host.disk))});
      table.rows.push_back(
          {"load average, 1 min", fmt::format("{:.2f} to {:.2f}", low.load, high.load)});
    }
    page_.table(table);
  }

  void faults() {
    page_.section("Faults, their proof, and the way back",
                  "A fault without proof makes the run INVALID, never PASS. `at most` is what "
                  "arithmetic allows it to cost: the calls in its reach while it was about.");
    report::Table table{
        .head = {"fault", "class", "target", "bit", "proof", "undone", "lost", "at most"}};
    for (const FaultEvent& fault : run_.history.faults) {
      std::string targets;
      for (const WorkerRef& worker : fault.targets) {
        targets +=
            fmt::format("{}{}.{}", targets.empty() ? "" : ", ", worker.slot, worker.generation);
      }
      const FaultClass* kind = find_fault_class(fault.fault_class);
      const bool lasts = kind != nullptr && kind->lasts;
      const auto account = judgement_.losses.by_fault.find(fault.id);
      const bool known = account != judgement_.losses.by_fault.end();
      table.rows.push_back(
          {fault.id + (fault.round > 0 ? fmt::format(" #{}", fault.round + 1) : ""),
           fault.fault_class,
           targets.empty() ? "pool" : targets,
           {fault.bit ? "yes" : "no", fault.bit ? Tone::kGood : Tone::kBad},
           fault.proof.empty() ? "none" : fault.proof,
           !lasts ? Cell("–", Tone::kMuted)
                  : Cell(fault.undone ? "yes" : "no", fault.undone ? Tone::kGood : Tone::kBad),
           number(known ? std::to_string(account->second.observed) : "0"),
           number(known ? std::to_string(account->second.bound) : "0")});
    }
    page_.table(table);
    page_.figure(figures_.ladders(), "The ladder back.");
    rungs();
  }

  void rungs() {
    std::set<std::string> known;
    for (const Ladder& ladder : judgement_.ladders) {
      for (const auto& [rung, at] : ladder.rungs) known.insert(rung);
    }
    if (known.empty()) return;
    std::vector<std::string> names;  // in the order in which they are climbed
    for (const char* rung :
         {"detect", "contain", "typed", "respawn", "capacity", "service", "drained", "clean"}) {
      if (known.contains(rung)) names.emplace_back(rung);
    }
    report::Table table{.head = {"fault"}};
    for (const std::string& name : names) table.head.push_back(name + ", ms");
    for (const Ladder& ladder : judgement_.ladders) {
      std::vector<Cell> row = {
          Cell(ladder.fault + (ladder.round > 0 ? fmt::format(" #{}", ladder.round + 1) : ""))};
      for (const std::string& name : names) row.push_back(rung_cell(ladder, name));
      table.rows.push_back(std::move(row));
    }
    page_.table(table);
    std::string promised;
    for (const auto& [rung, limit] : run_.scenario.after.deadlines) {
      promised +=
          fmt::format("{}{} {}", promised.empty() ? "" : ", ", rung, format_duration(limit));
    }
    page_.paragraph(fmt::format("Promised: all of it within {}{}{}.",
                                format_duration(run_.scenario.after.within),
                                promised.empty() ? "" : "; ", promised));
  }

  Cell rung_cell(const Ladder& ladder, const std::string& name) const {
    const auto found =
        std::ranges::find(ladder.rungs, name, [](const auto& rung) { return rung.first; });
    if (found == ladder.rungs.end()) return number("–", Tone::kMuted);
    if (!found->second) return number("never", Tone::kBad);
    const auto limit = run_.scenario.after.deadlines.find(name);
    const bool late =
        limit != run_.scenario.after.deadlines.end() && *found->second > limit->second;
    return number(fmt::format("{:.1f}", milliseconds(*found->second)),
                  late ? Tone::kBad : Tone::kPlain);
  }

  void workers() {
    page_.section("Workers and sessions",
                  "Each slot's generations over the run, and where the busiest sessions lived. A "
                  "stroke is a call that was not ok.");
    if (run_.scenario.settings.pool.scales()) {
      page_.figure(figures_.size(), "The size of the pool follows the load.");
    }
    page_.figure(figures_.slots(), "Slots. `.7` is generation 7.");
    page_.figure(
        figures_.sessions(),
        fmt::format("The {} busiest of {} sessions, coloured by slot; a new ribbon is a new "
                    "home or a new birth.",
                    std::min(Figures::kSessionsShown, figures_.sessions_total()),
                    figures_.sessions_total()));
    crowds();
    deaths();
  }

  // Of runs in which workers ran many calls at once.
  void crowds() {
    const std::vector<Crowd>& all = judgement_.metrics.crowds;
    if (most_at_once(all) < 2) return;
    page_.figure(figures_.crowds(),
                 fmt::format("Calls at once in each slot's worker; at most {}. Event loops were "
                             "blocked {} times.",
                             most_at_once(all), run_.history.facts.loop_blocks));
  }

  void deaths() {
    report::Table table{.head = {"worker", "ended", "cause", "culprit", "bystanders", "suspects",
                                 "without a role"}};
    for (const WorkerDeath& death : deaths_of(run_.history)) {
      if (table.rows.size() >= kListed) break;
      const CallEvent* culprit = culprit_of(death, run_.history);
      table.rows.push_back({to_string(death.worker),
                            number(fmt::format("{:.3f} s", seconds(death.at))), death.cause,
                            culprit != nullptr ? describe(*culprit) : std::string("not known"),
                            count(death.bystanders.size()), count(death.suspects.size()),
                            count(death.alone.size())});
    }
    if (table.rows.empty()) return;
    page_.paragraph(
        "Workers whose end callers heard of, and what their calls were to it. A call that ran "
        "again and ended well does not count here; one without a role ran alone, or had not "
        "begun.");
    page_.table(table);
  }

  // ---- losses

  std::string phase_of(const CallEvent& call) const {
    const Phases& phases = run_.plan.phases;
    if (call.origin != "load") return "4 " + call.origin;
    return call.planned < phases.faults     ? "1 baseline"
           : call.planned < phases.recovery ? "2 during"
                                            : "3 after";
  }

  void losses() {
    page_.section("Losses", "Every call that was not ok, and the fault that explains it.");
    page_.paragraph(fmt::format(
        "Explained by the target on their path: {}; by missing capacity: "
        "{}; unexplained: {}.",
        judgement_.losses.primary, judgement_.losses.secondary, judgement_.losses.unexplained));
    matrix();
    report::Table table{.head = {"at", "call", "outcome", "explained by", "message"},
                        .empty = "no call of the load was lost"};
    auto sorted = judgement_.losses.all;
    std::ranges::stable_sort(sorted, [](const Loss& a, const Loss& b) { return a.how > b.how; });
    for (const Loss& loss : sorted) {
      if (table.rows.size() >= kListed) break;
      const CallEvent& call = run_.history.calls.at(loss.call);
      const bool unexplained = loss.how == Explanation::kUnexplained;
      table.rows.push_back(
          {number(fmt::format("{:.3f} s", seconds(call.planned))),
           fmt::format("{} {}{}", call.index, call.function,
                       call.session.empty() ? "" : " in " + call.session),
           outcome_of(call),
           {unexplained ? "nothing" : loss.fault, unexplained ? Tone::kBad : Tone::kPlain},
           call.message});
    }
    page_.table(table);
    if (sorted.size() > kListed) {
      page_.paragraph(fmt::format("{} more in events.jsonl.", sorted.size() - kListed));
    }
  }

  static std::string outcome_of(const CallEvent& call) {
    if (!call.finished()) return "none";
    const std::string kind(to_string(call.kind));
    return call.death_role.empty() ? kind : fmt::format("{}, {}", kind, call.death_role);
  }

  // Phase and explanation against outcome.
  void matrix() {
    std::map<std::pair<std::string, std::string>, std::map<std::string, std::uint64_t>> rows;
    std::set<std::string> outcomes;
    for (const Loss& loss : judgement_.losses.all) {
      const CallEvent& call = run_.history.calls.at(loss.call);
      const std::string kind(call.finished() ? to_string(call.kind) : "no outcome");
      const std::string by = loss.how == Explanation::kUnexplained ? "nothing"
                             : loss.how == Explanation::kSecondary
                                 ? loss.fault + ", for want of capacity"
                                 : loss.fault;
      ++rows[{phase_of(call), by}][kind];
      outcomes.insert(kind);
    }
    if (rows.empty()) return;
    report::Table table{.head = {"phase", "explained by"}};
    for (const std::string& kind : outcomes) table.head.push_back(kind);
    for (const auto& [key, counts] : rows) {
      std::vector<Cell> row = {Cell(key.first.substr(2)),
                               {key.second, key.second == "nothing" ? Tone::kBad : Tone::kPlain}};
      for (const std::string& kind : outcomes) {
        const auto found = counts.find(kind);
        row.push_back(count(found == counts.end() ? 0 : found->second));
      }
      table.rows.push_back(std::move(row));
    }
    page_.table(table);
  }

  // ---- what the three ledgers say of each other

  void ledgers() {
    page_.section("Ledgers",
                  "Callers, pool and workers each kept their own account. They must agree.");
    std::map<std::string, std::map<std::string, std::uint64_t>> callers;  // outcome, origin
    std::set<std::string> origins;
    std::uint64_t sent = 0, ended = 0;
    for (const CallEvent& call : run_.history.calls) {
      if (call.call == 0) continue;
      ++sent;
      ended += call.outcomes;
      const bool tool = call.origin != "load" && call.origin != "probe" &&
                        call.origin != "verify" && call.origin != "trial";
      const std::string origin = tool ? "faults" : call.origin;
      origins.insert(origin);
      ++callers[call.finished() ? std::string(to_string(call.kind)) : "no outcome"][origin];
    }
    report::Table table{.head = {"outcome"}};
    for (const std::string& origin : origins) table.head.push_back(origin);
    for (const char* name : {"callers", "pool", ""}) table.head.emplace_back(name);
    for (const auto& [kind, by_origin] : callers) {
      std::vector<Cell> row = {Cell(kind)};
      std::uint64_t total = 0;
      for (const std::string& origin : origins) {
        const auto found = by_origin.find(origin);
        const std::uint64_t n = found == by_origin.end() ? 0 : found->second;
        total += n;
        row.push_back(count(n));
      }
      const auto pool = run_.history.facts.outcomes.find(kind);
      const std::uint64_t said = pool == run_.history.facts.outcomes.end() ? 0 : pool->second;
      row.push_back(number(std::to_string(total)));
      row.push_back(number(std::to_string(said)));
      row.push_back(total == said ? Cell("agree", Tone::kGood)
                                  : Cell(fmt::format("differ by {}",
                                                     total > said ? total - said : said - total),
                                         Tone::kBad));
      table.rows.push_back(std::move(row));
    }
    page_.table(table);
    page_.paragraph(
        fmt::format("Callers sent {} calls and heard {} outcomes; the pool accepted {}. "
                    "{}",
                    sent, ended, run_.history.facts.accepted, effects()));
  }

  std::string effects() const {
    if (!run_.history.facts.effects_known) return "Workers keep no ledger on this backend.";
    std::map<std::uint64_t, std::uint64_t> ran;
    for (const EffectEvent& effect : run_.history.effects) ++ran[effect.call];
    std::uint64_t none = 0, once = 0, more = 0;
    for (const CallEvent& call : run_.history.calls) {
      if (call.call == 0) continue;
      const auto found = ran.find(call.call);
      const std::uint64_t n = found == ran.end() ? 0 : found->second;
      ++(n == 0 ? none : n == 1 ? once : more);
    }
    return fmt::format(
        "By what workers wrote before each function began, {} of them never ran, {} ran once, {} "
        "more than once.",
        none, once, more);
  }

  void invariants() {
    page_.section("Invariants",
                  "Checked on the recorded history; `keelback chaos judge` checks it again.");
    report::Table table{.head = {"", "invariant", "status", "looked at", "witness"}};
    for (const CheckResult& result : judgement_.invariants) {
      const Invariant* known = find_invariant(result.id);
      table.rows.push_back({result.id,
                            known == nullptr ? "" : std::string(known->sentence),
                            {std::string(to_string(result.status)), tone_of(result.status)},
                            count(result.looked_at),
                            result.witness});
    }
    page_.table(table);
  }

  void application() {
    if (run_.history.functions.empty()) return;
    page_.section("The application",
                  "What a trial before the run, without any fault, has shown of each function.");
    report::Table table{.head = {"function", "called", "usual", "sessions are apart",
                                 "ends at its deadline", "keeps a call"}};
    for (const AppFunction& each : run_.history.functions) {
      const bool leaks = each.bytes_per_call > (128 << 10) || each.descriptors_per_call > 0.5 ||
                         each.threads_per_call > 0.5;
      const std::string keeps =
          each.growth_calls == 0
              ? "not measured"
              : fmt::format("{:.0f} KiB, {:.0f} files, {:.0f} threads", each.bytes_per_call / 1024,
                            each.descriptors_per_call, each.threads_per_call);
      table.rows.push_back(
          {each.name,
           {each.called ? (each.stateless && each.in_session ? "in sessions and without"
                           : each.in_session                 ? "in sessions"
                                                             : "without sessions")
                        : "no: " + each.why_not,
            each.called ? Tone::kPlain : Tone::kMuted},
           number(each.called ? ms(each.usual) : ""),
           answer(each.isolation, "holds", {"shared", "outlives"}),
           answer(each.stops, "stops", {"killed"}),
           {keeps, leaks ? Tone::kBad : Tone::kPlain}});
    }
    page_.table(table);
    const RunFacts& facts = run_.history.facts;
    page_.paragraph(fmt::format("Started by {}{}; its import took {:.2f} s.", facts.start_mode,
                                facts.start_reason.empty() ? "" : " (" + facts.start_reason + ")",
                                facts.import_s));
  }

  static Cell answer(const std::string& said, std::string_view good,
                     std::initializer_list<std::string_view> bad) {
    if (said.empty()) return {"not tried", Tone::kMuted};
    if (said == good) return {"yes", Tone::kGood};
    for (const std::string_view each : bad) {
      if (said == each) return {"no: " + said, Tone::kBad};
    }
    return {said, Tone::kMuted};
  }

  void latency() {
    page_.section("Latency of every call");
    page_.figure(figures_.heat(), "Darker is more calls.");
  }

  void untested() {
    page_.section("Not tested", "What this run says nothing about.");
    report::Table table{.head = {"what", "why"}};
    for (const NotTested& each : judgement_.not_tested) table.rows.push_back({each.what, each.why});
    page_.table(table);
  }

  void again() {
    page_.section("Again", "The plan is a file: the same command gives the same calls and faults.");
    page_.code(repro(run_));
    page_.paragraph(
        "From this directory: `keelback chaos replay DIR` plays its plan again, `keelback chaos "
        "judge DIR` judges its history again without running anything.");
    page_.paragraph(
        fmt::format("Plan {:016x}; one seed gives one plan, byte for byte{}.", hash(run_.plan),
                    run_.plan.backend == Backend::kSim
                        ? fmt::format(", and here one history too (trace {:016x})",
                                      run_.history.facts.trace_hash)
                        : "; what real processes make of it may differ from run to run"));
  }

  const RunResult& run_;
  const Judgement& judgement_;
  const Figures figures_;
  report::Page page_;
};

}  // namespace

std::string report_html(const RunResult& result) { return Html(result).make(); }

}  // namespace keelback::chaos
