#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "report/page.h"

namespace keelback::report {
namespace {

constexpr double kWidth = 1000, kLeft = 92, kRight = 56, kTop = 22, kBottom = 38;

// 1234567 -> "1.2M", 0.00042 -> "0.00042".
std::string short_number(double value) {
  const double size = std::abs(value);
  if (size >= 1e9) return fmt::format("{:.3g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.3g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.3g}k", value / 1e3);
  return fmt::format("{:.4g}", value);
}

// Maps data to pixels along one axis.
class Mapping {
 public:
  Mapping(const Axis& axis, double low, double high, double from, double to)
      : log_(axis.scale == Scale::kLog), from_(from), to_(to) {
    low_ = axis.low.value_or(low);
    high_ = axis.high.value_or(high);
    if (log_) {
      low_ = std::max(low_, 1e-9);
      high_ = std::max(high_, low_ * 1.001);
    } else if (!axis.low && low_ > 0) {
      low_ = 0;
    }
    if (!(high_ > low_)) high_ = low_ + 1;
  }
  double operator()(double value) const {
    value = std::clamp(value, -1e16, 1e16);
    const double share = log_ ? std::log(std::max(value, low_) / low_) / std::log(high_ / low_)
                              : (value - low_) / (high_ - low_);
    return from_ + std::clamp(share, -0.02, 1.02) * (to_ - from_);
  }
  std::vector<double> ticks() const {
    std::vector<double> out;
    if (log_) {
      for (double t = std::pow(10, std::floor(std::log10(low_))); t <= high_ * 1.0001; t *= 10) {
        for (double m : {1.0, 2.0, 5.0}) {
          if (t * m >= low_ * 0.999 && t * m <= high_ * 1.001) out.push_back(t * m);
        }
      }
      if (out.size() > 10) {
        std::erase_if(out, [](double t) {
          return std::abs(std::log10(t) - std::round(std::log10(t))) > 1e-9;
        });
      }
      return out;
    }
    const double raw = (high_ - low_) / 6;
    const double power = std::pow(10, std::floor(std::log10(raw)));
    const double unit = raw / power;
    const double step = power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10);
    for (double t = std::ceil(low_ / step) * step; t <= high_ + step * 1e-6; t += step) {
      out.push_back(std::abs(t) < step * 1e-9 ? 0 : t);
    }
    return out;
  }

 private:
  bool log_;
  double low_ = 0, high_ = 1, from_, to_;
};

struct Extent {
  double low = INFINITY, high = -INFINITY;
  void add(double v) {
    if (!std::isfinite(v)) return;
    v = std::clamp(v, -1e15,
                   1e15);  // nothing we plot is larger; arithmetic on the axis stays finite
    low = std::min(low, v);
    high = std::max(high, v);
  }
  bool empty() const { return low > high; }
};

std::string open_svg(double height) {
  return fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\">", kWidth, height);
}

std::string text(double x, double y, std::string_view anchor, std::string_view content,
                 std::string_view extra = {}) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" {}>{}</text>", x, y,
                     anchor, extra, escape(content));
}

std::string line(double x1, double y1, double x2, double y2, std::string_view css) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>",
                     x1, y1, x2, y2, css);
}

std::string rect(double x, double y, double w, double h, int colour, double opacity,
                 std::string_view title = {}) {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"var(--c{})\" "
      "fill-opacity=\"{:.2f}\">{}</rect>",
      x, y, std::max(w, 0.5), h, colour, opacity,
      title.empty() ? std::string() : "<title>" + escape(title) + "</title>");
}

std::string nothing() {
  return open_svg(60) + text(kWidth / 2, 34, "middle", "no data") + "</svg>";
}

std::vector<std::pair<double, std::string>> labelled_ticks(const Mapping& x, const Axis& axis) {
  if (!axis.ticks.empty()) return axis.ticks;
  std::vector<std::pair<double, std::string>> ticks;
  for (double t : x.ticks()) ticks.emplace_back(t, short_number(t));
  return ticks;
}

