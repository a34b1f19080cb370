// One kind of document a file: how each is told as text, page, JUnit and Markdown.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/chart.h"
#include "report/page.h"

namespace keelback::bench {

// Verdict, sentence and tone of a whole run.
struct Summary {
  std::string verdict, sentence;
  report::Tone tone = report::Tone::kGood;
};

struct JunitCase {
  std::string name;
  std::string failure;  // empty: passed
};
std::string junit_text(const std::string& suite, const std::vector<JunitCase>& cases);
// A page's table for a pull request and for a terminal.
std::string markdown_table(const report::Table& table);
std::string text_table(const report::Table& table);
// Three digits or so, without an exponent: "15.8", "103 421", "0.012".
std::string figure_text(double value);
report::Cell figure_cell(double value, report::Tone tone = report::Tone::kPlain);
// Figures of a document (bench/family.h makes them) as charts on a page; figure.cpp.
void add_figure(report::Page& page, const nlohmann::json& figure);
// Cumulative latencies on an axis of nines. buckets: [ns, finished, censored], ascending.
report::Chart percentile_chart(const nlohmann::json& series);
// The machine, the build, the seed: the end of every page.
void add_environment(report::Page& page, const nlohmann::json& document,
                     const std::string& command);

struct ReportKind {
  std::string_view schema;
  std::string (*text)(const nlohmann::json&);
  std::string (*html)(const nlohmann::json&);
  std::string (*junit)(const nlohmann::json&);
  std::string (*markdown)(const nlohmann::json&);
};
extern const ReportKind kRunReport;      // report_run.cpp
extern const ReportKind kCompareReport;  // report_compare.cpp
extern const ReportKind kAppReport;      // report_app.cpp
extern const ReportKind kHistoryReport;  // report_history.cpp
extern const ReportKind kPeersReport;    // report_peers.cpp

}  // namespace keelback::bench
