#include <fmt/format.h>

#include <algorithm>

#include "bench/report_kinds.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using report::Cell;
using report::Series;
using report::Tone;

std::string carried_text(const Json& pool) {
  return pool.contains("at_objective_per_second")
             ? figure_text(pool["at_objective_per_second"].get<double>())
             : "none";
}

Summary summarize(const Json& document) {
  const double objective = document.value("objective_p99_ms", 0.0);
  if (!document.contains("advice"))
    return {"NOT CARRIED",
            fmt::format("No number of workers that was tried keeps p99 within {:.3g} ms at any "
                        "rate that was tried.",
                        objective),
            Tone::kBad};
  const Json& advice = document["advice"];
  const std::string sentence =
      fmt::format("{} workers carry {} calls a second of {} with p99 within {:.3g} ms.",
                  advice.value("workers", 0), figure_text(advice.value("per_second", 0.0)),
                  document.value("function", ""), objective);
  if (!advice.value("enough", true))
    return {"NOT ENOUGH",
            sentence + fmt::format(" {} are wanted.", figure_text(document.value("wanted", 0.0))),
            Tone::kBad};
  if (!document["void"].empty())
    return {
        "VOID",
        "The laboratory does not trust this run: " + document["void"].front().get<std::string>(),
        Tone::kWarn};
  return {"CAPACITY", sentence, Tone::kGood};
}

std::string first_call_text(const Json& document) {
  return document.contains("first_call") ? document["first_call"].value("sentence", "") : "";
}

// Documents of earlier builds have none.
Json beside_of(const Json& document) { return document.value("concurrency", Json::object()); }

std::vector<std::string> words_about_concurrency(const Json& document) {
  return beside_of(document).value("sentences", std::vector<std::string>());
}

// The function's concurrency and the pool's settings, as they are written.
std::string settings_of(const Json& document) {
  const Json& advice = document["advice"];
  const auto concurrency = advice.value("concurrency", 1);
  std::string text;
  const Json batch = document.value("batch", Json::object());
  if (batch.value("advised", 1) > 1) {
    const double wait_ms = batch.value("advised_wait_ms", 0.0);
    text = fmt::format("@keelback.function(batch={}{})\n\n", batch.value("advised", 1),
                       wait_ms > 0 ? fmt::format(", batch_wait=\"{:.3g}ms\"", wait_ms) : "");
  }
  if (concurrency > 1 && beside_of(document).value("measured", false))
    text = fmt::format("@keelback.function(concurrency={})\n\n", concurrency);
  return text + fmt::format("[pool]\nworkers = {}\nqueue_max = {}", advice.value("workers", 0),
                            advice.value("queue_max", 0));
}

report::Table flights_of(const Json& document) {
  const bool batches = document.contains("batch");
  report::Table table{
      .head = {batches ? "calls in flight, one worker" : "calls at once in a worker", "calls/s",
               "p50, ms", "p99, ms", "computed a call, ms", "% of a processor",
               batches ? "in a batch" : ""}};
  const Json beside = beside_of(document);
  for (const auto& step : beside.value("steps", Json::array())) {
    const bool advised = step.value("in_flight", 0) == beside.value("advised", 0);
    const Cell last = batches   ? figure_cell(step.value("batch", 0.0))
                      : advised ? Cell("advised", Tone::kGood)
                                : Cell("");
    table.rows.push_back(
        {Cell(std::to_string(step.value("in_flight", 0)), Tone::kPlain, true),
         figure_cell(step.value("per_second", 0.0)), figure_cell(step.value("p50_ms", 0.0)),
         figure_cell(step.value("p99_ms", 0.0)), figure_cell(step.value("computed_ms", 0.0)),
         figure_cell(100 * step.value("worker_share", 0.0)), last});
  }
  return table;
}

report::Table pools_of(const Json& document) {
  report::Table table{.head = {"workers", "calls/s within the objective", "calls/s kept busy",
                               "alone p50, ms", "alone p99, ms", "MB a worker"}};
  for (const auto& pool : document["pools"]) {
    const Tone tone = pool.contains("at_objective_per_second") ? Tone::kGood : Tone::kBad;
    table.rows.push_back({Cell(std::to_string(pool.value("workers", 0)), Tone::kPlain, true),
                          Cell(carried_text(pool), tone, true),
                          figure_cell(pool.value("most_per_second", 0.0)),
                          figure_cell(pool.value("unloaded_p50_ms", 0.0)),
                          figure_cell(pool.value("unloaded_p99_ms", 0.0)),
                          figure_cell(pool.value("worker_kb", 0.0) / 1024)});
  }
  return table;
}