std::string x_axis(const Mapping& x, const Axis& axis, double bottom, double height) {
  std::string out = line(kLeft, bottom, kWidth - kRight, bottom, "axis");
  for (const auto& [t, label] : labelled_ticks(x, axis)) {
    out += line(x(t), bottom, x(t), bottom + 4, "axis") + text(x(t), bottom + 16, "middle", label);
  }
  return out + text(kWidth / 2, height - 6, "middle", axis.label);
}

std::string shades_and_marks(const Mapping& x, const std::vector<Shade>& shades,
                             const std::vector<Mark>& marks, double top, double bottom) {
  std::string out;
  for (const Shade& shade : shades) {
    out += fmt::format(
        "<rect class=\"shade\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
        x(shade.from), top, std::max(1.5, x(shade.to) - x(shade.from)), bottom - top);
    out += text(x(shade.from) + 3, top - 6, "start", shade.label, "class=\"strong\"");
  }
  double row = 0;
  for (const Mark& mark : marks) {  // labels step down so that close ones stay readable
    out += line(x(mark.at), top, x(mark.at), bottom, "mark");
    out += text(x(mark.at) + 3, top + 11 + 12 * row, "start", mark.label, "class=\"strong\"");
    row = row >= 5 ? 0 : row + 1;
  }
  return out;
}

std::string legend(const std::vector<std::pair<std::string, int>>& entries) {
  std::string out;
  double at = kWidth - kRight;
  for (auto it = entries.rbegin(); it != entries.rend(); ++it) {
    at -= 7.0 * static_cast<double>(it->first.size()) + 26;
    out += rect(at, 2, 10, 10, it->second, 0.9) + text(at + 14, 11, "start", it->first);
  }
  return out;
}

// Areas become cumulative when the chart is stacked.
std::vector<Series> stack(const Chart& chart) {
  std::vector<Series> out = chart.series;
  if (!chart.stacked) return out;
  std::map<double, double> sum;
  for (Series& series : out) {
    if (series.kind != Series::Kind::kArea) continue;
    for (auto& [x, y] : series.points) y = sum[x] += y;
  }
  return out;
}

std::string draw_band(const Series& series, const Mapping& x, const Mapping& y) {
  std::string upper, lower;
  for (std::size_t i = 0; i < std::min(series.points.size(), series.lower.size()); ++i) {
    const auto& [px, py] = series.points[i];
    if (!std::isfinite(py) || !std::isfinite(series.lower[i])) continue;
    upper += fmt::format("{}{:.1f} {:.1f}", upper.empty() ? "M" : "L", x(px), y(py));
    lower = fmt::format("L{:.1f} {:.1f}", x(px), y(series.lower[i])) + lower;
  }
  return fmt::format("<path d=\"{}{}Z\" fill=\"var(--c{})\" fill-opacity=\".16\"/>", upper, lower,
                     series.colour);
}

std::string draw_series(const Series& series, const Mapping& x, const Mapping& y, double bottom) {
  if (series.points.empty()) return {};
  if (series.kind == Series::Kind::kBand) return draw_band(series, x, y);
  std::string path;
  double last_y = 0;
  for (const auto& [px, py] : series.points) {
    if (!std::isfinite(py)) continue;
    if (path.empty()) {
      path = fmt::format("M{:.1f} {:.1f}", x(px), y(py));
    } else if (series.kind == Series::Kind::kSteps) {
      path += fmt::format("L{:.1f} {:.1f}L{:.1f} {:.1f}", x(px), last_y, x(px), y(py));
    } else {
      path += fmt::format("L{:.1f} {:.1f}", x(px), y(py));
    }
    last_y = y(py);
  }
  if (series.kind == Series::Kind::kDots) {
    std::string out;
    for (const auto& [px, py] : series.points) {
      out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"var(--c{})\"/>", x(px),
                         y(py), series.colour);
    }
    return out;
  }
  if (series.kind == Series::Kind::kArea) {
    path += fmt::format("L{:.1f} {:.1f}L{:.1f} {:.1f}Z", x(series.points.back().first), bottom,
                        x(series.points.front().first), bottom);
    return fmt::format("<path d=\"{}\" fill=\"var(--c{})\" fill-opacity=\".95\"/>", path,
                       series.colour);
  }
  return fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"var(--c{})\" stroke-width=\"1.8\"/>",
                     path, series.colour);
}

}  // namespace

