// How throughput grows with workers: Gunther's universal scalability law,
//     X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)),
// lambda calls a second of one worker, sigma what is serial, kappa what crosstalk costs. In the
// form
//     N / X = a + b (N - 1) + c N (N - 1),   a = 1/lambda, sigma = b/a, kappa = c/a,
// it is linear with coefficients that cannot be negative, so the least squares under that condition
// are exact and need no start values (Lawson and Hanson's NNLS; for three coefficients all eight
// sets of active ones are tried). Weights are relative: throughput errs by percents, not by calls.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace keelback::bench {

struct ScalingPoint {
  double n = 0;  // workers
  double x = 0;  // calls a second, > 0
};

struct ScalingLaw {
  double lambda = 0, sigma = 0, kappa = 0;
  double at(double n) const;
  // Where throughput is greatest; nullopt: it only grows (kappa is 0, or the peak lies beyond 1e6).
  std::optional<double> peak() const;
};

// nullopt: fewer than three different n.
std::optional<ScalingLaw> fit_scaling(std::span<const ScalingPoint> points);

struct Interval {
  double low = 0, high = 0;
};
struct ScalingFit {
  ScalingLaw law;
  Interval lambda, sigma, kappa;  // 95 %, by resampling blocks
};
// blocks: of each block the same n in the same order. Resamples whole blocks, because what one
// block suffers all its points share.
std::optional<ScalingFit> fit_scaling_blocks(const std::vector<std::vector<ScalingPoint>>& blocks,
                                             std::uint64_t seed, int resamples = 1000);

}  // namespace keelback::bench
