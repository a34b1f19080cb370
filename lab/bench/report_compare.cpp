#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/report_kinds.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using report::Cell;
using report::Tone;

Tone tone_of(const std::string& verdict) {
  if (verdict == "OK" || verdict == "IMPROVED") return Tone::kGood;
  if (verdict == "SLOWER-WITHIN-TOLERANCE") return Tone::kWarn;
  return verdict == "REGRESSED" ? Tone::kBad : Tone::kMuted;
}

int colour_of(const std::string& verdict) {
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

std::string verdict_of(const Json& metric) { return metric.value("verdict", ""); }

std::string interval_text(const Json& metric) {
  const auto& interval = metric["interval_percent"];
  return fmt::format("{:+.2f} % [{:+.2f}, {:+.2f}]", metric.value("change_percent", 0.0),
                     interval[0].get<double>(), interval[1].get<double>());
}

// Verdict and what to know of it: not gated, blocks needed.
std::string verdict_text(const Json& metric) {
  std::string text = verdict_of(metric);
  if (!metric.value("gated", false)) {
    text += " (not gated)";
  } else if (metric.contains("blocks_needed")) {
    text += fmt::format(" ({} blocks would do)", metric["blocks_needed"].get<int>());
  }
  return text;
}

Json list_in(const Json& document, const char* field) {
  return document.value(field, Json::array());
}

Summary summarize(const Json& document) {
  const Json doubts = list_in(document, "void");
  if (!doubts.empty()) return {"VOID", doubts.front().get<std::string>(), Tone::kWarn};
  std::string worse, improved, warned;
  int inconclusive = 0;
  const auto add = [](std::string& text, const std::string& what) {
    text += (text.empty() ? "" : "; ") + what;
  };
  for (const auto& metric : list_in(document, "metrics")) {
    if (!metric.value("gated", false)) continue;
    const std::string verdict = verdict_of(metric),
                      what = metric.value("id", "") + " " + interval_text(metric);
    if (verdict == "REGRESSED") add(worse, what);
    if (verdict == "IMPROVED") add(improved, what);
    if (verdict == "SLOWER-WITHIN-TOLERANCE") add(warned, what);
    inconclusive += verdict == "INCONCLUSIVE";
  }
  for (const auto& counter : list_in(document, "counters")) {
    if (counter.value("worse", false))
      add(worse, fmt::format("{} {:g} -> {:g}", counter.value("id", ""), counter.value("base", 0.0),
                             counter.value("head", 0.0)));
  }
  if (!worse.empty()) return {"REGRESSED", worse, Tone::kBad};
  std::string sentence = "No gated metric is worse than its tolerance";
  if (inconclusive)
    sentence += fmt::format(", but {} could not be proved either way", inconclusive);
  sentence += list_in(document, "control").empty()
                  ? "; this profile took no control and no canary."
                  : "; the control was quiet and the canary was caught.";
  if (!improved.empty()) sentence += " Improved: " + improved + ".";
  if (!warned.empty()) sentence += " Slower within tolerance: " + warned + ".";
  if (inconclusive && document.value("strict", false))
    return {"INCONCLUSIVE", sentence, Tone::kWarn};
  return {"OK", sentence, warned.empty() && !inconclusive ? Tone::kGood : Tone::kWarn};
}

report::Forest forest_of(const Json& metrics) {
  report::Forest forest{
      .label = "head against base in %, right is worse; green: ignored, red: beyond the tolerance"};
  for (const auto& metric : metrics) {
    const auto& interval = metric["interval_percent"];
    forest.rows.push_back({.name = metric.value("id", ""),
                           .value = metric.value("change_percent", 0.0),
                           .low = interval[0].get<double>(),
                           .high = interval[1].get<double>(),
                           .ignored = 100 * metric.value("delta_min", 0.0),
                           .tolerated = 100 * metric.value("delta_tol", 0.0),
                           .colour = colour_of(verdict_of(metric)),
                           .verdict = verdict_of(metric)});
  }
  return forest;
}

report::Table table_of(const Json& metrics) {
  report::Table table{.head = {"metric", "base", "head", "unit", "change [95 %]", "verdict",
                               "blocks", "can resolve", "what"}};
  for (const auto& metric : metrics) {
    table.rows.push_back(
        {Cell(metric.value("id", "")), figure_cell(metric.value("base", 0.0)),
         figure_cell(metric.value("head", 0.0)), Cell(metric.value("unit", "")),
         Cell(interval_text(metric)), Cell(verdict_text(metric), tone_of(verdict_of(metric))),
         Cell(std::to_string(metric.value("blocks", 0)), Tone::kPlain, true),
         Cell(fmt::format("{:.1f} %", metric.value("resolves_percent", 0.0)), Tone::kMuted, true),
         Cell(metric.value("doc", ""))});
  }
  return table;
}

std::string text(const Json& document) {
  std::string out = text_table(table_of(list_in(document, "metrics")));
  for (const auto& counter : list_in(document, "counters")) {
    out += fmt::format("{:<36} {:>12g} {:>12g}  {}\n", counter.value("id", ""),
                       counter.value("base", 0.0), counter.value("head", 0.0),
                       counter.value("worse", false) ? "WORSE" : "equal");
  }
  for (const auto& metric : list_in(document, "control"))
    out += fmt::format("control {:<20} {}  {}\n", metric.value("id", ""), interval_text(metric),
                       verdict_of(metric));
  const Json canary = document.value("canary", Json::object());
  for (const auto& metric : list_in(canary, "metrics"))
    out +=
        fmt::format("canary  {:<20} {}  {}, {:+.0f} % injected\n", metric.value("id", ""),
                    interval_text(metric), verdict_of(metric), 100 * canary.value("slowdown", 0.0));
  const Summary summary = summarize(document);
  return out + fmt::format("\n{}: {}\n{} blocks, seed {}, {:.0f} s\n", summary.verdict,
                           summary.sentence, list_in(document, "blocks").size(),
                           document.value("seed", 0), document.value("took_s", 0.0));
}

void add_metrics(report::Page& page, const Json& document) {
  page.section(
      "Metrics",
      "Each block starts a fresh pool of each program and measures both in alternation; a point is "
      "the Hodges-Lehmann estimate over blocks, a line its "
      "exact 95 % interval. The verdict is the group-sequential test's, not the interval's.");
  const Json metrics = list_in(document, "metrics");
  page.figure(draw(forest_of(metrics)), "Change of each metric");
  page.table(table_of(metrics));
}

void add_trust(report::Page& page, const Json& document) {
  page.section("Whether to believe it",
               "A control of the head against itself must stay quiet, and a slowdown that the run "
               "injects itself must be caught.");
  for (const auto& reason : list_in(document, "void"))
    page.note(Tone::kBad, reason.get<std::string>());
  const Json control = list_in(document, "control");
  if (control.empty()) {
    page.note(
        Tone::kWarn,
        "This profile runs no control and no canary: its verdicts are for a first look only.");
  } else {
    page.figure(draw(forest_of(control)), "Control: head against itself");
  }
  const Json canary = document.value("canary", Json::object());
  if (canary.contains("metrics"))
    page.figure(draw(forest_of(canary["metrics"])),
                fmt::format("Canary: head against itself, slowed by {:.0f} % of a call",
                            100 * canary.value("slowdown", 0.0)));
}

void add_latencies(report::Page& page, const Json& document) {
  const Json curves = document.value("curves", Json::object());
  for (const auto& [title, series] : curves.items()) {
    if (series.empty()) continue;
    if (title == curves.begin().key())
      page.section("Latencies",
                   "Every call of every block, by share of calls that took no longer.");
    page.figure(draw(percentile_chart(series)), title);
  }
}

void add_blocks(report::Page& page, const Json& document) {
  page.section("Blocks",
               "The scores behind each verdict, in the order of time: drift shows as a slope, a "
               "changed machine as a step. Filled by who went first.");
  const Json blocks = list_in(document, "blocks");
  for (const auto& metric : list_in(document, "metrics")) {
    report::Series first{
        .name = "head went first", .colour = 0, .kind = report::Series::Kind::kDots},
        second = first;
    second.name = "base went first";
    second.colour = 1;
    const std::string id = metric.value("id", "");
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const Json scores = blocks[i].value("score", Json::object());
      if (!scores.contains(id)) continue;
      (blocks[i].value("head_first", false) ? first : second)
          .points.emplace_back(static_cast<double>(i + 1),
                               100 * std::expm1(scores[id].get<double>()));
    }
    page.figure(draw(report::Chart{.x = {.label = "block"},
                                   .y = {.label = "change, %"},
                                   .series = {first, second},
                                   .height = 110}),
                id);
  }
}