std::string draw(const Chart& chart) {
  Extent xs, ys;
  const std::vector<Series> all = stack(chart);
  for (const Series& series : all) {
    for (const auto& [x, y] : series.points) {
      xs.add(x);
      ys.add(y);
    }
    for (double y : series.lower) ys.add(y);
  }
  if (xs.empty()) return nothing();
  for (const Shade& shade : chart.shades) xs.add(shade.to);
  const double height = chart.height + kTop + kBottom;
  const double bottom = height - kBottom;
  Axis x_plain = chart.x;
  if (!x_plain.low && x_plain.scale == Scale::kLinear) x_plain.low = xs.low;
  const Mapping x(x_plain, xs.low, xs.high, kLeft, kWidth - kRight);
  const Mapping y(chart.y, ys.low, ys.high * (chart.y.scale == Scale::kLog ? 1 : 1.05), bottom,
                  kTop);

  std::string out = open_svg(height) + x_axis(x, chart.x, bottom, height);
  for (double t : y.ticks()) {
    out += line(kLeft, y(t), kWidth - kRight, y(t), "axis") +
           text(kLeft - 6, y(t) + 4, "end", short_number(t));
  }
  out += text(kLeft, kTop - 10, "start", chart.y.label, "class=\"strong\"");
  // Stacked areas are cumulative, so the largest is painted first.
  std::vector<std::pair<std::string, int>> names;
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    if (it->kind == Series::Kind::kArea) out += draw_series(*it, x, y, bottom);
  }
  for (const Series& series : all) {
    if (series.kind != Series::Kind::kBand && !series.unnamed)
      names.emplace_back(series.name, series.colour);
    if (series.kind != Series::Kind::kArea) out += draw_series(series, x, y, bottom);
  }
  out += shades_and_marks(x, chart.shades, chart.marks, kTop, bottom);
  return out + legend(names) + "</svg>";
}

std::string draw(const Lanes& lanes) {
  Extent xs;
  for (const Lane& lane : lanes.lanes) {
    for (const Lane::Span& span : lane.spans) {
      xs.add(span.from);
      xs.add(span.to);
    }
  }
  if (xs.empty()) return nothing();
  constexpr double kRow = 20;
  const double bottom = kTop + 6 + kRow * static_cast<double>(lanes.lanes.size());
  const double height = bottom + kBottom;
  Axis axis = lanes.x;
  if (!axis.low) axis.low = xs.low;
  const Mapping x(axis, xs.low, xs.high, kLeft, kWidth - kRight);
  std::string out = open_svg(height) + x_axis(x, lanes.x, bottom, height);
  double y = kTop + 4;
  for (const Lane& lane : lanes.lanes) {
    out += text(kLeft - 6, y + 14, "end", lane.name);
    for (const Lane::Span& span : lane.spans) {
      out += rect(x(span.from), y + 2, x(span.to) - x(span.from), kRow - 5, span.colour, 0.8,
                  span.title);
      const double room = x(span.to) - x(span.from);
      if (!span.label.empty() && room > 7.0 * static_cast<double>(span.label.size()) + 4) {
        out += text(x(span.from) + 4, y + 14, "start", span.label, "class=\"inside\"");
      }
    }
    for (double tick : lane.ticks) out += line(x(tick), y, x(tick), y + kRow - 2, "rule");
    y += kRow;
  }
  out += shades_and_marks(x, lanes.shades, lanes.marks, kTop, bottom);
  return out + legend(lanes.legend) + "</svg>";
}

