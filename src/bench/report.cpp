#include "bench/report.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "bench/metrics.h"
#include "report/chart.h"
#include "report/page.h"

namespace keelback::bench {
namespace {

using report::Cell;
using report::Tone;

double percent(double log_ratio) { return 100 * std::expm1(log_ratio); }

Tone tone_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
    case Verdict::kImproved:
      return Tone::kGood;
    case Verdict::kSlowerWithinTolerance:
      return Tone::kWarn;
    case Verdict::kRegressed:
      return Tone::kBad;
    case Verdict::kInconclusive:
      return Tone::kMuted;
  }
  return Tone::kPlain;
}

int colour_of(Verdict verdict) {
  switch (tone_of(verdict)) {
    case Tone::kGood:
      return 2;
    case Tone::kWarn:
      return 4;
    case Tone::kBad:
      return 6;
    default:
      return 7;
  }
}

// Verdict, sentence and tone of the whole run.
struct Summary {
  std::string verdict, sentence;
  Tone tone;
};
Summary summarize(const Comparison& comparison, bool strict) {
  switch (comparison.exit_code(strict)) {
    case Comparison::Exit::kVoid:
      return {"VOID", comparison.void_reasons.front(), Tone::kBad};
    case Comparison::Exit::kInconclusive:
      return {"INCONCLUSIVE", "Some gated metrics need more blocks than this profile takes.",
              Tone::kWarn};
    case Comparison::Exit::kRegressed: {
      std::string which;
      for (const MetricResult& metric : comparison.metrics) {
        if (metric.judgement.verdict != Verdict::kRegressed || !find_metric(metric.id)->gated)
          continue;
        which += fmt::format("{}{} {:+.1f} % [{:+.1f}, {:+.1f}]", which.empty() ? "" : "; ",
                             metric.id, percent(metric.judgement.effect.value),
                             percent(metric.judgement.effect.low),
                             percent(metric.judgement.effect.high));
      }
      for (const CounterResult& counter : comparison.counters) {
        if (counter.worse)
          which += fmt::format("{}{} {:g} -> {:g}", which.empty() ? "" : "; ", counter.id,
                               counter.base, counter.head);
      }
      return {"REGRESSED", which, Tone::kBad};
    }
    default:
      return {"OK",
              "No gated metric is worse than its tolerance; the control was quiet and the canary "
              "was caught where they ran.",
              Tone::kGood};
  }
}

std::string interval(const MetricResult& metric) {
  return fmt::format("{:+.2f} % [{:+.2f}, {:+.2f}]", percent(metric.judgement.effect.value),
                     percent(metric.judgement.effect.low), percent(metric.judgement.effect.high));
}

report::Forest forest_of(const std::vector<MetricResult>& metrics) {
  report::Forest forest{
      .label = "head against base in %, right is worse; green: ignored, red: beyond the tolerance",
      .rows = {}};
  for (const MetricResult& metric : metrics) {
    const Estimate& effect = metric.judgement.effect;
    forest.rows.push_back({.name = metric.id,
                           .value = percent(effect.value),
                           .low = percent(effect.low),
                           .high = percent(effect.high),
                           .ignored = 100 * metric.gate.delta_min,
                           .tolerated = 100 * metric.gate.delta_tol,
                           .colour = colour_of(metric.judgement.verdict),
                           .verdict = std::string(to_string(metric.judgement.verdict))});
  }
  return forest;
}

}  // namespace

