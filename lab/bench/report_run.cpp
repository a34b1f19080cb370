#include <fmt/format.h>

#include <cmath>
#include <map>

#include "bench/report_kinds.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using report::Cell;
using report::Tone;

Summary summarize(const Json& document) {
  const Json broken = document.value("broken", Json::array());
  const Json doubts = document.value("void", Json::array());
  const auto all = [](const Json& list) {
    std::string text;
    for (const auto& one : list) text += (text.empty() ? "" : "; ") + one.get<std::string>();
    return text;
  };
  if (!broken.empty()) return {"BROKEN", all(broken), Tone::kBad};
  if (!doubts.empty())
    return {"VOID", "The laboratory does not trust this run: " + all(doubts), Tone::kWarn};
  return {"OK", "Every promise that can be counted was kept, and the run's own checks passed.",
          Tone::kGood};
}

std::string interval_text(const Json& row) {
  const auto& interval = row["interval"];
  return fmt::format("{} \u2013 {}", figure_text(interval[0].get<double>()),
                     figure_text(interval[1].get<double>()));
}

// A time as a multiple of the bare round trip in the same blocks.
std::string reference_text(const Json& row) {
  const std::string unit = row.value("unit", "");
  const double reference = row.value("reference_us", 0.0);
  if (reference <= 0 || unit != "µs") return "";
  return figure_text(row.value("median", 0.0) / reference) + " \u00d7";
}

void add_rows(report::Table& table, const Json& rows) {
  for (const auto& row : rows) {
    const bool promised = row.contains("required"), broken = row.value("broken", false);
    const Tone tone = broken ? Tone::kBad : promised ? Tone::kGood : Tone::kPlain;
    table.rows.push_back(
        {Cell(row.value("id", "")), figure_cell(row.value("median", 0.0), tone),
         Cell(row.value("unit", "")),
         promised ? Cell(fmt::format("{} {:g} in every block", broken ? "not" : "is",
                                     row["required"].get<double>()),
                         tone)
                  : Cell(interval_text(row), Tone::kMuted, true),
         Cell(reference_text(row), Tone::kMuted, true), Cell(row.value("doc", ""))});
  }
}

report::Table empty_table() {
  return {.head = {"metric", "median", "unit", "95 % interval", "of the reference", "what"}};
}

std::string text(const Json& document) {
  std::string out;
  for (const auto& family : document["families"]) {
    out += fmt::format("\n{} ({} blocks)\n", family.value("name", ""), family.value("blocks", 0));
    if (family.contains("error")) out += "  " + family["error"].get<std::string>() + "\n";
    report::Table table = empty_table();
    add_rows(table, family["rows"]);
    out += text_table(table);
    for (const auto& figure : family["figures"]) {
      if (figure.value("kind", "") != "scaling" || !figure.contains("fit")) continue;
      const auto& fit = figure["fit"];
      out += fmt::format("  {}: sigma {:.3f} [{:.3f}, {:.3f}], kappa {:.4f} [{:.4f}, {:.4f}]\n",
                         figure.value("title", ""), fit["sigma"].get<double>(),
                         fit["sigma_interval"][0].get<double>(),
                         fit["sigma_interval"][1].get<double>(), fit["kappa"].get<double>(),
                         fit["kappa_interval"][0].get<double>(),
                         fit["kappa_interval"][1].get<double>());
    }
  }
  const Summary summary = summarize(document);
  return out + fmt::format("\n{}: {}\n{:.0f} s, seed {}\n", summary.verdict, summary.sentence,
                           document.value("took_s", 0.0), document.value("seed", 0));
}

