// The engine without processes: what a block makes of the windows that its arms give.
#include "bench/block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace keelback::bench {
namespace {

using testing::ElementsAre;
using Json = nlohmann::json;

const Metric& metric_named(const char* id) { return *find_metric(id); }

// Goal: a block has one value of a metric: the median of its windows; of a p99, that of all calls
// of all windows; of a promise, the window that is farthest from it.
TEST(Block, HasOneValueOfEachMetric) {
  Prng prng(1);
  Block block({{"ours", {}}}, prng);
  for (const double p50 : {9.0, 1.0, 5.0})
    block.note_step("closed", {{"p50_us", p50}, {"p99_us", 1.0}, {"buckets", {{7'000, 10, 0}}}});
  block.note("affinity.hit_ratio", 1.0);
  block.note("affinity.hit_ratio", 0.5);
  const Sample& sample = block.sample();
  EXPECT_EQ(sample.value(metric_named("call.p50_us")), 5.0);
  EXPECT_EQ(sample.value(metric_named("call.p99_us")), 7.0);
  EXPECT_EQ(sample.value(metric_named("affinity.hit_ratio")), 0.5);
  EXPECT_EQ(sample.value(metric_named("call.cpu_us")), std::nullopt) << "no answer had the field";
}

// Goal: windows are paired in order of time, so a drift that hits both arms alike is no difference;
// the two medians alone would say 10 against 20.
TEST(Block, WindowsArePairedInOrderOfTime) {
  Sample a, b;
  a.windows["call.p50_us"] = {10, 10, 40};
  b.windows["call.p50_us"] = {10, 20, 40};
  EXPECT_EQ(log_ratio(metric_named("call.p50_us"), a, b), 0.0);
  b.windows["call.p50_us"] = {20};
  EXPECT_DOUBLE_EQ(*log_ratio(metric_named("call.p50_us"), a, b), std::log(0.5));
  EXPECT_EQ(log_ratio(metric_named("call.p10_us"), a, b), std::nullopt);
}

// Goal: each arm has as many turns, there and back, and the first place is thrown anew.
TEST(Block, TurnsGoThereAndBackFromAPlaceThatIsThrown) {
  Prng prng(1);
  Block block({{"base", {}}, {"head", {}}}, prng);
  int base_first = 0;
  for (int i = 0; i < 100; ++i) {
    std::vector<std::size_t> turns;
    block.alternate(2, [&](std::size_t arm) { turns.push_back(arm); });
    base_first += turns[0] == 0;
    EXPECT_THAT(turns, ElementsAre(turns[0], 1 - turns[0], 1 - turns[0], turns[0]));
  }
  EXPECT_GT(base_first, 30);
  EXPECT_LT(base_first, 70);
}

// Goal: the first error is kept with the arm that had it, and nothing is noted after it.
TEST(Block, TheFirstErrorSticks) {
  Prng prng(1);
  Block block({{"base", {}}, {"head", {}}}, prng);
  block.fail(1, "it is gone");
  block.fail(0, "so is this one");
  block.note("call.p50_us", 1.0);
  EXPECT_EQ(block.error(), "head: it is gone");
  EXPECT_EQ(block.start(0).ask("memory"), Json::object());
  EXPECT_EQ(block.sample(0).value(metric_named("call.p50_us")), std::nullopt);
}

}  // namespace
}  // namespace keelback::bench