std::string to_text(const Comparison& comparison, bool strict) {
  const Summary summary = summarize(comparison, strict);
  std::string out = fmt::format("{:<28} {:>12} {:>12}  {:<30} {}\n", "metric", "base", "head",
                                "change [95 %]", "verdict");
  for (const MetricResult& metric : comparison.metrics) {
    const Metric* row = find_metric(metric.id);
    out += fmt::format("{:<28} {:>12.2f} {:>12.2f}  {:<30} {}{}\n", metric.id, metric.base_median,
                       metric.head_median, interval(metric), to_string(metric.judgement.verdict),
                       !row->gated ? " (not gated)"
                       : metric.judgement.blocks_needed
                           ? fmt::format(" ({} blocks would do)", metric.judgement.blocks_needed)
                           : "");
  }
  for (const CounterResult& counter : comparison.counters) {
    out += fmt::format("{:<36} {:>12g} {:>12g}  {}\n", counter.id, counter.base, counter.head,
                       counter.worse ? "WORSE" : "equal");
  }
  for (const MetricResult& metric : comparison.control)
    out += fmt::format("control {:<20} {}  {}\n", metric.id, interval(metric),
                       to_string(metric.judgement.verdict));
  for (const MetricResult& metric : comparison.canary)
    out += fmt::format("canary  {:<20} {}  {}\n", metric.id, interval(metric),
                       to_string(metric.judgement.verdict));
  return out + fmt::format("\n{}: {}\n{} blocks, seed {}, {:.0f} s\n", summary.verdict,
                           summary.sentence, comparison.blocks.size(), comparison.seed,
                           std::chrono::duration<double>(comparison.took).count());
}

std::string to_html(const Comparison& comparison, const CompareOptions& options, bool strict) {
  const Summary summary = summarize(comparison, strict);
  report::Page page("Keelback performance", fmt::format("{} against {}", options.block.head_program,
                                                        options.block.base_program));
  page.banner(
      summary.tone, summary.verdict, summary.sentence,
      {{"blocks", std::to_string(comparison.blocks.size())},
       {"seed", std::to_string(comparison.seed)},
       {"processor", options.block.cpu < 0 ? "any" : std::to_string(options.block.cpu)},
       {"took", fmt::format("{:.0f} s", std::chrono::duration<double>(comparison.took).count())}});
  page.section("Metrics",
               "Each block starts a fresh pool of each program and measures both in alternation; a "
               "point is the Hodges-Lehmann estimate over blocks, a line its exact 95 % interval.");
  page.figure(draw(forest_of(comparison.metrics)), "Change of each metric");
  report::Table table{
      .head = {"metric", "what", "base", "head", "unit", "change", "verdict", "blocks"},
      .rows = {}};
  for (const MetricResult& metric : comparison.metrics) {
    const Metric* row = find_metric(metric.id);
    table.rows.push_back(
        {Cell(metric.id), Cell(std::string(row->doc)),
         Cell(fmt::format("{:.2f}", metric.base_median), Tone::kPlain, true),
         Cell(fmt::format("{:.2f}", metric.head_median), Tone::kPlain, true),
         Cell(std::string(row->unit)), Cell(interval(metric)),
         Cell(std::string(to_string(metric.judgement.verdict)) + (row->gated ? "" : " (not gated)"),
              tone_of(metric.judgement.verdict)),
         Cell(std::to_string(metric.judgement.blocks), Tone::kPlain, true)});
  }
  page.table(table);
  page.section("Whether to believe it",
               "A control of the head against itself must stay quiet, and a slowdown that the run "
               "injects itself must be caught.");
  for (const std::string& reason : comparison.void_reasons) page.note(Tone::kBad, reason);
  if (comparison.control.empty())
    page.note(
        Tone::kWarn,
        "This profile runs no control and no canary: its verdicts are for a first look only.");
  page.figure(draw(forest_of(comparison.control)), "Control: head against itself");
  if (!comparison.canary.empty()) {
    page.figure(draw(forest_of(comparison.canary)),
                fmt::format("Canary: head against itself, slowed by {:.0f} % of a call",
                            100 * comparison.canary_slowdown));
  }
  page.section("Exact counters", "Counted, not timed: no statistics, no noise.");
  report::Table counts{.head = {"counter", "base", "head", ""}, .rows = {}};
  for (const CounterResult& counter : comparison.counters) {
    counts.rows.push_back(
        {Cell(counter.id), Cell(fmt::format("{:g}", counter.base), Tone::kPlain, true),
         Cell(fmt::format("{:g}", counter.head), Tone::kPlain, true),
         Cell(counter.worse ? "worse" : "equal", counter.worse ? Tone::kBad : Tone::kGood)});
  }
  page.table(counts);
  page.section("Blocks",
               "The scores behind each verdict, in the order of time: drift shows as a slope, a "
               "changed machine as a step.");
  for (const MetricResult& metric : comparison.metrics) {
    report::Series series{.name = metric.id,
                          .colour = colour_of(metric.judgement.verdict),
                          .points = {},
                          .kind = report::Series::Kind::kDots};
    for (std::size_t i = 0; i < metric.scores.size(); ++i)
      series.points.emplace_back(static_cast<double>(i + 1), percent(metric.scores[i]));
    page.figure(draw(report::Chart{.x = {.label = "block"},
                                   .y = {.label = "change, %"},
                                   .right = {},
                                   .series = {series},
                                   .shades = {},
                                   .marks = {},
                                   .height = 120}),
                metric.id);
  }
  return page.html();
}

