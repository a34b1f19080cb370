// Charts as inline SVG, coloured by the page's style sheet (--c0 … --c7), so they follow light,
// dark and paper. All functions are pure: the same data give the same bytes. Empty data give a
// chart that says so.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keelback::report {

enum class Scale { kLinear, kLog };

struct Axis {
  std::string label;
  Scale scale = Scale::kLinear;
  std::optional<double> low, high;  // default: from the data (linear axes include 0)
  std::vector<std::pair<double, std::string>> ticks =
      {};  // instead of round numbers, e.g. "99.9 %"
};

struct Series {
  std::string name;
  int colour = 0;                                 // 0 … 7
  std::vector<std::pair<double, double>> points;  // x ascending
  enum class Kind { kLine, kSteps, kDots, kArea, kBand } kind = Kind::kLine;
  std::vector<double> lower = {};  // of kBand: its lower edge, one a point; never in the legend
  bool unnamed = false;            // not in the legend: another series speaks for it
};

struct Shade {  // a stretch of x, such as a fault's window
  double from = 0, to = 0;
  std::string label;
};
struct Mark {  // a vertical line, such as a rung of the recovery ladder
  double at = 0;
  std::string label;
};

struct Chart {
  Axis x, y;
  std::vector<Series> series;
  bool stacked = false;  // areas are stacked in the order given; they must share their x values
  std::vector<Shade> shades;
  std::vector<Mark> marks;
  int height = 260;
};
std::string draw(const Chart& chart);

// Rows of intervals over one time axis: slots and their states, sessions and their homes.
struct Lane {
  std::string name;
  struct Span {
    double from = 0, to = 0;
    int colour = 0;
    std::string title;  // shown on hover
    std::string label;  // written into the span, if it fits
  };
  std::vector<Span> spans;
  std::vector<double> ticks;  // small marks, such as calls
};
struct Lanes {
  Axis x;
  std::vector<Lane> lanes;
  std::vector<Shade> shades;
  std::vector<Mark> marks;
  std::vector<std::pair<std::string, int>> legend;  // name, colour
};
std::string draw(const Lanes& lanes);

// What happened after one moment each: named points on a common logarithmic axis, a row for each
// moment. Close names step up and down so that they stay readable.
struct Ladders {
  Axis x;  // always drawn logarithmic
  struct Row {
    std::string name;
    std::vector<std::pair<std::string, double>> points;
    std::string note;  // at the end of the row: what was never reached
  };
  std::vector<Row> rows;
};
std::string draw(const Ladders& ladders);

// Estimates with intervals against zones: |x| < ignored, x > tolerated.
struct Forest {
  struct Row {
    std::string name;
    double value = 0, low = 0, high = 0;  // in the axis' unit, e.g. percent
    double ignored = 0, tolerated = 0;
    int colour = 7;
    std::string verdict;
  };
  std::string label;
  std::vector<Row> rows;
};
std::string draw(const Forest& forest);

// Counts over time (x) and value (y, logarithmic), darker for more.
struct Heat {
  Axis x, y;  // y is always drawn logarithmic
  double x_step = 1;
  int y_bins = 40;
  std::vector<std::pair<double, double>> points;
  std::vector<Shade> shades;
  std::vector<Mark> marks;
  std::vector<std::pair<double, double>> failed;  // drawn as crosses over the counts
};
std::string draw(const Heat& heat);

// Consecutive named stages, one bar a row: start-up, recovery, the stages of a call.
struct Waterfall {
  std::string unit;  // "ms"
  struct Row {
    std::string name;
    std::vector<std::pair<std::string, double>> stages;  // name, length
  };
  std::vector<Row> rows;
};
std::string draw(const Waterfall& waterfall);

}  // namespace keelback::report