std::string draw(const Ladders& ladders) {
  Extent xs;
  for (const Ladders::Row& row : ladders.rows) {
    for (const auto& [name, value] : row.points) xs.add(std::max(value, 1e-9));
  }
  if (xs.empty()) return nothing();
  constexpr double kRow = 58, kNames = 150, kNotes = 190;
  const double bottom = kTop + kRow * static_cast<double>(ladders.rows.size());
  const double height = bottom + kBottom;
  Axis axis = ladders.x;
  axis.scale = Scale::kLog;
  const Mapping x(axis, xs.low, xs.high, kNames, kWidth - kNotes);
  std::string out = open_svg(height);
  for (double t : x.ticks()) {
    out +=
        line(x(t), kTop, x(t), bottom, "axis") + text(x(t), bottom + 16, "middle", short_number(t));
  }
  double y = kTop;
  for (const Ladders::Row& row : ladders.rows) {
    const double middle = y + kRow / 2;
    out += text(kNames - 14, middle + 4, "end", row.name, "class=\"strong\"");
    out += line(kNames, middle, kWidth - kNotes, middle, "rule");
    auto points = row.points;
    std::ranges::stable_sort(points, {}, [](const auto& point) { return point.second; });
    double taken[4] = {-1e9, -1e9, -1e9, -1e9};  // where each level's last name ends
    constexpr double kLevel[4] = {-10, 19, -22, 31};
    for (const auto& [name, value] : points) {
      const double at = x(std::max(value, 1e-9));
      const std::string words = name + " " + short_number(value);
      const double wide = 6.2 * static_cast<double>(words.size());
      // Beside the point rather than over the row's name or its note.
      const double from = std::clamp(at - wide / 2, kNames - 6.0,
                                     std::max(kNames - 6.0, kWidth - kNotes + 6 - wide));
      const auto level = static_cast<std::size_t>(
          std::ranges::find_if(taken, [&](double end) { return end < from; }) - taken);
      const std::size_t used = std::min<std::size_t>(level, 3);
      taken[used] = from + wide + 6;
      out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"var(--c0)\"/>", at,
                         middle);
      out += text(from, middle + kLevel[used], "start", words, "class=\"strong\"");
    }
    out += text(kWidth - kNotes + 12, middle + 4, "start", row.note, "class=\"strong\"");
    y += kRow;
  }
  return out + text((kNames + kWidth - kNotes) / 2, height - 6, "middle", ladders.x.label) +
         "</svg>";
}

std::string draw(const Forest& forest) {
  if (forest.rows.empty()) return nothing();
  Extent xs;
  for (const Forest::Row& row : forest.rows) {
    for (double v : {row.low, row.high, -row.tolerated * 1.2, row.tolerated * 1.4}) xs.add(v);
  }
  constexpr double kRow = 24, kNames = 300;
  const double bottom = kTop + kRow * static_cast<double>(forest.rows.size());
  const double height = bottom + kBottom;
  const Mapping x(Axis{.scale = Scale::kLinear, .low = xs.low, .high = xs.high}, xs.low, xs.high,
                  kNames, kWidth - 290);
  std::string out = open_svg(height);
  double y = kTop;
  for (const Forest::Row& row : forest.rows) {
    const double middle = y + kRow / 2;
    out += rect(x(-row.ignored), y + 2, x(row.ignored) - x(-row.ignored), kRow - 4, 2, 0.18,
                "ignored");
    out += fmt::format(
        "<rect class=\"shade\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
        x(row.tolerated), y + 2, std::max(0.0, x(xs.high) - x(row.tolerated)), kRow - 4);
    out += text(kNames - 10, middle + 4, "end", row.name, "class=\"strong\"");
    out += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"var(--c{})\" "
        "stroke-width=\"2.5\"/>",
        x(row.low), middle, x(row.high), middle, row.colour);
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" fill=\"var(--c{})\"/>",
                       x(row.value), middle, row.colour);
    out += text(
        kWidth - 284, middle + 4, "start",
        fmt::format("{:+.2f} [{:+.2f}, {:+.2f}] {}", row.value, row.low, row.high, row.verdict));
    y += kRow;
  }
  out += line(x(0), kTop, x(0), bottom, "rule");
  for (double t : x.ticks()) out += text(x(t), bottom + 16, "middle", short_number(t));
  return out + text((kNames + kWidth - 290) / 2, height - 6, "middle", forest.label) + "</svg>";
}