report::Table steps_of(const Json& document) {
  report::Table table{
      .head = {"workers", "offered/s", "answered/s", "p50, ms", "p99, ms", "service p99, ms", ""}};
  for (const auto& pool : document["pools"]) {
    for (const auto& step : pool["steps"])
      table.rows.push_back(
          {Cell(std::to_string(pool.value("workers", 0)), Tone::kPlain, true),
           figure_cell(step.value("offered", 0.0)), figure_cell(step.value("good", 0.0)),
           figure_cell(step.value("p50_ms", 0.0)), figure_cell(step.value("p99_ms", 0.0)),
           figure_cell(step.value("service_p99_ms", 0.0)),
           step.value("carried", false) ? Cell("carried", Tone::kGood)
                                        : Cell("not carried", Tone::kBad)});
  }
  return table;
}

std::string text(const Json& document) {
  const Summary summary = summarize(document);
  std::string out = fmt::format("{}: {}\n\n", summary.verdict, summary.sentence);
  if (!words_about_concurrency(document).empty()) {
    out += text_table(flights_of(document)) + "\n";
    for (const auto& sentence : words_about_concurrency(document)) out += sentence + "\n";
    out += "\n";
  }
  out += text_table(pools_of(document));
  out += "\n";
  if (document.contains("advice")) {
    for (const auto& sentence : document["advice"]["sentences"])
      out += sentence.get<std::string>() + "\n";
  }
  if (const auto first = first_call_text(document); !first.empty()) out += first + "\n";
  return out + fmt::format("\n{:.0f} s, seed {}\n", document.value("took_s", 0.0),
                           document.value("seed", 0));
}

// p99 over offered load, one curve a pool, the objective and the knees marked.
report::Chart latency_chart(const Json& document) {
  report::Chart chart{
      .x = {.label = "offered calls a second"},
      .y = {.label = "p99 from the planned time, ms", .scale = report::Scale::kLog}};
  int colour = 0;
  double furthest = 0;
  for (const auto& pool : document["pools"]) {
    Series line{.name = fmt::format("{} workers", pool.value("workers", 0)), .colour = colour % 8};
    for (const auto& step : pool["steps"]) {
      line.points.emplace_back(step["offered"].get<double>(), step["p99_ms"].get<double>());
      furthest = std::max(furthest, step["offered"].get<double>());
    }
    Series dots = line;
    dots.kind = Series::Kind::kDots;
    dots.unnamed = true;
    chart.series.push_back(std::move(line));
    chart.series.push_back(std::move(dots));
    if (pool.contains("at_objective_per_second"))
      chart.marks.push_back(
          {pool["at_objective_per_second"].get<double>(),
           fmt::format("{} workers: {}/s", pool.value("workers", 0), carried_text(pool))});
    ++colour;
  }
  const double objective = document.value("objective_p99_ms", 0.0);
  chart.series.push_back(
      {.name = "objective", .colour = 6, .points = {{0, objective}, {furthest, objective}}});
  return chart;
}

report::Chart goodput_chart(const Json& document) {
  report::Chart chart{.x = {.label = "offered calls a second"},
                      .y = {.label = "answered a second"}};
  int colour = 0;
  double furthest = 0;
  for (const auto& pool : document["pools"]) {
    Series line{.name = fmt::format("{} workers", pool.value("workers", 0)),
                .colour = colour++ % 8};
    for (const auto& step : pool["steps"]) {
      line.points.emplace_back(step["offered"].get<double>(), step["good"].get<double>());
      furthest = std::max(furthest, step["offered"].get<double>());
    }
    chart.series.push_back(std::move(line));
  }
  chart.series.push_back(
      {.name = "all of them", .colour = 7, .points = {{0, 0}, {furthest, furthest}}});
  return chart;
}

// One quantity of the curve over calls in flight, and where the advice lies.
report::Chart flight_chart(const Json& document, report::Axis y,
                           std::initializer_list<std::pair<const char*, const char*>> lines) {
  report::Chart chart{.x = {.label = "calls at once in one worker", .scale = report::Scale::kLog},
                      .y = std::move(y)};
  const Json beside = beside_of(document);
  int colour = 0;
  for (const auto& [name, field] : lines) {
    Series line{.name = name, .colour = colour++ % 8};
    for (const auto& step : beside["steps"])
      line.points.emplace_back(step["in_flight"].get<double>(), step[field].get<double>());
    chart.series.push_back(std::move(line));
  }
  if (!document.contains("batch")) chart.marks.push_back({beside.value("advised", 1.0), "advised"});
  return chart;
}

