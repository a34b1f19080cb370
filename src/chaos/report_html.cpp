// report.html: what happened, over one time axis, and why the verdict is what it is.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/settings_text.h"
#include "chaos/report.h"
#include "report/chart.h"
#include "report/page.h"

namespace keelback::chaos {
namespace {

using report::Cell;
using report::Tone;

constexpr std::size_t kSessionsShown = 24;
constexpr std::size_t kListed = 100;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
Cell number(std::string text, Tone tone = Tone::kPlain) { return {std::move(text), tone, true}; }
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

class Html {
 public:
  explicit Html(const RunResult& result)
      : run_(result),
        judgement_(result.judgement),
        page_("Chaos: " + result.plan.name, result.scenario.why) {}

  std::string make() {
    banner();
    curve();
    faults();
    slots();
    sessions();
    outcomes();
    losses();
    invariants();
    heat();
    untested();
    again();
    return page_.html();
  }

 private:
  void banner() {
    page_.banner(tone_of(judgement_.verdict), to_string(judgement_.verdict), judgement_.why,
                 {{"scenario", run_.plan.name},
                  {"backend", std::string(setting_name(run_.plan.backend))},
                  {"level", std::string(to_string(run_.plan.level))},
                  {"seed", std::to_string(run_.plan.seed)},
                  {"application", run_.plan.app.empty() ? "the laboratory's own" : run_.plan.app},
                  {"unexplained losses", std::to_string(judgement_.losses.unexplained)},
                  {"verification",
                   fmt::format("{} of {}", judgement_.verified, judgement_.verify_offered)},
                  {"service back", judgement_.service ? "after " + ms(*judgement_.service)
                                                      : std::string("never")}});
    for (std::size_t i = 1; i < judgement_.reasons.size(); ++i) {
      page_.note(tone_of(judgement_.reasons[i].verdict),
                 fmt::format("{}: {}", to_string(judgement_.reasons[i].verdict),
                             judgement_.reasons[i].text));
    }
    for (const std::string& advice : judgement_.advice) page_.note(Tone::kWarn, advice);
  }

  std::vector<report::Shade> shades() const {
    std::vector<report::Shade> out;
    for (const FaultEvent& fault : run_.history.faults) {
      const Duration from = fault.bit ? fault.bite : fault.fired;
      const Duration to = fault.undone ? std::max(fault.undo, from) : from;
      out.push_back({seconds(from), std::max(seconds(to), seconds(from) + 0.02),
                     fmt::format("{} {}", fault.id, fault.fault_class)});
    }
    return out;
  }
  std::vector<report::Mark> marks() const {
    const Phases& phases = run_.plan.phases;
    std::vector<report::Mark> out = {{seconds(phases.baseline), "baseline"},
                                     {seconds(phases.faults), "faults"},
                                     {seconds(phases.recovery), "recovery"}};
    return out;
  }

