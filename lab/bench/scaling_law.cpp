#include "bench/scaling_law.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "base/prng.h"

namespace keelback::bench {
namespace {

using Row = std::array<double, 3>;

// Solves the normal equations over the coefficients in `active`; nullopt: they are singular.
std::optional<Row> solve(const std::vector<Row>& rows, const std::vector<double>& targets,
                         unsigned active) {
  std::array<std::array<double, 4>, 3> m{};
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 3; ++j) m[i][j] += rows[r][i] * rows[r][j];
      m[i][3] += rows[r][i] * targets[r];
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    if (active >> i & 1) continue;
    for (std::size_t j = 0; j < 4; ++j) m[i][j] = 0;
    for (std::size_t j = 0; j < 3; ++j) m[j][i] = 0;
    m[i][i] = 1;
  }
  for (std::size_t column = 0; column < 3; ++column) {
    std::size_t pivot = column;
    for (std::size_t r = column + 1; r < 3; ++r) {
      if (std::abs(m[r][column]) > std::abs(m[pivot][column])) pivot = r;
    }
    if (std::abs(m[pivot][column]) < 1e-12) return std::nullopt;
    std::swap(m[pivot], m[column]);
    for (std::size_t r = 0; r < 3; ++r) {
      if (r == column) continue;
      const double factor = m[r][column] / m[column][column];
      for (std::size_t j = column; j < 4; ++j) m[r][j] -= factor * m[column][j];
    }
  }
  return Row{m[0][3] / m[0][0], m[1][3] / m[1][1], m[2][3] / m[2][2]};
}

Interval percentiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {at(0.025), at(0.975)};
}

}  // namespace

double ScalingLaw::at(double n) const {
  return lambda * n / (1 + sigma * (n - 1) + kappa * n * (n - 1));
}

std::optional<double> ScalingLaw::peak() const {
  if (kappa <= 0) return std::nullopt;
  const double n = std::sqrt(std::max(0.0, (1 - sigma) / kappa));
  return n > 1e6 ? std::nullopt : std::optional(std::max(1.0, n));
}

std::optional<ScalingLaw> fit_scaling(std::span<const ScalingPoint> points) {
  std::set<double> different;
  std::vector<Row> rows;
  std::vector<double> targets;
  for (const auto& [n, x] : points) {
    if (!(x > 0) || !(n > 0)) continue;
    different.insert(n);
    const double weight = x / n;  // 1 / target: errors count by their share
    rows.push_back({weight, weight * (n - 1), weight * n * (n - 1)});
    targets.push_back(1);
  }
  if (different.size() < 3) return std::nullopt;
  // The columns differ by orders of magnitude: each is scaled to length one.
  Row scale{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < 3; ++i) scale[i] += row[i] * row[i];
  }
  for (Row& row : rows) {
    for (std::size_t i = 0; i < 3; ++i) row[i] /= std::sqrt(scale[i]);
  }
  std::optional<Row> best;
  double least = 0;
  for (unsigned active = 1; active < 8; ++active) {
    const auto found = solve(rows, targets, active);
    if (!found || std::ranges::any_of(*found, [](double v) { return v < 0; })) continue;
    double error = 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      double sum = -targets[r];
      for (std::size_t i = 0; i < 3; ++i) sum += rows[r][i] * (*found)[i];
      error += sum * sum;
    }
    if (!best || error < least) {
      best = found;
      least = error;
    }
  }
  if (!best || !((*best)[0] > 0)) return std::nullopt;
  const double a = (*best)[0] / std::sqrt(scale[0]);
  return ScalingLaw{.lambda = 1 / a,
                    .sigma = (*best)[1] / std::sqrt(scale[1]) / a,
                    .kappa = (*best)[2] / std::sqrt(scale[2]) / a};
}

std::optional<ScalingFit> fit_scaling_blocks(const std::vector<std::vector<ScalingPoint>>& blocks,
                                             std::uint64_t seed, int resamples) {
  const auto fit = [&](auto&& choose) {
    std::vector<ScalingPoint> all;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto& block = blocks[choose(i)];
      all.insert(all.end(), block.begin(), block.end());
    }
    return fit_scaling(all);
  };
  const auto law = fit([](std::size_t i) { return i; });
  if (!law) return std::nullopt;
  Prng prng(seed);
  std::vector<double> lambda, sigma, kappa;
  for (int i = 0; i < resamples; ++i) {
    const auto again = fit([&](std::size_t) { return prng.below(blocks.size()); });
    if (!again) continue;
    lambda.push_back(again->lambda);
    sigma.push_back(again->sigma);
    kappa.push_back(again->kappa);
  }
  if (lambda.empty()) return std::nullopt;
  return ScalingFit{*law, percentiles(std::move(lambda)), percentiles(std::move(sigma)),
                    percentiles(std::move(kappa))};
}

}  // namespace keelback::bench
