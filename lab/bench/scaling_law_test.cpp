#include "bench/scaling_law.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/prng.h"
#include "oracle/oracle_data.h"

namespace keelback::bench {
namespace {

std::vector<ScalingPoint> points_of(const ScalingLaw& law, Prng* noise = nullptr,
                                    double spread = 0) {
  std::vector<ScalingPoint> points;
  for (const double n : {1, 2, 3, 4, 6, 8}) {
    const double error = noise ? 1 + spread * (2 * noise->unit() - 1) : 1;
    points.push_back({n, law.at(n) * error});
  }
  return points;
}

// Goal: without noise the law comes back, also where a coefficient is zero.
TEST(ScalingLaw, FindsTheLawThatMadeThePoints) {
  for (const ScalingLaw truth : {ScalingLaw{480, 0, 0}, ScalingLaw{480, 0.05, 0.002},
                                 ScalingLaw{20'000, 0.7, 0}, ScalingLaw{3, 0, 0.05}}) {
    const auto fit = fit_scaling(points_of(truth));
    ASSERT_TRUE(fit);
    EXPECT_NEAR(fit->lambda, truth.lambda, 1e-6 * truth.lambda);
    EXPECT_NEAR(fit->sigma, truth.sigma, 1e-6);
    EXPECT_NEAR(fit->kappa, truth.kappa, 1e-6);
  }
}

// Goal: with noise it is the non-negative least squares solution, as SciPy finds it.
TEST(ScalingLaw, AgreesWithSciPy) {
  for (const auto& [n, x, lambda, sigma, kappa] : oracle::kScaling) {
    std::vector<ScalingPoint> points;
    for (std::size_t i = 0; i < n.size(); ++i) points.push_back({n[i], x[i]});
    const auto fit = fit_scaling(points);
    ASSERT_TRUE(fit);
    EXPECT_NEAR(fit->lambda, lambda, 1e-6 * lambda);
    EXPECT_NEAR(fit->sigma, sigma, 1e-7);
    EXPECT_NEAR(fit->kappa, kappa, 1e-7);
  }
}

// Goal: super-linear luck in the noise never becomes a negative coefficient.
TEST(ScalingLaw, CoefficientsAreNeverNegative) {
  Prng prng(4);
  for (int i = 0; i < 500; ++i) {
    const auto fit = fit_scaling(points_of({100, 0, 0}, &prng, 0.1));
    ASSERT_TRUE(fit);
    EXPECT_GE(fit->sigma, 0);
    EXPECT_GE(fit->kappa, 0);
  }
}

TEST(ScalingLaw, ThePeakIsWhereMoreWorkersBeginToHurt) {
  const ScalingLaw law{100, 0.1, 0.01};
  ASSERT_TRUE(law.peak());
  EXPECT_NEAR(*law.peak(), std::sqrt(0.9 / 0.01), 1e-9);
  EXPECT_GT(law.at(*law.peak()), law.at(*law.peak() - 2));
  EXPECT_GT(law.at(*law.peak()), law.at(*law.peak() + 2));
  EXPECT_FALSE((ScalingLaw{100, 0.5, 0}.peak()));
  EXPECT_FALSE(fit_scaling(std::vector<ScalingPoint>{{1, 10}, {2, 20}, {2, 21}}))
      << "two points carry no curve";
}

// Goal: the bootstrap's interval covers the true sigma about as often as it says.
TEST(ScalingLaw, TheIntervalOverBlocksCoversTheTruth) {
  Prng prng(9);
  const ScalingLaw truth{500, 0.3, 0.01};
  int covered = 0;
  constexpr int kRuns = 100;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<std::vector<ScalingPoint>> blocks;
    for (int i = 0; i < 8; ++i) blocks.push_back(points_of(truth, &prng, 0.04));
    const auto fit = fit_scaling_blocks(blocks, static_cast<std::uint64_t>(run) + 1, 300);
    ASSERT_TRUE(fit);
    covered += fit->sigma.low <= truth.sigma && truth.sigma <= fit->sigma.high;
  }
  EXPECT_GE(covered, 80);
}

}  // namespace
}  // namespace keelback::bench