  void curve() {
    page_.section("Degradation",
                  "Calls by the time at which they were due: what a user would have seen. Shaded: "
                  "faults.");
    report::Chart chart;
    chart.x.label = "seconds";
    chart.y.label = "calls a second";
    chart.stacked = true;
    report::Series good{.name = "ok", .colour = 2, .kind = report::Series::Kind::kArea};
    report::Series explained{.name = "explained", .colour = 1, .kind = report::Series::Kind::kArea};
    report::Series bad{.name = "unexplained", .colour = 3, .kind = report::Series::Kind::kArea};
    report::Chart latency;
    latency.x.label = "seconds";
    latency.y = {.label = "p99, ms", .scale = report::Scale::kLog};
    report::Series p99{.name = "p99", .colour = 0, .kind = report::Series::Kind::kLine};
    report::Chart share;
    share.x.label = "seconds";
    share.y = {.label = "% ok", .low = 0, .high = 100};
    report::Series all{.name = "all", .colour = 0, .kind = report::Series::Kind::kLine};
    report::Series control{.name = "untouched workers", .colour = 2,
                           .kind = report::Series::Kind::kLine};
    const double width = seconds(judgement_.series.width);
    for (const Bin& bin : judgement_.series.bins) {
      const double x = seconds(bin.at);
      good.points.emplace_back(x, bin.good / width);
      explained.points.emplace_back(x, bin.explained / width);
      bad.points.emplace_back(x, bin.unexplained / width);
      if (bin.p99 > Duration{0}) p99.points.emplace_back(x, milliseconds(bin.p99));
      if (bin.offered > 0) all.points.emplace_back(x, 100.0 * bin.good / bin.offered);
      if (bin.control_offered > 0) {
        control.points.emplace_back(x, 100.0 * bin.control_good / bin.control_offered);
      }
    }
    chart.series = {good, explained, bad};
    latency.series = {p99};
    share.series = {all};
    if (!control.points.empty()) share.series.push_back(control);
    for (report::Chart* each : {&chart, &latency, &share}) {
      each->shades = shades();
      each->marks = marks();
      each->height = 200;
    }
    page_.figure(report::draw(chart), "What became of the calls that were due.");
    page_.figure(report::draw(share),
                 fmt::format("Share of ok. Depth {:.0f} %, lost {:.2f} outage-seconds before the "
                             "recovery phase and {:.2f} after it.",
                             100 * judgement_.shape.depth, judgement_.shape.area_during,
                             judgement_.shape.area_after));
    page_.figure(report::draw(latency), "Latency from the planned time.");
    report::Table table{.head = {"phase", "offered", "ok", "success", "p50", "p99", "p99.9"},
                        .rows = {}};
    const std::pair<const char*, const PhaseStats*> phases[] = {{"baseline", &judgement_.baseline},
                                                                {"during", &judgement_.during},
                                                                {"after", &judgement_.after}};
    for (const auto& [name, stats] : phases) {
      table.rows.push_back({name, number(std::to_string(stats->offered)),
                            number(std::to_string(stats->ok)),
                            number(fmt::format("{:.2f} %", 100 * stats->success())),
                            number(ms(stats->p50)), number(ms(stats->p99)),
                            number(ms(stats->p999))});
    }
    page_.table(table);
  }

  void faults() {
    page_.section("Faults, their proof, and the way back",
                  "A fault without proof makes the run INVALID. Times are from the bite; capacity, "
                  "service and drained of a fault that lasts are from its undoing.");
    report::Table table{.head = {"fault", "class", "target", "bit", "proof", "ladder", "lost",
                                 "at most"},
                        .rows = {}};
    for (std::size_t i = 0; i < run_.history.faults.size(); ++i) {
      const FaultEvent& fault = run_.history.faults[i];
      std::string targets, rungs;
      for (const WorkerRef& worker : fault.targets) {
        targets += fmt::format("{}{}.{}", targets.empty() ? "" : ", ", worker.slot,
                               worker.generation);
      }
      for (const auto& [rung, at] : judgement_.ladders[i].rungs) {
        rungs += fmt::format("{}{} {}", rungs.empty() ? "" : ", ", rung, at ? ms(*at) : "never");
      }
      const auto account = judgement_.losses.by_fault.find(fault.id);
      const bool known = account != judgement_.losses.by_fault.end();
      table.rows.push_back({fault.id, fault.fault_class, targets.empty() ? "pool" : targets,
                            {fault.bit ? "yes" : "no", fault.bit ? Tone::kGood : Tone::kBad},
                            fault.proof, rungs,
                            number(known ? std::to_string(account->second.observed) : "0"),
                            number(known ? std::to_string(account->second.bound) : "0")});
    }
    page_.table(table);
  }

