#include "bench/concurrency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keelback::bench {
namespace {

using testing::Contains;
using testing::HasSubstr;

// Of a worker that can compute `most` calls a second, a function that waits `wait_ms` in each.
std::vector<FlightStep> curve(double wait_ms, double most, std::uint32_t up_to) {
  std::vector<FlightStep> steps;
  for (std::uint32_t n = 1; n <= up_to; n *= 2) {
    const double rate = std::min(n / (wait_ms + 1e3 / most) * 1e3, most);
    const double took = n / rate * 1e3;
    steps.push_back({.in_flight = n,
                     .per_second = rate,
                     .p50_ms = took,
                     .p99_ms = 1.1 * took,
                     .computed_ms = 1e3 / most,
                     .worker_share = rate / most});
  }
  return steps;
}

ConcurrencyAdvice advice(const std::vector<FlightStep>& steps, std::uint32_t declared = 64,
                         double objective_ms = 250) {
  const FlightStep& one = steps.front();
  return advise_concurrency("f", steps, {.took_ms = one.p50_ms, .computed_ms = one.computed_ms},
                            declared, objective_ms);
}

// Goal: a function that waits gets as many calls at once as carry it, up to where its worker has no
// more time; and no more than nine tenths of the most need.
TEST(Concurrency, AFunctionThatWaitsGetsAsManyAsTheKnee) {
  const ConcurrencyAdvice all = advice(curve(50, 10'000, 64));
  EXPECT_EQ(all.concurrency, 64u);
  EXPECT_TRUE(all.measured);
  EXPECT_TRUE(all.rises_on) << "its worker is at 13 % of a processor";
  EXPECT_THAT(all.sentences, Contains(HasSubstr("Set concurrency = 64 on f, as it has.")));
  EXPECT_THAT(all.sentences, Contains(HasSubstr("Try --concurrency 64,256,1024.")));

  const ConcurrencyAdvice knee = advice(curve(50, 200, 64));
  EXPECT_EQ(knee.concurrency, 16u) << "10 calls fill the worker, 8 carry 145 of 200 a second";
  EXPECT_FALSE(knee.rises_on);
}

// Goal: where calls at once only wait for each other, the function stays exclusive.
TEST(Concurrency, AFunctionThatComputesStaysExclusive) {
  const ConcurrencyAdvice none = advice(curve(0, 200, 8), 8);
  EXPECT_EQ(none.concurrency, 1u);
  EXPECT_THAT(none.sentences.back(), HasSubstr("Leave f exclusive"));
  std::vector<FlightStep> busy = curve(0, 200, 2);
  busy.back().per_second = 300;
  EXPECT_EQ(advice(busy, 2).concurrency, 1u) << "its threads took the processor from others";
  busy.back().worker_share = 1.5;
  EXPECT_EQ(advice(busy, 2).concurrency, 2u) << "it computes without the GIL";
}

// Goal: a rate that costs the objective, or answers, is none.
TEST(Concurrency, WhatIsLateOrNotAnsweredDoesNotCount) {
  std::vector<FlightStep> late = curve(50, 10'000, 64);
  for (FlightStep& step : late) {
    if (step.in_flight > 8) step.p99_ms = 300;
  }
  EXPECT_EQ(advice(late).concurrency, 8u);
  std::vector<FlightStep> refused = curve(50, 10'000, 64);
  for (FlightStep& step : refused) {
    if (step.in_flight > 4) step.answered = 0.9;
  }
  EXPECT_EQ(advice(refused).concurrency, 4u) << "the service that it asks has a limit";
}

// Goal: where only one call at a time was tried, how much of it is waiting says what to try, and
// the advice says that it was not measured. A processor that was not to be had is no waiting.
TEST(Concurrency, OneCallAtATimeTellsWhatToTry) {
  const auto of = [](double took, double computed, double queued = 0) {
    const std::vector<FlightStep> one{{.in_flight = 1, .per_second = 1e3 / took}};
    return advise_concurrency("f", one, {took, computed, queued}, 1, 100);
  };
  const ConcurrencyAdvice waits = of(50, 0.1);
  EXPECT_FALSE(waits.measured);
  EXPECT_EQ(waits.concurrency, 256u) << "350 fill 70 % of a processor";
  EXPECT_THAT(waits.sentences.front(), HasSubstr("takes 50 ms"));
  EXPECT_THAT(waits.sentences.front(), HasSubstr("100 % is waiting"));
  EXPECT_THAT(waits.sentences.back(), HasSubstr("--concurrency 1,8,64"));
  EXPECT_EQ(of(5, 4.9).concurrency, 1u);
  EXPECT_EQ(of(0.05, 0.01).concurrency, 1u) << "the way to the worker and back is no waiting";
  EXPECT_EQ(of(50, 10, 39).concurrency, 1u) << "other programs had the processor";
}

}  // namespace
}  // namespace keelback::bench
