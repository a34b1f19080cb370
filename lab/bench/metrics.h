// What a lifecycle block yields, one row a metric, and what the gate does with it.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "bench/sequential.h"

namespace keelback::bench {

struct Metric {
  std::string_view id;      // "call.p50_us"
  std::string_view family;  // "call"
  std::string_view unit;
  bool higher_is_better;
  bool gated;        // judged; otherwise reported with its interval only
  double tolerance;  // delta_tol; research: what a run of this kind can resolve
  std::string_view doc;
};

std::span<const Metric> metrics();
const Metric* find_metric(std::string_view id);

// Counters that must be equal on both sides, to within `slack`: no statistics.
struct Counter {
  std::string_view id;
  double slack;
  std::string_view doc;
  bool one_cpu = false;  // the same every time only where both sides share a processor
};
std::span<const Counter> counters();

}  // namespace keelback::bench
