#include "bench/signed_rank.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "base/check.h"

namespace keelback::bench {
namespace {

// Doubled mid-ranks of |values|, in the order of the values.
std::vector<int> doubled_midranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(values[a]) < std::abs(values[b]);
  });
  std::vector<int> ranks(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    while (last + 1 < order.size() &&
           std::abs(values[order[last + 1]]) == std::abs(values[order[first]])) {
      ++last;
    }
    // Ranks first+1 … last+1 share their mean; doubled, that is their sum of ends.
    const int doubled = static_cast<int>(first + last + 2);
    for (std::size_t i = first; i <= last; ++i) ranks[order[i]] = doubled;
    first = last + 1;
  }
  return ranks;
}

// probability[w] = P(W = w), by adding one rank after another.
std::vector<double> rank_sum_distribution(std::span<const int> doubled_ranks) {
  const long total = std::accumulate(doubled_ranks.begin(), doubled_ranks.end(), 0L);
  std::vector<double> probability(static_cast<std::size_t>(total) + 1, 0.0);
  probability[0] = 1.0;
  long reached = 0;
  for (int rank : doubled_ranks) {
    reached += rank;
    for (long w = reached; w >= 0; --w) {
      const double without = probability[static_cast<std::size_t>(w)];
      const double with = w >= rank ? probability[static_cast<std::size_t>(w - rank)] : 0.0;
      probability[static_cast<std::size_t>(w)] = 0.5 * (without + with);
    }
  }
  return probability;
}

double sum_from(const std::vector<double>& probability, long first) {
  double sum = 0;  // small terms first
  for (long w = static_cast<long>(probability.size()) - 1; w >= std::max(first, 0L); --w) {
    sum += probability[static_cast<std::size_t>(w)];
  }
  return std::min(sum, 1.0);
}

}  // namespace

double upper_tail(std::span<const int> doubled_ranks, long observed) {
  return sum_from(rank_sum_distribution(doubled_ranks), observed);
}

SignedRank signed_rank(std::span<const double> scores, double margin) {
  std::vector<double> shifted;
  shifted.reserve(scores.size());
  for (double score : scores) {
    if (score != margin) shifted.push_back(score - margin);
  }
  SignedRank result{.n = shifted.size()};
  if (shifted.empty()) return result;
  const std::vector<int> ranks = doubled_midranks(shifted);
  long total = 0;
  for (std::size_t i = 0; i < shifted.size(); ++i) {
    total += ranks[i];
    if (shifted[i] > 0) result.rank_sum += ranks[i];
  }
  const std::vector<double> probability = rank_sum_distribution(ranks);
  result.p_greater = sum_from(probability, result.rank_sum);
  result.p_less = sum_from(probability, total - result.rank_sum);  // W is symmetric
  return result;
}

Estimate hodges_lehmann(std::span<const double> scores, double confidence) {
  CHECK(!scores.empty());
  CHECK(confidence > 0 && confidence < 1);
  std::vector<double> walsh;
  walsh.reserve(scores.size() * (scores.size() + 1) / 2);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    for (std::size_t j = i; j < scores.size(); ++j) walsh.push_back((scores[i] + scores[j]) / 2);
  }
  std::sort(walsh.begin(), walsh.end());
  // Without ties W counts the Walsh averages above the margin.
  std::vector<int> ranks(scores.size());
  std::iota(ranks.begin(), ranks.end(), 1);
  return interval_of(walsh, rank_sum_distribution(ranks), confidence);
}

Estimate interval_of(std::span<const double> sorted, std::span<const double> probability,
                     double confidence) {
  const std::size_t m = sorted.size();
  const double each_side = (1 - confidence) / 2;
  double below = 0;   // P(statistic < k)
  std::size_t k = 0;  // the largest with at most `each_side` below it
  while (k < m / 2 && below + probability[k] <= each_side) below += probability[k++];
  const std::size_t cut = k == 0 ? 0 : k - 1;
  return {.value = m % 2 ? sorted[m / 2] : (sorted[m / 2 - 1] + sorted[m / 2]) / 2,
          .low = sorted[cut],
          .high = sorted[m - 1 - cut],
          .confidence = 1 - 2 * (k == 0 ? probability[0] : below)};
}

double median(std::span<const double> values) {
  CHECK(!values.empty());
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const std::size_t n = sorted.size();
  return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double robust_deviation(std::span<const double> values) {
  const double centre = median(values);
  std::vector<double> deviations;
  deviations.reserve(values.size());
  for (double value : values) deviations.push_back(std::abs(value - centre));
  return 1.4826 * median(deviations);
}

}  // namespace keelback::bench