std::string draw(const Heat& heat) {
  Extent xs, ys;
  for (const auto* points : {&heat.points, &heat.failed}) {
    for (const auto& [x, y] : *points) {
      xs.add(x);
      ys.add(std::max(y, 1e-9));
    }
  }
  if (xs.empty()) return nothing();
  const double height = 260 + kTop + kBottom, bottom = height - kBottom;
  Axis x_scale = heat.x, y_scale = heat.y;
  if (!x_scale.low) x_scale.low = xs.low;
  y_scale.scale = Scale::kLog;
  const Mapping x(x_scale, xs.low, xs.high + heat.x_step, kLeft, kWidth - kRight);
  const Mapping y(y_scale, ys.low, ys.high * 1.1, bottom, kTop);
  const double cell = (bottom - kTop) / heat.y_bins;
  std::map<std::pair<long, long>, int> counts;
  int most = 1;
  for (const auto& [px, py] : heat.points) {
    const auto column = std::lround(std::floor((px - xs.low) / heat.x_step));
    const auto row = std::clamp(std::lround(std::floor((y(std::max(py, 1e-9)) - kTop) / cell)), 0L,
                                static_cast<long>(heat.y_bins) - 1);
    most = std::max(most, ++counts[{column, row}]);
  }
  std::string out = open_svg(height) + x_axis(x, heat.x, bottom, height);
  for (const auto& [at, count] : counts) {
    const double from = xs.low + static_cast<double>(at.first) * heat.x_step;
    out +=
        rect(x(from), kTop + static_cast<double>(at.second) * cell, x(from + heat.x_step) - x(from),
             cell, 0, 0.12 + 0.88 * std::log1p(count) / std::log1p(most), std::to_string(count));
  }
  for (double t : y.ticks()) out += text(kLeft - 6, y(t) + 4, "end", short_number(t));
  out += text(kLeft, kTop - 10, "start", heat.y.label, "class=\"strong\"");
  for (const auto& [px, py] : heat.failed)
    out += fmt::format(
        "<path d=\"M{0:.1f} {2:.1f}L{1:.1f} {3:.1f}M{0:.1f} {3:.1f}L{1:.1f} {2:.1f}\" "
        "stroke=\"var(--c6)\" stroke-width=\"1.5\"/>",
        x(px) - 3, x(px) + 3, y(py) - 3, y(py) + 3);
  if (!heat.failed.empty()) out += legend({{"did not succeed", 6}});
  return out + shades_and_marks(x, heat.shades, heat.marks, kTop, bottom) + "</svg>";
}

std::string draw(const Waterfall& waterfall) {
  double longest = 0;
  for (const auto& row : waterfall.rows) {
    double sum = 0;
    for (const auto& [name, length] : row.stages) sum += length;
    longest = std::max(longest, sum);
  }
  if (!(longest > 0)) return nothing();
  constexpr double kRow = 30, kNames = 200;
  const double bottom = kTop + kRow * static_cast<double>(waterfall.rows.size());
  const Mapping x(Axis{}, 0, longest, kNames, kWidth - 90);
  std::string out = open_svg(bottom + kBottom);
  double y = kTop;
  std::map<std::string, int> colours;
  for (const auto& row : waterfall.rows) {
    out += text(kNames - 8, y + 17, "end", row.name, "class=\"strong\"");
    double at = 0;
    for (const auto& [name, length] : row.stages) {
      const int colour =
          colours.try_emplace(name, static_cast<int>(colours.size()) % 8).first->second;
      out += rect(x(at), y + 3, x(at + length) - x(at), kRow - 8, colour, 0.85,
                  fmt::format("{} {:.3g} {}", name, length, waterfall.unit));
      at += length;
    }
    out +=
        text(x(at) + 6, y + 17, "start",
             fmt::format("{} {}", at >= 100 ? fmt::format("{:.0f}", at) : fmt::format("{:.3g}", at),
                         waterfall.unit));
    y += kRow;
  }
  for (double t : x.ticks()) out += text(x(t), bottom + 16, "middle", short_number(t));
  std::vector<std::pair<std::string, int>> names(colours.begin(), colours.end());
  std::sort(names.begin(), names.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });
  return out + legend(names) + "</svg>";
}

}  // namespace keelback::report
