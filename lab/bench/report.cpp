#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "bench/report_kinds.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

const ReportKind* kind_of(const Json& document) {
  const std::string schema = document.value("schema", "");
  for (const ReportKind* kind :
       {&kRunReport, &kCompareReport, &kAppReport, &kHistoryReport, &kPeersReport}) {
    if (kind->schema == schema) return kind;
  }
  return nullptr;
}

std::string in_format(const Json& document, std::string (*ReportKind::*format)(const Json&)) {
  const ReportKind* kind = kind_of(document);
  return kind ? (kind->*format)(document) : std::string();
}

}  // namespace

std::string to_text(const Json& document) {
  return kind_of(document) ? in_format(document, &ReportKind::text) : document.dump(1) + "\n";
}
std::string to_html(const Json& document) { return in_format(document, &ReportKind::html); }
std::string to_junit(const Json& document) { return in_format(document, &ReportKind::junit); }
std::string to_markdown(const Json& document) { return in_format(document, &ReportKind::markdown); }

std::expected<void, std::string> write_report(const std::string& directory, const Json& document) {
  for (const auto& [name, text] :
       {std::pair{"report.json", document.dump(1, ' ', false, Json::error_handler_t::replace)},
        std::pair{"report.html", to_html(document)}, std::pair{"report.md", to_markdown(document)},
        std::pair{"junit.xml", to_junit(document)}}) {
    if (auto written = write_file(directory, name, text); !written) return written;
  }
  return {};
}

std::expected<Json, std::string> read_report(const std::string& directory) {
  const auto path = std::filesystem::path(directory) / "report.json";
  std::ifstream file(path);
  if (!file) return std::unexpected(fmt::format("there is no {}", path.string()));
  Json document = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object() || !kind_of(document))
    return std::unexpected(fmt::format("{} is no document of this laboratory", path.string()));
  return document;
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

std::string junit_text(const std::string& suite, const std::vector<JunitCase>& cases) {
  std::string body;
  int failures = 0;
  for (const JunitCase& one : cases) {
    failures += !one.failure.empty();
    body += fmt::format(
        "  <testcase classname=\"bench\" name=\"{}\">{}</testcase>\n", report::escape(one.name),
        one.failure.empty()
            ? std::string()
            : fmt::format("<failure message=\"{}\"/>", report::escape(one.failure)));
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" "
      "failures=\"{}\">\n{}</testsuite>\n",
      report::escape(suite), cases.size(), failures, body);
}

std::string markdown_table(const report::Table& table) {
  std::string out = "|", rule = "|";
  for (const std::string& head : table.head) {
    out += " " + head + " |";
    rule += " --- |";
  }
  out += "\n" + rule + "\n";
  for (const auto& row : table.rows) {
    out += "|";
    for (const report::Cell& cell : row) {
      out += ' ';
      for (const char c : cell.text) {
        if (c == '|') out += '\\';
        out += c == '\n' ? ' ' : c;
      }
      out += " |";
    }
    out += "\n";
  }
  return out;
}

std::string text_table(const report::Table& table) {
  // In characters, not bytes.
  const auto width = [](const std::string& text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
  };
  std::vector<std::size_t> widths;
  for (const std::string& head : table.head) widths.push_back(width(head));
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], width(row[i].text));
  }
  std::string out;
  const auto add = [&](std::size_t column, const std::string& text, bool right) {
    const std::string space(widths[column] - width(text), ' ');
    const bool last = column + 1 == widths.size();
    out += right ? space + text : last ? text : text + space;
    out += last ? "\n" : "  ";
  };
  for (std::size_t i = 0; i < table.head.size(); ++i)
    add(i, table.head[i], !table.rows.empty() && table.rows[0][i].number);
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i) add(i, row[i].text, row[i].number);
  }
  return out;
}

std::string figure_text(double value) {
  const double size = std::abs(value);
  if (size >= 1000) {
    std::string digits = fmt::format("{:.0f}", size);
    for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, "\u2009");
    return (value < 0 ? "-" : "") + digits;
  }
  if (size >= 100) return fmt::format("{:.0f}", value);
  if (size >= 10) return fmt::format("{:.1f}", value);
  return size >= 0.01 || size == 0 ? fmt::format("{:.3g}", value) : fmt::format("{:.2g}", value);
}

report::Cell figure_cell(double value, report::Tone tone) {
  return report::Cell(figure_text(value), tone, true);
}

void add_environment(report::Page& page, const Json& document, const std::string& command) {
  page.section("Where this was measured", "Numbers belong to a machine; ratios travel.");
  report::Table table{.head = {"", ""}};
  const Json machine = document.value("machine", Json::object());
  const auto add = [&](const char* name, const Json& value) {
    if (value.is_null() || (value.is_string() && value.get<std::string>().empty())) return;
    table.rows.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
  };
  for (const auto& [label, field] :
       {std::pair{"processor", "cpu"}, std::pair{"processors to use", "ncpu"},
        std::pair{"virtual machine", "virtual"}, std::pair{"kernel", "kernel"},
        std::pair{"memory, GB", "memory_gb"}, std::pair{"frequency governor", "governor"},
        std::pair{"transparent huge pages", "thp"}, std::pair{"fingerprint", "fingerprint"}})
    add(label, machine.value(field, Json()));
  for (const auto& [label, field] :
       {std::pair{"build", "build"}, std::pair{"time", "time"}, std::pair{"topology", "topology"},
        std::pair{"timers wake late by, p99, µs", "timer_p99_us"}, std::pair{"seed", "seed"},
        std::pair{"suite", "suite"}})
    add(label, document.value(field, Json()));
  page.table(table);
  if (!command.empty()) page.code(command);
}

}  // namespace keelback::bench
