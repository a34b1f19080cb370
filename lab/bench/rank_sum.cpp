#include "bench/rank_sum.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace keelback::bench {

// f(n, m, u) = f(n-1, m, u-m) + f(n, m-1, u), the largest value being of the first or of the second
// sample; here with each way's probability, so that nothing overflows.
std::vector<double> rank_sum_distribution(std::size_t n, std::size_t m) {
  // table[j] holds f(i, j, ·) for the i reached so far.
  std::vector<std::vector<double>> table(m + 1, std::vector<double>{1.0});
  for (std::size_t i = 1; i <= n; ++i) {
    std::vector<std::vector<double>> next(m + 1);
    next[0] = {1.0};
    for (std::size_t j = 1; j <= m; ++j) {
      next[j].assign(i * j + 1, 0.0);
      const double first = static_cast<double>(i) / static_cast<double>(i + j);
      for (std::size_t u = 0; u < table[j].size(); ++u) next[j][u + j] += first * table[j][u];
      for (std::size_t u = 0; u < next[j - 1].size(); ++u)
        next[j][u] += (1 - first) * next[j - 1][u];
    }
    table = std::move(next);
  }
  return table[m];
}

RankSum rank_sum(std::span<const double> first, std::span<const double> second, double confidence) {
  CHECK(!first.empty() && !second.empty());
  CHECK(confidence > 0 && confidence < 1);
  std::vector<double> differences;
  double above = 0;  // pairs in which the second is larger; ties count half
  for (const double b : second) {
    for (const double a : first) {
      differences.push_back(b - a);
      above += b > a ? 1 : b == a ? 0.5 : 0;
    }
  }
  std::ranges::sort(differences);
  const std::vector<double> probability = rank_sum_distribution(first.size(), second.size());
  const auto pairs = static_cast<double>(differences.size());
  const auto extreme = static_cast<std::size_t>(std::floor(std::min(above, pairs - above) + 0.5));
  RankSum result;
  double tail = 0;
  for (std::size_t u = 0; u <= std::min(extreme, probability.size() - 1); ++u)
    tail += probability[u];
  result.p = std::min(1.0, 2 * tail);
  result.shift = interval_of(differences, probability, confidence);
  return result;
}

std::vector<bool> false_discovery(std::span<const double> p, double q) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::size_t rejected = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (p[order[i]] <= q * static_cast<double>(i + 1) / static_cast<double>(p.size()))
      rejected = i + 1;
  }
  std::vector<bool> result(p.size(), false);
  for (std::size_t i = 0; i < rejected; ++i) result[order[i]] = true;
  return result;
}

}  // namespace keelback::bench
