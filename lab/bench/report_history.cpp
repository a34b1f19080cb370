#include <fmt/format.h>

#include <cmath>

#include "bench/report_kinds.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using report::Cell;
using report::Tone;

std::string change_text(const Json& row) {
  const auto& interval = row["interval_percent"];
  return fmt::format("{:+.1f} % [{:+.1f}, {:+.1f}]", row.value("change_percent", 0.0),
                     interval[0].get<double>(), interval[1].get<double>());
}

std::string word(const Json& row) {
  if (!row.value("stands_out", false)) return "";
  return row.value("worse", false) ? "worse" : "better";
}

report::Table table_of(const Json& document) {
  report::Table table{.head = {"metric", "accepted", "now", "unit", "change", "stands out"}};
  for (const auto& row : document.value("against", Json::array()))
    table.rows.push_back({Cell(row.value("id", "")), figure_cell(row.value("before", 0.0)),
                          figure_cell(row.value("now", 0.0)), Cell(row.value("unit", "")),
                          Cell(change_text(row)),
                          Cell(word(row), row.value("worse", false) ? Tone::kBad : Tone::kGood)});
  return table;
}

std::string text(const Json& document) {
  const Json& records = document["records"];
  std::string out;
  for (const auto& record : records)
    out += fmt::format("{}  {}  ({}, {})\n", record.value("time", ""), record.value("reason", ""),
                       record.value("profile", ""), record.value("topology", ""));
  for (const auto& row : document["history"]) {
    for (const auto& change : row["changes"])
      out += fmt::format("{}: {:+.1f} % of its level from {} on (p {:.4f})\n", row.value("id", ""),
                         change.value("percent", 0.0), change.value("time", ""),
                         change.value("p", 1.0));
  }
  if (!document.contains("against")) return out;
  out += "\n" + text_table(table_of(document));
  return out + "\nThis advises; `keelback bench compare` is the gate.\n";
}

std::string html(const Json& document) {
  const Json& records = document["records"];
  report::Page page("Keelback performance: history",
                    fmt::format("{} accepted runs", records.size()));
  int changes = 0;
  for (const auto& row : document["history"]) changes += static_cast<int>(row["changes"].size());
  page.banner(changes ? Tone::kWarn : Tone::kGood, fmt::format("{} runs", records.size()),
              changes ? fmt::format("{} changes of level stand out.", changes)
                      : "No change of level stands out.",
              {});
  report::Table table{.head = {"#", "when", "why", "profile", "build"}};
  for (std::size_t i = 0; i < records.size(); ++i)
    table.rows.push_back({Cell(std::to_string(i + 1), Tone::kPlain, true),
                          Cell(records[i].value("time", "")), Cell(records[i].value("reason", "")),
                          Cell(records[i].value("profile", "")),
                          Cell(records[i].value("build", ""))});
  page.table(table);
  if (document.contains("against")) {
    page.section("This run against the last accepted one",
                 "As ratios to the reference arm of each run. Different days are not randomised, "
                 "so this advises; what stands out does so among all metrics (false discovery "
                 "rate 10 %).");
    page.table(table_of(document));
  }
  page.section("Each metric",
               "Change of level from the first accepted run, in percent of the reference; dashed: "
               "where the level changed, by a permutation test that pays for looking everywhere.");
  for (const auto& row : document["history"]) {
    report::Series line{.name = "", .colour = 0};
    const Json& scores = row["scores"];
    for (std::size_t i = 0; i < scores.size(); ++i)
      line.points.emplace_back(static_cast<double>(i + 1),
                               100 * std::expm1(scores[i].get<double>() - scores[0].get<double>()));
    report::Series dots = line;
    dots.kind = report::Series::Kind::kDots;
    report::Chart chart{
        .x = {.label = "accepted run"}, .y = {.label = "%"}, .series = {line, dots}, .height = 110};
    for (const auto& change : row["changes"])
      chart.marks.push_back({static_cast<double>(change["at"].get<int>()) + 0.5,
                             fmt::format("{:+.1f} %", change.value("percent", 0.0))});
    page.figure(draw(chart), row.value("id", ""));
  }
  return page.html();
}

std::string junit(const Json& document) {
  std::vector<JunitCase> cases;
  for (const auto& row : document.value("against", Json::array()))
    cases.push_back({row.value("id", ""), ""});  // advice fails nothing
  return junit_text("keelback bench baseline", cases);
}

std::string markdown(const Json& document) { return markdown_table(table_of(document)); }

}  // namespace

const ReportKind kHistoryReport = {"keelback-bench-baseline/1", text, html, junit, markdown};

}  // namespace keelback::bench
