#include "bench/change_points.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/prng.h"

namespace keelback::bench {
namespace {

struct Split {
  std::size_t at = 0;
  double score = 0;
};

// The split with the greatest gap between its sides, in units of what the gap would be by chance.
Split best_split(std::span<const double> values, std::size_t segment_min) {
  const std::size_t n = values.size();
  const double total = std::accumulate(values.begin(), values.end(), 0.0);
  Split best;
  double left = 0;
  for (std::size_t i = 1; i < n; ++i) {
    left += values[i - 1];
    if (i < segment_min || n - i < segment_min) continue;
    const double a = static_cast<double>(i), b = static_cast<double>(n - i);
    const double gap = std::abs(left / a - (total - left) / b) * std::sqrt(a * b / (a + b));
    if (gap > best.score) best = {i, gap};
  }
  return best;
}

std::vector<double> shuffled(std::span<const double> values, std::size_t block, Prng& prng) {
  // The first block has a random length, so that every pair of neighbours is parted sometimes.
  const std::size_t offset = prng.below(block);
  std::vector<std::span<const double>> blocks;
  if (offset) blocks.push_back(values.first(std::min(offset, values.size())));
  for (std::size_t at = offset; at < values.size(); at += block)
    blocks.push_back(values.subspan(at, std::min(block, values.size() - at)));
  for (std::size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[prng.below(i)]);
  std::vector<double> out;
  out.reserve(values.size());
  for (const auto& one : blocks) out.insert(out.end(), one.begin(), one.end());
  return out;
}

void search(std::span<const double> values, std::size_t offset, const ChangeOptions& options,
            Prng& prng, std::vector<ChangePoint>& found) {
  if (values.size() < 2 * options.segment_min) return;
  const Split split = best_split(values, options.segment_min);
  if (split.score <= 0) return;
  int as_good = 0;
  for (int i = 0; i < options.shuffles; ++i) {
    const auto other = shuffled(values, options.shuffle_block, prng);
    as_good += best_split(other, options.segment_min).score >= split.score;
  }
  const double p = (1.0 + as_good) / (1.0 + options.shuffles);
  if (p > options.alpha) return;
  search(values.first(split.at), offset, options, prng, found);
  found.push_back({.at = offset + split.at, .p = p});
  search(values.subspan(split.at), offset + split.at, options, prng, found);
}

}  // namespace

std::vector<ChangePoint> change_points(std::span<const double> series,
                                       const ChangeOptions& options) {
  Prng prng(options.seed);
  std::vector<ChangePoint> found;
  search(series, 0, options, prng, found);
  const auto mean = [&](std::size_t from, std::size_t to) {
    return std::accumulate(series.begin() + static_cast<std::ptrdiff_t>(from),
                           series.begin() + static_cast<std::ptrdiff_t>(to), 0.0) /
           static_cast<double>(to - from);
  };
  for (std::size_t i = 0; i < found.size(); ++i) {
    found[i].before = mean(i == 0 ? 0 : found[i - 1].at, found[i].at);
    found[i].after = mean(found[i].at, i + 1 == found.size() ? series.size() : found[i + 1].at);
  }
  return found;
}

}  // namespace keelback::bench
