#include "chaos/report_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "report/chart.h"

namespace keelback::chaos {
namespace {

using report::Mark;
using report::Shade;

// Colours that mean something, everywhere in the report.
constexpr double kOnePoint = 1.25;  // on the ladder's logarithmic scale: a tenth of a decade
struct Colour {
  static constexpr int kOk = 2, kExplained = 1, kUnexplained = 6, kLine = 0, kQuiet = 7;
};
constexpr int kStarting = 4, kUp = 2, kUpNext = 5, kSuspect = 1, kDraining = 3;

std::string fault_name(const FaultEvent& fault) {
  return fault.round == 0 ? fault.id : fmt::format("{} #{}", fault.id, fault.round + 1);
}

std::vector<Shade> shades(const RunResult& run, bool named) {
  std::vector<Shade> out;
  for (const FaultEvent& fault : run.history.faults) {
    const Duration from = fault.bit ? fault.bite : fault.fired;
    const Duration to = fault.undone ? std::max(fault.undo, from) : from;
    out.push_back({seconds(from), seconds(to), named && fault.round == 0 ? fault.id : ""});
  }
  return out;
}

std::vector<Mark> phases(const RunResult& run, bool named) {
  const Phases& phases = run.plan.phases;
  return {{seconds(phases.baseline), named ? "baseline" : ""},
          {seconds(phases.faults), named ? "faults" : ""},
          {seconds(phases.recovery), named ? "recovery" : ""}};
}

struct WorkerSpan {
  WorkerRef worker;
  std::string state;
  Duration from{0}, to{0};
};

std::vector<WorkerSpan> spans_of(const History& history, Duration end) {
  std::vector<WorkerSpan> out;
  std::map<std::uint32_t, WorkerSpan> open;
  for (const WorkerEvent& event : history.workers) {
    const auto found = open.find(event.worker.generation);
    if (found != open.end()) {
      found->second.to = event.at;
      out.push_back(found->second);
    }
    if (event.what == "gone") {
      open.erase(event.worker.generation);
    } else {
      open[event.worker.generation] = {event.worker, event.what == "seen" ? "starting" : event.what,
                                       event.at, end};
    }
  }
  for (const auto& [generation, span] : open) out.push_back(span);
  return out;
}

}  // namespace

double Figures::end() const { return seconds(run_.plan.phases.end); }

report::Chart Figures::over_time(report::Axis y, int height) const {
  return {.x = {.label = "seconds", .low = 0, .high = end()},
          .y = std::move(y),
          .shades = shades(run_, false),
          .marks = phases(run_, false),
          .height = height};
}

report::Lanes Figures::lanes_over_time() const {
  return {.x = {.label = "seconds", .low = 0, .high = end()},
          .shades = shades(run_, false),
          .marks = phases(run_, false)};
}

std::string Figures::curve() const {
  report::Chart chart = over_time({.label = "calls a second, by the time they were due"}, 230);
  chart.stacked = true;
  report::Series good{.name = "ok", .colour = Colour::kOk, .kind = report::Series::Kind::kArea};
  report::Series told{
      .name = "explained", .colour = Colour::kExplained, .kind = report::Series::Kind::kArea};
  report::Series bad{
      .name = "unexplained", .colour = Colour::kUnexplained, .kind = report::Series::Kind::kArea};
  const auto& series = run_.judgement.series;
  const double width = std::max(seconds(series.width), 1e-9);
  for (const Bin& bin : series.bins) {
    const double x = seconds(bin.at) + width / 2;
    if (seconds(bin.at) + width > end()) break;  // the last one is not whole
    good.points.emplace_back(x, bin.good / width);
    told.points.emplace_back(x, bin.explained / width);
    bad.points.emplace_back(x, bin.unexplained / width);
  }
  chart.series = {good, told, bad};
  chart.shades = shades(run_, true);
  chart.marks = phases(run_, true);
  return report::draw(chart);
}

std::string Figures::faults() const {
  report::Lanes lanes = lanes_over_time();
  lanes.legend = {{"fired, not yet biting", kStarting},
                  {"in force", Colour::kUnexplained},
                  {"until the service was back", Colour::kQuiet}};
  for (std::size_t i = 0; i < run_.history.faults.size(); ++i) {
    const FaultEvent& fault = run_.history.faults[i];
    report::Lane lane{.name = fault_name(fault)};
    const Duration bite = fault.bit ? fault.bite : fault.fired;
    const Duration over = fault.undone ? std::max(fault.undo, bite) : bite;
    if (bite > fault.fired) {
      lane.spans.push_back({seconds(fault.fired), seconds(bite), kStarting, "fired", ""});
    }
    lane.spans.push_back({seconds(bite), std::max(seconds(over), seconds(bite) + end() / 400),
                          Colour::kUnexplained, fault.proof, fault.fault_class});
    for (const auto& [rung, after] : run_.judgement.ladders[i].rungs) {
      if (!after) continue;
      const bool from_undo = rung == "capacity" || rung == "service" || rung == "drained";
      const Duration at = (from_undo ? over : bite) + *after;
      lane.ticks.push_back(seconds(at));
      if (rung == "service" && at > over) {
        lane.spans.push_back({seconds(over), seconds(at), Colour::kQuiet, "service was back", ""});
      }
    }
    lanes.lanes.push_back(std::move(lane));
  }
  lanes.shades.clear();  // the spans say it
  return report::draw(lanes);
}

std::string Figures::share() const {
  report::Chart chart = over_time({.label = "% ok", .low = 0, .high = 100});
  report::Series all{.name = "all", .colour = Colour::kLine};
  report::Series control{.name = "sessions on untouched workers", .colour = Colour::kOk};
  const auto& series = run_.judgement.series;
  for (const Bin& bin : series.bins) {
    const double x = seconds(bin.at) + seconds(series.width) / 2;
    if (bin.offered > 0) all.points.emplace_back(x, 100.0 * bin.good / bin.offered);
    if (bin.control_offered > 0) {
      control.points.emplace_back(x, 100.0 * bin.control_good / bin.control_offered);
    }
  }
  chart.series = {all};
  if (!control.points.empty()) chart.series.push_back(control);
  return report::draw(chart);
}

std::string Figures::latency() const {
  report::Chart chart =
      over_time({.label = "p99 from the planned time, ms", .scale = report::Scale::kLog});
  report::Series p99{.name = "p99", .colour = Colour::kLine};
  const auto& series = run_.judgement.series;
  for (const Bin& bin : series.bins) {
    if (bin.p99 <= Duration{0}) continue;
    p99.points.emplace_back(seconds(bin.at) + seconds(series.width) / 2, milliseconds(bin.p99));
  }
  chart.series = {p99};
  return report::draw(chart);
}

std::string Figures::size() const {
  std::map<double, int> workers, calls;  // by how much their number changes, and when
  const auto add = [this](std::map<double, int>& changes, double from, double to) {
    if (to < 0 || from > end()) return;
    ++changes[std::max(0.0, from)];
    --changes[to];
  };
  for (const WorkerSpan& span : spans_of(run_.history, run_.plan.phases.end)) {
    if (span.state != "starting") add(workers, seconds(span.from), seconds(span.to));
  }
  for (const CallEvent& call : run_.history.calls) {
    if (call.finished()) add(calls, seconds(call.sent), seconds(call.done));
  }
  const auto steps = [this](std::string name, int colour, const std::map<double, int>& changes) {
    report::Series out{
        .name = std::move(name), .colour = colour, .kind = report::Series::Kind::kSteps};
    int number = 0;
    for (const auto& [at, change] : changes) {
      number += change;
      if (at <= end()) out.points.emplace_back(at, number);
    }
    if (!out.points.empty()) out.points.emplace_back(end(), out.points.back().second);
    return out;
  };
  report::Chart chart = over_time({.label = "workers, and calls that run or wait"});
  chart.series = {steps("calls", Colour::kExplained, calls), steps("workers", kUpNext, workers)};
  return report::draw(chart);
}

std::string Figures::slots() const {
  report::Lanes lanes = lanes_over_time();
  lanes.legend = {{"starting", kStarting},
                  {"up", kUp},
                  {"its successor", kUpNext},
                  {"suspect", kSuspect},
                  {"draining", kDraining}};
  std::map<std::uint32_t, report::Lane> by_slot;
  std::map<std::uint32_t, std::vector<std::uint32_t>> order;  // generations of a slot, as they came
  for (const WorkerSpan& span : spans_of(run_.history, run_.plan.phases.end)) {
    if (seconds(span.to) < 0 || seconds(span.from) > end()) continue;
    auto& generations = order[span.worker.slot];
    if (std::ranges::find(generations, span.worker.generation) == generations.end()) {
      generations.push_back(span.worker.generation);
    }
  }
  for (auto& [slot, generations] : order) std::ranges::sort(generations);
  for (const WorkerSpan& span : spans_of(run_.history, run_.plan.phases.end)) {
    if (!order.contains(span.worker.slot)) continue;
    const auto& generations = order[span.worker.slot];
    const auto nth = std::ranges::find(generations, span.worker.generation) - generations.begin();
    const int colour = span.state == "starting"  ? kStarting
                       : span.state == "ready"   ? (nth % 2 == 0 ? kUp : kUpNext)
                       : span.state == "suspect" ? kSuspect
                                                 : kDraining;
    report::Lane& lane = by_slot[span.worker.slot];
    lane.name = fmt::format("slot {}", span.worker.slot);
    lane.spans.push_back({std::max(0.0, seconds(span.from)), std::min(end(), seconds(span.to)),
                          colour, fmt::format("{} {}", describe(span.worker), span.state),
                          span.state == "ready" ? fmt::format(".{}", span.worker.generation) : ""});
  }
  for (const CallEvent& call : run_.history.calls) {
    if (call.origin != "load" || !call.finished() || call.ok()) continue;
    const auto lane = by_slot.find(call.worker.slot);
    if (lane != by_slot.end()) lane->second.ticks.push_back(seconds(call.done));
  }
  for (auto& [slot, lane] : by_slot) lanes.lanes.push_back(std::move(lane));
  return report::draw(lanes);
}

std::string Figures::crowds() const {
  report::Chart chart = over_time({.label = "calls at once"});
  std::map<std::uint32_t, report::Series> by_slot;
  for (const CrowdEvent& event : run_.history.crowds) {
    by_slot[event.worker.slot].points.emplace_back(std::clamp(seconds(event.at), 0.0, end()),
                                                   event.calls);
  }
  for (auto& [slot, series] : by_slot) {
    series.name = fmt::format("slot {}", slot);
    series.colour = static_cast<int>(slot % 8);
    series.kind = report::Series::Kind::kSteps;
    series.points.emplace_back(end(), series.points.back().second);
    chart.series.push_back(std::move(series));
  }
  return report::draw(chart);
}

std::size_t Figures::sessions_total() const {
  std::map<std::string, int> seen;
  for (const CallEvent& call : run_.history.calls) {
    if (call.origin == "load" && call.ok() && !call.session.empty()) seen[call.session] = 1;
  }
  return seen.size();
}

std::string Figures::sessions() const {
  std::map<std::string, std::vector<const CallEvent*>> replies;
  std::map<std::string, std::vector<double>> told;
  for (const CallEvent& call : run_.history.calls) {
    if (call.origin != "load" || call.session.empty()) continue;
    if (call.ok()) replies[call.session].push_back(&call);
    if (call.finished() && !call.ok()) told[call.session].push_back(seconds(call.done));
  }
  std::vector<std::pair<std::size_t, std::string>> order;
  for (const auto& [session, calls] : replies) order.emplace_back(calls.size(), session);
  std::ranges::sort(order, std::greater<>());
  report::Lanes lanes = lanes_over_time();
  std::map<std::string, int> colours;
  for (std::size_t i = 0; i < std::min(order.size(), kSessionsShown); ++i) {
    auto& calls = replies[order[i].second];
    std::ranges::stable_sort(calls, {}, &CallEvent::done);
    report::Lane lane{.name = order[i].second, .ticks = told[order[i].second]};
    for (std::size_t k = 0; k < calls.size();) {
      std::size_t last = k;
      while (last + 1 < calls.size() && calls[last + 1]->worker == calls[k]->worker &&
             calls[last + 1]->birth == calls[k]->birth) {
        ++last;
      }
      const int colour = static_cast<int>(calls[k]->worker.slot % 8);
      colours[fmt::format("slot {}", calls[k]->worker.slot)] = colour;
      lane.spans.push_back(
          {seconds(calls[k]->sent), seconds(calls[last]->done), colour,
           fmt::format("{} birth {:x} epoch {}", describe(calls[k]->worker), calls[k]->birth,
                       calls[k]->epoch),
           fmt::format("{}.{}", calls[k]->worker.slot, calls[k]->worker.generation)});
      k = last + 1;
    }
    lanes.lanes.push_back(std::move(lane));
  }
  if (colours.size() <= 8) lanes.legend.assign(colours.begin(), colours.end());
  return report::draw(lanes);
}

std::string Figures::ladders() const {
  report::Ladders ladders{.x = {.label =
                                    "milliseconds after the bite; capacity, service, drained and "
                                    "clean of a fault that lasts: after its undoing"}};
  for (std::size_t i = 0; i < run_.history.faults.size(); ++i) {
    const FaultEvent& fault = run_.history.faults[i];
    report::Ladders::Row row{.name = fmt::format("{} {}", fault_name(fault), fault.fault_class)};
    if (!fault.bit) row.note = "it did not bite";
    std::vector<std::pair<double, std::string>> reached;
    for (const auto& [rung, at] : run_.judgement.ladders[i].rungs) {
      if (at) {
        reached.emplace_back(std::max(milliseconds(*at), 0.1), rung);
      } else {
        row.note += (row.note.empty() ? "never: " : ", ") + rung;
      }
    }
    // Rungs that are one point to the eye share their words.
    std::ranges::stable_sort(reached, {}, [](const auto& each) { return each.first; });
    for (const auto& [at, rung] : reached) {
      if (!row.points.empty() && at <= kOnePoint * row.points.back().second) {
        row.points.back().first += ", " + rung;
      } else {
        row.points.emplace_back(rung, at);
      }
    }
    ladders.rows.push_back(std::move(row));
  }
  return report::draw(ladders);
}

std::string Figures::heat() const {
  report::Heat heat{.x = {.label = "seconds", .low = 0, .high = end()},
                    .y = {.label = "latency of each call from its planned time, ms"}};
  heat.x_step = std::max(0.05, end() / 150);
  for (const CallEvent& call : run_.history.calls) {
    if (call.origin != "load" || !call.finished()) continue;
    heat.points.emplace_back(seconds(call.planned),
                             std::max(0.01, milliseconds(call.done - call.planned)));
  }
  heat.shades = shades(run_, false);
  return report::draw(heat);
}

}  // namespace keelback::chaos