std::string html(const Json& document) {
  const Summary summary = summarize(document);
  report::Page page(
      "Keelback performance: head against base",
      fmt::format("{} against {}", document.value("head", ""), document.value("base", "")));
  const int cpu = document.value("cpu", -1);
  page.banner(summary.tone, summary.verdict, summary.sentence,
              {{"profile", document.value("profile", "")},
               {"blocks", std::to_string(list_in(document, "blocks").size())},
               {"seed", std::to_string(document.value("seed", 0))},
               {"processor", cpu < 0 ? "any" : std::to_string(cpu)},
               {"took", fmt::format("{:.0f} s", document.value("took_s", 0.0))}});
  add_metrics(page, document);
  add_trust(page, document);
  add_latencies(page, document);
  page.section("Exact counters", "Counted, not timed: no statistics, no noise.");
  report::Table counts{.head = {"counter", "what", "base", "head", ""}};
  for (const auto& counter : list_in(document, "counters")) {
    const bool worse = counter.value("worse", false);
    counts.rows.push_back(
        {Cell(counter.value("id", "")), Cell(counter.value("doc", "")),
         Cell(fmt::format("{:g}", counter.value("base", 0.0)), Tone::kPlain, true),
         Cell(fmt::format("{:g}", counter.value("head", 0.0)), Tone::kPlain, true),
         Cell(worse ? "worse" : "equal", worse ? Tone::kBad : Tone::kGood)});
  }
  page.table(counts);
  add_blocks(page, document);
  add_environment(page, document,
                  fmt::format("keelback bench compare --base {} --head {} --profile {} --seed {}",
                              document.value("base", ""), document.value("head", ""),
                              document.value("profile", ""), document.value("seed", 0)));
  return page.html();
}

std::string junit(const Json& document) {
  std::vector<JunitCase> cases;
  for (const auto& metric : list_in(document, "metrics")) {
    const bool failed = verdict_of(metric) == "REGRESSED" && metric.value("gated", false);
    cases.push_back({metric.value("id", ""), failed ? interval_text(metric) : ""});
  }
  for (const auto& counter : list_in(document, "counters"))
    cases.push_back(
        {counter.value("id", ""),
         counter.value("worse", false)
             ? fmt::format("{:g} -> {:g}", counter.value("base", 0.0), counter.value("head", 0.0))
             : ""});
  for (const auto& reason : list_in(document, "void"))
    cases.push_back({"validity", reason.get<std::string>()});
  return junit_text("keelback bench compare", cases);
}

std::string markdown(const Json& document) {
  const Summary summary = summarize(document);
  return fmt::format("### keelback bench compare: {}\n\n{}\n\n", summary.verdict,
                     summary.sentence) +
         markdown_table(table_of(list_in(document, "metrics")));
}

}  // namespace

const ReportKind kCompareReport = {"keelback-bench/1", text, html, junit, markdown};

}  // namespace keelback::bench
