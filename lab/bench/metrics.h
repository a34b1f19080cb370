// Every metric of the laboratory, one row each: its name, its unit, how it is measured, what it
// says, and what is done with it. `run` reports the rows, `compare` judges those that are compared,
// `peers` measures those that are held against an alternative or a number.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

namespace keelback::bench {

enum class Better : std::uint8_t { kLess, kMore };

// What `compare` does with a metric.
enum class Compared : std::uint8_t {
  kNo,
  kReported,        // with its interval; it never fails a run
  kGated,           // judged: a regression fails the run
  kCounted,         // must be equal on both sides, give or take `tolerance`; no statistics
  kCountedOnOneCpu  // the same, only where both sides share a processor
};

inline constexpr double kNoPromise = std::numeric_limits<double>::quiet_NaN();

struct Metric {
  std::string_view id;  // "call.p50_us"; its family stands before the point
  std::string_view unit;
  Better better;
  // "STEP.FIELD": that field of the answer to the order that a block gives as that step
  // (bench/block.h). Empty: the family's code computes it.
  std::string_view from;
  std::string_view doc;
  Compared compared = Compared::kNo;
  // Of what is judged: how much slower (a share) is still fine, which is what a run can resolve.
  // Of what is counted: how much more is still equal.
  double tolerance = 0;
  double required = kNoPromise;        // a promise: `run` fails if any block has another value
  std::string_view compare_name = {};  // in documents of `compare`; empty: the same as `id`
  bool only_compared = false;          // `run` does not measure it
  // Of `peers` alone. An id with "*" stands for each alternative that has no row of its own.
  bool held = false;
  double target = 0;  // what the ratio to `against`, or the value, must be; 0: for information
  std::string_view against = {};  // empty: known when it is measured
  std::string_view limit = {};    // what bounds it; shown if the target is missed

  std::string_view family() const { return id.substr(0, id.find('.')); }
  std::string_view step() const { return from.substr(0, from.find('.')); }
  std::string_view field() const { return from.substr(from.find('.') + 1); }
  std::string_view compare_id() const { return compare_name.empty() ? id : compare_name; }
  bool in_run() const { return !only_compared && !held; }
  bool promised() const { return required == required; }
  bool gated() const { return compared == Compared::kGated; }
  bool judged() const { return gated() || compared == Compared::kReported; }
  bool counted() const { return compared >= Compared::kCounted; }
};

std::span<const Metric> metrics();
// By its name in documents of `run` or of `compare`; null: there is none.
const Metric* find_metric(std::string_view name);

}  // namespace keelback::bench
