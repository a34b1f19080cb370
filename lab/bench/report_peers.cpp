#include <fmt/format.h>

#include <cmath>

#include "bench/report_kinds.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using report::Cell;
using report::Tone;

// A row without a peer holds its figure against a number: its interval is the figure's own.
std::string ratio_text(const Json& row) {
  if (!row.contains("ratio")) {
    const auto bound = [&](std::size_t side) {
      const Json& value = row["interval"][side];
      return value.is_null() ? "no bound" : figure_text(value.get<double>());
    };
    return fmt::format("[{}, {}]", bound(0), bound(1));
  }
  return fmt::format("{:.2f} [{:.2f}, {:.2f}]", row.value("ratio", 0.0),
                     row["interval"][0].get<double>(), row["interval"][1].get<double>());
}

std::string theirs_text(const Json& row) {
  return row.contains("theirs") ? figure_text(row["theirs"].get<double>()) : "";
}

std::string target_text(const Json& row) {
  if (!row.contains("target")) return "";
  std::string verdict = "met";
  if (!row.value("met", false))
    verdict = fmt::format("MISSED by {} %", figure_text(100 * row.value("missed_by", 0.0)));
  if (!row.value("sure", true)) verdict += ", not sure";
  return fmt::format("{} {:g}: {}", row.value("at_most", true) ? "at most" : "at least",
                     row["target"].get<double>(), verdict);
}

// "call.floor.pinned: one send, …", for each target that is missed.
std::vector<std::string> limits(const Json& document) {
  std::vector<std::string> out;
  for (const auto& row : document["rows"]) {
    if (!row.value("limit", "").empty())
      out.push_back(row.value("id", "") + ": " + row.value("limit", ""));
  }
  return out;
}

report::Table table_of(const Json& document) {
  report::Table table{
      .head = {"row", "against", "ours", "theirs", "unit", "ratio [95 %]", "target", "what"}};
  for (const auto& row : document["rows"]) {
    const Tone tone = !row.contains("target")   ? Tone::kMuted
                      : row.value("met", false) ? Tone::kGood
                                                : Tone::kBad;
    table.rows.push_back({Cell(row.value("id", "")), Cell(row.value("peer", "")),
                          figure_cell(row.value("ours", 0.0)),
                          Cell(theirs_text(row), Tone::kPlain, true), Cell(row.value("unit", "")),
                          Cell(ratio_text(row), Tone::kPlain, true), Cell(target_text(row), tone),
                          Cell(row.value("what", ""))});
  }
  return table;
}

std::string text(const Json& document) {
  std::string out = text_table(table_of(document));
  for (const auto& limit : limits(document)) out += "what limits " + limit + "\n";
  for (const auto& why : document.value("not_measured", Json::array()))
    out += "not measured: " + why.get<std::string>() + "\n";
  return out;
}

std::string html(const Json& document) {
  report::Page page("Keelback and its alternatives",
                    "the same trivial function, all contenders alternated in one run");
  int met = 0, targets = 0;
  for (const auto& row : document["rows"]) {
    targets += row.contains("target");
    met += row.value("met", false);
  }
  page.banner(met == targets ? Tone::kGood : Tone::kBad,
              fmt::format("{} of {} targets met", met, targets),
              "Each row compares medians of the same blocks; everybody runs in each block, in an "
              "order thrown anew.",
              {});
  page.section("Ratios",
               "Ours divided by theirs: the Hodges-Lehmann centre over blocks, with its exact 95 % "
               "interval.");
  page.table(table_of(document));
  if (const auto bounds = limits(document); !bounds.empty()) {
    page.section("What limits the missed ones", "Measured and explained in docs/performance.md.");
    for (const auto& limit : bounds) page.paragraph(limit);
  }
  const Json missing = document.value("not_measured", Json::array());
  if (!missing.empty()) page.section("Not measured");
  for (const auto& why : missing) page.paragraph(why.get<std::string>());
  add_environment(page, document, "keelback bench peers --python PYTHON");
  return page.html();
}

std::string junit(const Json& document) {
  std::vector<JunitCase> cases;
  for (const auto& row : document["rows"]) {
    if (row.contains("target"))
      cases.push_back({row.value("id", ""),
                       row.value("met", false) ? "" : ratio_text(row) + ", " + target_text(row)});
  }
  return junit_text("keelback bench peers", cases);
}

std::string markdown(const Json& document) { return markdown_table(table_of(document)); }

}  // namespace

const ReportKind kPeersReport = {"keelback-peers/1", text, html, junit, markdown};

}  // namespace keelback::bench