  void slots() {
    page_.section("Workers", "Each slot's generations: starting, up, suspect, draining.");
    report::Lanes lanes;
    lanes.x.label = "seconds";
    lanes.legend = {{"starting", 1}, {"up", 2}, {"suspect", 3}, {"draining", 4}};
    std::map<std::uint32_t, report::Lane> by_slot;
    struct Open {
      Duration at{0};
      std::string state;
      WorkerRef worker;
    };
    std::map<std::uint32_t, Open> open;
    const auto close = [&](const Open& from, Duration to) {
      const int colour = from.state == "starting"   ? 1
                         : from.state == "ready"    ? 2
                         : from.state == "suspect"  ? 3
                                                    : 4;
      report::Lane& lane = by_slot[from.worker.slot];
      lane.name = fmt::format("slot {}", from.worker.slot);
      lane.spans.push_back({seconds(from.at), seconds(to), colour,
                            fmt::format("{} {}", describe(from.worker), from.state)});
    };
    for (const WorkerEvent& event : run_.history.workers) {
      const auto found = open.find(event.worker.generation);
      if (found != open.end()) close(found->second, event.at);
      if (event.what == "gone") {
        open.erase(event.worker.generation);
      } else {
        open[event.worker.generation] = {
            event.at, event.what == "seen" ? std::string("starting") : event.what, event.worker};
      }
    }
    for (const auto& [generation, from] : open) {
      close(from, std::max(run_.plan.phases.end, from.at));
    }
    for (auto& [slot, lane] : by_slot) lanes.lanes.push_back(std::move(lane));
    lanes.shades = shades();
    lanes.marks = marks();
    page_.figure(report::draw(lanes), "Workers over the run.");
  }

  void sessions() {
    page_.section("Sessions", "Where each session lived, by its replies; coloured by slot.");
    std::map<std::string, std::vector<const CallEvent*>> replies;
    for (const CallEvent& call : run_.history.calls) {
      if (call.ok() && !call.session.empty()) replies[call.session].push_back(&call);
    }
    std::vector<std::pair<std::size_t, std::string>> order;
    for (const auto& [session, calls] : replies) order.emplace_back(calls.size(), session);
    std::ranges::sort(order, std::greater<>());
    report::Lanes lanes;
    lanes.x.label = "seconds";
    for (std::size_t i = 0; i < std::min(order.size(), kSessionsShown); ++i) {
      auto& calls = replies[order[i].second];
      std::ranges::stable_sort(calls, {}, &CallEvent::done);
      report::Lane lane{.name = order[i].second, .spans = {}, .ticks = {}};
      for (std::size_t k = 0; k < calls.size();) {
        std::size_t last = k;
        while (last + 1 < calls.size() && calls[last + 1]->worker == calls[k]->worker &&
               calls[last + 1]->birth == calls[k]->birth) {
          ++last;
        }
        lane.spans.push_back({seconds(calls[k]->sent), seconds(calls[last]->done),
                              static_cast<int>(calls[k]->worker.slot % 8),
                              fmt::format("{} birth {:x} epoch {}", describe(calls[k]->worker),
                                          calls[k]->birth, calls[k]->epoch)});
        k = last + 1;
      }
      lanes.lanes.push_back(std::move(lane));
    }
    lanes.shades = shades();
    lanes.marks = marks();
    page_.figure(report::draw(lanes), fmt::format("The {} busiest of {} sessions.",
                                                  lanes.lanes.size(), replies.size()));
  }

  void outcomes() {
    page_.section("Outcomes", "By origin of the call; a fault's own calls are its tools.");
    std::map<std::string, std::map<std::string, std::uint64_t>> matrix;
    std::set<std::string> columns;
    for (const CallEvent& call : run_.history.calls) {
      const std::string kind = call.finished() ? std::string(to_string(call.kind)) : "no outcome";
      ++matrix[call.origin][kind];
      columns.insert(kind);
    }
    report::Table table{.head = {"calls of"}, .rows = {}};
    for (const std::string& column : columns) table.head.push_back(column);
    for (const auto& [origin, kinds] : matrix) {
      std::vector<Cell> row = {Cell(origin)};
      for (const std::string& column : columns) {
        const auto found = kinds.find(column);
        row.push_back(number(found == kinds.end() ? "" : std::to_string(found->second)));
      }
      table.rows.push_back(std::move(row));
    }
    page_.table(table);
    const RunFacts& facts = run_.history.facts;
    std::uint64_t ended = 0;
    for (const CallEvent& call : run_.history.calls) ended += call.outcomes;
    page_.paragraph(fmt::format("Ledgers: clients sent {} calls and got {} outcomes; the pool "
                                "counted {}; workers wrote {} effects{}.",
                                run_.history.calls.size(), ended, facts.accepted,
                                run_.history.effects.size(),
                                facts.effects_known ? "" : " (no ledger on this backend)"));
  }

