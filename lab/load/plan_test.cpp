#include "load/plan.h"

#include <gtest/gtest.h>

#include <cmath>

namespace keelback::load {
namespace {

using namespace std::chrono_literals;
using Shape = LoadSpec::Shape;

std::size_t arrivals_between(const Plan& plan, Duration from, Duration to) {
  std::size_t n = 0;
  for (const Arrival& arrival : plan.arrivals) n += arrival.at >= from && arrival.at < to;
  return n;
}

// Goal: a plan is a value: the same spec and seed give the same plan and hash, another seed not.
TEST(Plan, TheSameSeedGivesTheSamePlan) {
  const LoadSpec spec{.rate = 500, .length = 2s, .sessions = 10, .zipf = 0.9, .mix = {1, 2}};
  EXPECT_EQ(make_plan(spec, 1).hash, make_plan(spec, 1).hash);
  EXPECT_NE(make_plan(spec, 1).hash, make_plan(spec, 2).hash);
}

// Goal: each shape offers the rate it says where it says it (three standard deviations of Poisson).
TEST(Plan, EachShapeOffersItsRate) {
  for (Shape shape : {Shape::kPoisson, Shape::kRamp, Shape::kSteps, Shape::kBurst}) {
    const LoadSpec spec{.shape = shape, .rate = 2000, .rate_from = 200, .length = 10s};
    const Plan plan = make_plan(spec, 11);
    for (Duration from = 0s; from < 10s; from += 1s) {
      double expected = 0;
      for (Duration at = from; at < from + 1s; at += 10ms) expected += planned_rate(spec, at) / 100;
      EXPECT_NEAR(static_cast<double>(arrivals_between(plan, from, from + 1s)), expected,
                  3.5 * std::sqrt(expected) + 0.01 * expected)
          << static_cast<int>(shape) << " second " << from / 1s;
    }
  }
}

// Goal: Poisson gaps are memoryless: their deviation equals their mean.
TEST(Plan, PoissonGapsHaveTheDeviationOfTheirMean) {
  const Plan plan = make_plan({.rate = 1000, .length = 20s}, 5);
  double sum = 0, squares = 0;
  for (std::size_t i = 1; i < plan.arrivals.size(); ++i) {
    const double gap =
        std::chrono::duration<double>(plan.arrivals[i].at - plan.arrivals[i - 1].at).count();
    sum += gap;
    squares += gap * gap;
  }
  const auto n = static_cast<double>(plan.arrivals.size() - 1);
  const double mean = sum / n;
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean) / mean, 1.0, 0.03);
}

// Goal: sessions follow Zipf: with exponent 1 the first gets twice the second's share; the mix
// follows its weights.
TEST(Plan, SessionsAndMixFollowTheirWeights) {
  const Plan plan =
      make_plan({.rate = 20'000, .length = 5s, .sessions = 100, .zipf = 1, .mix = {1, 3}}, 9);
  std::size_t first = 0, second = 0, heavy = 0;
  for (const Arrival& arrival : plan.arrivals) {
    ASSERT_GE(arrival.session, 1u);
    ASSERT_LE(arrival.session, 100u);
    first += arrival.session == 1;
    second += arrival.session == 2;
    heavy += arrival.stream == 1;
  }
  EXPECT_NEAR(static_cast<double>(first) / static_cast<double>(second), 2.0, 0.15);
  EXPECT_NEAR(static_cast<double>(heavy) / static_cast<double>(plan.arrivals.size()), 0.75, 0.01);
}

TEST(Plan, IsBounded) {
  EXPECT_EQ(make_plan({.rate = 1e6, .length = 1s, .arrivals_max = 1000}, 1).arrivals.size(), 1000u);
  EXPECT_TRUE(make_plan({.rate = 0, .length = 1s}, 1).arrivals.empty());
}

}  // namespace
}  // namespace keelback::load