std::vector<report::Tile> tiles_of(const Json& document) {
  static constexpr std::pair<const char*, const char*> kHeadlines[] = {
      {"startup.first_call_ms", "from nothing to the first result"},
      {"call.p50_us", "a call, median"},
      {"call.p99_us", "a call, p99"},
      {"throughput.16_per_second", "16 callers, 2 workers"},
      {"http.16_per_second", "over HTTP, 16 connections"},
      {"recovery.ready_ms", "SIGKILL to replacement"},
      {"cleanup.stop_ms", "stop"},
      {"memory.pss_kb", "memory, 2 workers"},
      {"idle.cpu_ms", "processor time, idle"}};
  std::vector<report::Tile> tiles;
  for (const auto& [id, label] : kHeadlines) {
    for (const auto& family : document["families"]) {
      for (const auto& row : family["rows"]) {
        if (row.value("id", "") == id)
          tiles.push_back(
              {figure_text(row.value("median", 0.0)) + " " + row.value("unit", ""), label});
      }
    }
  }
  return tiles;
}

std::string html(const Json& document) {
  const Summary summary = summarize(document);
  report::Page page("Keelback performance", fmt::format("{}, {}", document.value("time", ""),
                                                        document.value("program", "")));
  const Json machine = document.value("machine", Json::object());
  page.banner(summary.tone, summary.verdict, summary.sentence,
              {{"profile", document.value("profile", "")},
               {"blocks", std::to_string(document.value("blocks", 0))},
               {"processors", std::to_string(machine.value("ncpu", 0))},
               {"topology", document.value("topology", "")},
               {"took", fmt::format("{:.0f} s", document.value("took_s", 0.0))}});
  page.tiles(tiles_of(document));
  for (const auto& family : document["families"]) {
    std::string name = family.value("name", "");
    if (!name.empty())
      name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
    page.section(name, fmt::format("{}. {} blocks of fresh processes.", family.value("doc", ""),
                                   family.value("blocks", 0)));
    if (family.contains("error")) page.note(Tone::kBad, family["error"].get<std::string>());
    for (const auto& reason : family.value("void", Json::array()))
      page.note(Tone::kWarn, "Void: " + reason.get<std::string>());
    report::Table table = empty_table();
    add_rows(table, family["rows"]);
    page.table(table);
    for (const auto& figure : family["figures"]) add_figure(page, figure);
  }
  page.section("How to read this");
  page.paragraph(
      "A block starts fresh processes, measures, and ends them; a metric's value is the "
      "Hodges-Lehmann centre of its blocks, the interval "
      "covers the true centre in 95 of 100 runs where there are enough blocks for that (six or "
      "more), and is all that the blocks span where there are not.");
  page.paragraph(
      "Latencies of open loops count from the planned time of each call: a stall of the pool "
      "delays every call behind it, and each of them says so. "
      "\"Service alone\" is what a generator that stalls with the pool would have reported. Calls "
      "that never came back are kept as lower bounds.");
  page.paragraph(
      "\"Of the reference\" divides by a bare round trip over a socket pair to a Python loop, "
      "measured in the same blocks: another machine or a slow day divides out.");
  std::string names;
  for (const auto& family : document["families"]) names += " " + family.value("name", "");
  add_environment(page, document,
                  fmt::format("keelback bench run{} --profile {} --seed {}", names,
                              document.value("profile", "pr"), document.value("seed", 1)));
  return page.html();
}

std::string junit(const Json& document) {
  std::vector<JunitCase> cases;
  for (const auto& family : document["families"]) {
    cases.push_back({family.value("name", ""), family.value("error", "")});
    for (const auto& row : family["rows"]) {
      if (!row.contains("required")) continue;
      cases.push_back({row.value("id", ""), row.value("broken", false)
                                                ? "it is " + figure_text(row.value("median", 0.0))
                                                : ""});
    }
  }
  for (const auto& reason : document.value("void", Json::array()))
    cases.push_back({"validity", reason.get<std::string>()});
  return junit_text("keelback bench run", cases);
}

std::string markdown(const Json& document) {
  const Summary summary = summarize(document);
  std::string out =
      fmt::format("### keelback bench run: {}\n\n{}\n\n", summary.verdict, summary.sentence);
  report::Table table = empty_table();
  for (const auto& family : document["families"]) add_rows(table, family["rows"]);
  return out + markdown_table(table);
}

}  // namespace

const ReportKind kRunReport = {"keelback-bench-run/1", text, html, junit, markdown};

}  // namespace keelback::bench
