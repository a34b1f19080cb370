#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/report_kinds.h"
#include "bench/scaling_law.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using report::Axis;
using report::Chart;
using report::Scale;
using report::Series;

Scale scale_of(const Json& figure, const char* field) {
  return figure.value(field, false) ? Scale::kLog : Scale::kLinear;
}

std::vector<report::Mark> marks_of(const Json& figure) {
  std::vector<report::Mark> marks;
  for (const auto& mark : figure.value("marks", Json::array()))
    marks.push_back({mark[0].get<double>(), mark[1].get<std::string>()});
  return marks;
}

// Medians with what the blocks span around them.
void add_points(Chart& chart, const std::string& name, const Json& points, int colour, bool line) {
  Series band{.name = name, .colour = colour, .kind = Series::Kind::kBand};
  Series dots{.name = name, .colour = colour, .kind = Series::Kind::kDots};
  for (const auto& point : points) {
    if (point[1].is_null()) continue;
    const double x = point[0].get<double>();
    dots.points.emplace_back(x, point[1].get<double>());
    band.points.emplace_back(x, point[3].get<double>());
    band.lower.push_back(point[2].get<double>());
  }
  chart.series.push_back(band);
  if (line) {
    Series through = dots;
    through.kind = Series::Kind::kLine;
    chart.series.push_back(std::move(through));
    dots.unnamed = true;
  }
  chart.series.push_back(std::move(dots));
}

Chart curve_chart(const Json& figure) {
  Chart chart{.x = {.label = figure.value("x", ""), .scale = scale_of(figure, "log_x")},
              .y = {.label = figure.value("y", ""), .scale = scale_of(figure, "log_y")},
              .marks = marks_of(figure)};
  int colour = 0;
  for (const auto& series : figure.value("series", Json::array()))
    add_points(chart, series.value("name", ""), series["points"], colour++ % 8, true);
  return chart;
}

std::string interval_text(const Json& fit, const char* name, const char* field,
                          const char* pattern) {
  const auto& interval = fit[field];
  return fmt::format("{} = {} [{}, {}]", name,
                     fmt::format(fmt::runtime(pattern), fit[name].get<double>()),
                     fmt::format(fmt::runtime(pattern), interval[0].get<double>()),
                     fmt::format(fmt::runtime(pattern), interval[1].get<double>()));
}

void add_scaling(report::Page& page, const Json& figure) {
  Chart chart{.x = {.label = figure.value("x", "")}, .y = {.label = figure.value("y", "")}};
  const Json points = figure.value("points", Json::array());
  add_points(chart, "measured", points, 0, false);
  std::string caption = figure.value("title", "");
  if (figure.contains("fit") && !points.empty()) {
    const Json& fit = figure["fit"];
    const ScalingLaw fitted{fit["lambda"], fit["sigma"], fit["kappa"]};
    const double furthest = points.back()[0].get<double>();
    Series law{.name = "fitted law", .colour = 1}, ideal{.name = "linear", .colour = 7};
    for (double n = 1; n <= furthest * 1.001; n += furthest / 100)
      law.points.emplace_back(n, fitted.at(n));
    // The straight line only as far as it stays in the picture.
    double most = 0;
    for (const auto& point : points) most = std::max(most, point[3].get<double>());
    const double last = std::min(furthest, 1.15 * most / fitted.lambda);
    ideal.points = {{1, fitted.lambda}, {last, fitted.lambda * last}};
    chart.series.push_back(std::move(law));
    chart.series.push_back(std::move(ideal));
    caption += fmt::format(
        ". X(N) = lambda N / (1 + sigma (N-1) + kappa N (N-1)): {} calls/s a worker, {} serial, {} "
        "crosstalk",
        interval_text(fit, "lambda", "lambda_interval", "{:.0f}"),
        interval_text(fit, "sigma", "sigma_interval", "{:.3f}"),
        interval_text(fit, "kappa", "kappa_interval", "{:.4f}"));
    if (fit.contains("peak") && fit["peak"].get<double>() <= 2 * furthest)
      caption +=
          fmt::format("; most calls a second near {:.0f} workers", fit["peak"].get<double>());
    caption += ". Not to be trusted beyond twice the largest N measured.";
  }
  page.figure(draw(chart), caption);
}

