// Where a metric's history changed its level. The statistic of a split is the difference of the two
// sides' means over its spread; the best split of all is held against the best splits of shuffled
// histories, so that looking everywhere is paid for (a t-test at the chosen split is not: on pure
// noise it finds a change in every tenth series). Shuffled are blocks of three, because neighbours
// resemble each other. One split at a time is looked for, so a level that comes and soon goes again
// can stay unseen. Advisory: it says where to look, never that a build is bad.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace keelback::bench {

struct ChangePoint {
  std::size_t at = 0;  // the first value of the new level
  double before = 0;   // means of the segments on both sides
  double after = 0;
  double p = 1;
};

struct ChangeOptions {
  double alpha = 0.01;          // of each series
  std::size_t segment_min = 4;  // a level lasts so long
  std::size_t shuffle_block = 3;
  int shuffles = 999;
  std::uint64_t seed = 1;
};

// Ascending. Series shorter than two segments have none.
std::vector<ChangePoint> change_points(std::span<const double> series,
                                       const ChangeOptions& options = {});

}  // namespace keelback::bench