void add_concurrency(report::Page& page, const Json& document) {
  const Json beside = beside_of(document);
  if (beside.empty()) return;
  if (document.contains("batch")) {
    page.section("How many calls in a batch",
                 "A closed loop on one worker, with more and more calls in flight, and no wait for "
                 "others. Advised are the smallest batches that carry nine tenths of the most.");
  } else {
    page.section("How many calls at once in a worker",
                 "A closed loop on one worker, with more and more calls in flight. Advised are the "
                 "fewest that carry nine tenths of the most.");
  }
  for (const auto& sentence : words_about_concurrency(document)) page.paragraph(sentence);
  page.table(flights_of(document));
  if (beside["steps"].size() < 2) return;
  page.figure(draw(flight_chart(document, {.label = "calls a second"},
                                {{"answered a second", "per_second"}})),
              "Calls a second over calls in flight");
  page.figure(draw(flight_chart(document, {.label = "ms", .scale = report::Scale::kLog},
                                {{"p50", "p50_ms"}, {"p99", "p99_ms"}})),
              "Latency over calls in flight");
}

std::string html(const Json& document) {
  const Summary summary = summarize(document);
  report::Page page("How much it carries", fmt::format("{} of {}", document.value("function", ""),
                                                       document.value("app", "")));
  page.banner(
      summary.tone, summary.verdict, summary.sentence,
      {{"objective", fmt::format("p99 within {:.3g} ms", document.value("objective_p99_ms", 0.0))},
       {"payload", fmt::format("{} bytes", document.value("payload_bytes", 0))},
       {"sessions",
        document.value("sessions", 0) ? std::to_string(document.value("sessions", 0)) : "none"},
       {"profile", document.value("profile", "")},
       {"took", fmt::format("{:.0f} s", document.value("took_s", 0.0))}});
  page.section("What to set");
  if (document.contains("advice")) {
    for (const auto& sentence : document["advice"]["sentences"])
      page.paragraph(sentence.get<std::string>());
    page.code(settings_of(document));
  }
  if (const auto first = first_call_text(document); !first.empty()) page.paragraph(first);
  page.table(pools_of(document));
  add_concurrency(page, document);
  page.section(
      "Where the knee is",
      "Poisson arrivals at rising rates; latency counts from the planned time of each call, so "
      "waiting is in it. Left of the knee more load costs little; right of it the "
      "queue grows for as long as the load lasts.");
  page.figure(draw(latency_chart(document)),
              "Latency over offered load; the dashed lines are the knees, found by bisection");
  page.figure(draw(goodput_chart(document)), "Answered over offered");
  if (document.contains("percentiles")) {
    page.section("Latencies near the knee",
                 fmt::format("{} workers, at the last rate that was carried.",
                             document["percentiles"].value("workers", 0)));
    page.figure(draw(percentile_chart(document["percentiles"]["series"])),
                "Every call, by share of calls that took no longer");
  }
  page.section("Every step");
  page.table(steps_of(document));
  add_environment(page, document,
                  fmt::format("keelback bench app {} {} --profile {} --seed {}",
                              document.value("app", ""), document.value("function", ""),
                              document.value("profile", ""), document.value("seed", 0)));
  return page.html();
}

std::string junit(const Json& document) {
  const Summary summary = summarize(document);
  return junit_text("keelback bench app", {{document.value("function", ""),
                                            summary.tone == Tone::kGood ? "" : summary.sentence}});
}

std::string markdown(const Json& document) {
  const Summary summary = summarize(document);
  std::string out = fmt::format("### {}: {}\n\n", summary.verdict, summary.sentence) +
                    markdown_table(pools_of(document)) + "\n";
  if (const auto words = words_about_concurrency(document); !words.empty()) {
    out += markdown_table(flights_of(document)) + "\n";
    for (const auto& sentence : words) out += "- " + sentence + "\n";
  }
  if (document.contains("advice")) {
    for (const auto& sentence : document["advice"]["sentences"])
      out += "- " + sentence.get<std::string>() + "\n";
  }
  return out;
}

}  // namespace

const ReportKind kAppReport = {"keelback-bench-app/1", text, html, junit, markdown};

}  // namespace keelback::bench