void add_waterfall(report::Page& page, const Json& figure) {
  report::Waterfall waterfall{.unit = "ms"};
  for (const auto& row : figure.value("rows", Json::array())) {
    waterfall.rows.push_back({.name = row.value("name", "")});
    for (const auto& stage : row["stages"])
      waterfall.rows.back().stages.emplace_back(stage[0].get<std::string>(),
                                                stage[1].get<double>());
  }
  page.figure(draw(waterfall), figure.value("title", "") + " (medians over blocks, ms)");
}

void add_heat(report::Page& page, const Json& figure) {
  report::Heat heat{.x = {.label = figure.value("x", "")},
                    .y = {.label = figure.value("y", "")},
                    .marks = marks_of(figure)};
  double longest = 0;
  for (const auto& point : figure.value("points", Json::array())) {
    (point[2].get<bool>() ? heat.points : heat.failed)
        .emplace_back(point[0].get<double>(), point[1].get<double>());
    longest = std::max(longest, point[0].get<double>());
  }
  heat.x_step = std::max(1e-3, longest / 120);
  page.figure(draw(heat), figure.value("title", "") + "; darker: more calls");
}

}  // namespace

Chart percentile_chart(const Json& series) {
  static constexpr double kNines[] = {0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999};
  Chart chart{.x = {.label = "share of calls that took no longer"},
              .y = {.label = "ms", .scale = Scale::kLog}};
  const auto nines = [](double q) { return -std::log10(1 - q); };
  double furthest = 1;
  int colour = 0;
  for (const auto& one : series) {
    std::uint64_t total = 0;
    for (const auto& bucket : one["buckets"])
      total += bucket[1].get<std::uint64_t>() + bucket[2].get<std::uint64_t>();
    const std::string name = one.value("name", "");
    Series line{.name = name, .colour = colour % 8, .kind = Series::Kind::kSteps};
    Series bound{.name = name + ", at least", .colour = colour++ % 8, .kind = Series::Kind::kDots};
    std::uint64_t seen = 0;
    bool censored = false;
    double last = -1;
    for (const auto& bucket : one["buckets"]) {
      seen += bucket[1].get<std::uint64_t>() + bucket[2].get<std::uint64_t>();
      censored |= bucket[2].get<std::uint64_t>() > 0;
      // The greatest value is that of one call; the curve ends there.
      const double q = std::min(static_cast<double>(seen) / static_cast<double>(total),
                                1 - 0.5 / static_cast<double>(total));
      const double x = nines(q), y = bucket[0].get<double>() / 1e6;
      if (x - last < 0.004 && seen != total) continue;
      last = x;
      furthest = std::max(furthest, x);
      (censored ? bound : line).points.emplace_back(x, std::max(y, 1e-6));
    }
    if (!line.points.empty()) chart.series.push_back(std::move(line));
    if (!bound.points.empty()) chart.series.push_back(std::move(bound));
  }
  for (const double q : kNines) {
    if (nines(q) <= furthest) chart.x.ticks.emplace_back(nines(q), fmt::format("{:g} %", 100 * q));
  }
  chart.x.low = 0;
  return chart;
}

void add_figure(report::Page& page, const Json& figure) {
  const std::string kind = figure.value("kind", "");
  if (kind == "curve")
    page.figure(draw(curve_chart(figure)),
                figure.value("title", "") + "; dots: medians over blocks, band: all blocks");
  if (kind == "percentiles")
    page.figure(draw(percentile_chart(figure.value("series", Json::array()))),
                figure.value("title", ""));
  if (kind == "scaling") add_scaling(page, figure);
  if (kind == "waterfall") add_waterfall(page, figure);
  if (kind == "heat") add_heat(page, figure);
}

}  // namespace keelback::bench