std::string to_junit(const Comparison& comparison) {
  std::string cases;
  int failures = 0;
  for (const MetricResult& metric : comparison.metrics) {
    const bool failed =
        metric.judgement.verdict == Verdict::kRegressed && find_metric(metric.id)->gated;
    failures += failed;
    cases += fmt::format(
        "  <testcase classname=\"bench\" name=\"{}\">{}</testcase>\n", report::escape(metric.id),
        failed ? fmt::format("<failure message=\"{}\"/>", report::escape(interval(metric))) : "");
  }
  for (const std::string& reason : comparison.void_reasons) {
    ++failures;
    cases += fmt::format(
        "  <testcase classname=\"bench\" name=\"validity\"><failure message=\"{}\"/></testcase>\n",
        report::escape(reason));
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"keelback bench\" tests=\"{}\" "
      "failures=\"{}\">\n{}</testsuite>\n",
      comparison.metrics.size() + comparison.void_reasons.size(), failures, cases);
}

std::string to_html(const PeersResult& peers) {
  report::Page page("Keelback and its alternatives",
                    "the same trivial function, all contenders alternated in one run");
  page.section("Ratios",
               "Ours divided by theirs, the median over blocks, with its exact 95 % interval.");
  report::Table table{
      .head = {"row", "what", "against", "ours", "theirs", "unit", "ratio", "target"}, .rows = {}};
  for (const PeerRow& row : peers.rows) {
    const std::string target =
        row.target == 0 ? ""
                        : fmt::format("{} {:g}", row.at_most ? "at most" : "at least", row.target);
    table.rows.push_back(
        {Cell(row.id), Cell(row.what), Cell(row.peer),
         Cell(fmt::format("{:.1f}", row.ours), Tone::kPlain, true),
         Cell(fmt::format("{:.1f}", row.theirs), Tone::kPlain, true), Cell(row.unit),
         Cell(fmt::format("{:.2f} [{:.2f}, {:.2f}]", std::exp(row.log_ratio.value),
                          std::exp(row.log_ratio.low), std::exp(row.log_ratio.high)),
              Tone::kPlain, true),
         Cell(target + (row.target == 0 ? ""
                        : row.met()     ? ": met"
                                        : ": missed"),
              row.target == 0 ? Tone::kMuted
              : row.met()     ? Tone::kGood
                              : Tone::kBad)});
  }
  page.table(table);
  page.section("Not measured");
  for (const std::string& why : peers.not_measured) page.paragraph(why);
  return page.html();
}

std::expected<void, std::string> write_file(const std::string& directory, const std::string& name,
                                            const std::string& text) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  std::ofstream file(std::filesystem::path(directory) / name, std::ios::binary);
  file << text;
  file.close();
  if (!file) return std::unexpected(fmt::format("{}/{} cannot be written", directory, name));
  return {};
}

}  // namespace keelback::bench