  void losses() {
    page_.section("Losses", "Every call that was not ok, and the fault that explains it.");
    page_.paragraph(fmt::format("Explained by the target on their path: {}; by missing capacity: "
                                "{}; unexplained: {}.",
                                judgement_.losses.primary, judgement_.losses.secondary,
                                judgement_.losses.unexplained));
    report::Table table{.head = {"at", "call", "outcome", "explained by", "message"},
                        .rows = {},
                        .empty = "no call of the load was lost"};
    auto sorted = judgement_.losses.all;
    std::ranges::stable_sort(sorted, [](const Loss& a, const Loss& b) { return a.how > b.how; });
    for (const Loss& loss : sorted) {
      if (table.rows.size() >= kListed) break;
      const CallEvent& call = run_.history.calls.at(loss.call);
      const bool unexplained = loss.how == Explanation::kUnexplained;
      table.rows.push_back({number(fmt::format("{:.3f} s", seconds(call.planned))), describe(call),
                            std::string(call.finished() ? to_string(call.kind) : "none"),
                            {unexplained ? "nothing" : loss.fault,
                             unexplained ? Tone::kBad : Tone::kPlain},
                            call.message});
    }
    page_.table(table);
    if (sorted.size() > kListed) {
      page_.paragraph(fmt::format("{} more in events.jsonl.", sorted.size() - kListed));
    }
  }

  void invariants() {
    page_.section("Invariants");
    report::Table table{.head = {"", "invariant", "status", "looked at", "witness"}, .rows = {}};
    for (const CheckResult& result : judgement_.invariants) {
      std::string sentence;
      for (const Invariant& known : chaos::invariants()) {
        if (known.id == result.id) sentence = known.sentence;
      }
      const Tone tone = result.status == Status::kHolds     ? Tone::kGood
                        : result.status == Status::kVacuous ? Tone::kMuted
                                                            : Tone::kBad;
      table.rows.push_back({result.id, sentence, {std::string(to_string(result.status)), tone},
                            number(std::to_string(result.looked_at)), result.witness});
    }
    page_.table(table);
  }

  void heat() {
    page_.section("Latency of every call");
    report::Heat heat;
    heat.x.label = "seconds";
    heat.y.label = "ms";
    heat.x_step = std::max(0.05, seconds(run_.plan.phases.end) / 150);
    for (const CallEvent& call : run_.history.calls) {
      if (call.origin != "load" || !call.finished()) continue;
      heat.points.emplace_back(seconds(call.planned),
                               std::max(0.01, milliseconds(call.done - call.planned)));
    }
    heat.shades = shades();
    page_.figure(report::draw(heat), "By planned time; darker is more calls.");
  }

  void untested() {
    page_.section("Not tested", "What this run says nothing about.");
    report::Table table{.head = {"what", "why"}, .rows = {}};
    for (const NotTested& each : judgement_.not_tested) table.rows.push_back({each.what, each.why});
    page_.table(table);
  }

  void again() {
    page_.section("Again");
    page_.paragraph("The plan is a file: the same command gives the same calls and faults.");
    page_.code(repro(run_));
    page_.paragraph(fmt::format("Plan {:016x}; determinism: the plan is byte-identical for one "
                                "seed{}.",
                                hash(run_.plan),
                                run_.plan.backend == Backend::kSim
                                    ? fmt::format(", and so is the run (trace {:016x})",
                                                  run_.history.facts.trace_hash)
                                    : ""));
  }

  const RunResult& run_;
  const Judgement& judgement_;
  report::Page page_;
};

}  // namespace

std::string report_html(const RunResult& result) { return Html(result).make(); }

}  // namespace keelback::chaos
