// Three times what the pool can do, open loop, on real processes: goodput, waiting, memory, and
// the way back. How much the pool can do is measured just before, on the same machine. The
// functions sleep, so that the machine's own load says little. KEELBACK_OVERLOAD_SECONDS (30) is
// the length of the long ones.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "conformance/driver_suite.h"
#include "load/generator.h"

namespace keelback::test {
namespace {

constexpr std::uint32_t kWorkers = 4;
constexpr auto kDelayMax = 200ms;

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::chrono::seconds length() {
  const char* text = std::getenv("KEELBACK_OVERLOAD_SECONDS");
  return std::chrono::seconds(text != nullptr ? std::max(1, std::atoi(text)) : 30);
}

class DriverOverloadTest : public DriverTest {
 protected:
  static Call one(const load::Arrival& arrival, std::size_t) {
    Call call = ask("sleep", "[20]");
    call.deadline = 30s;
    if (arrival.stream == 1) call.priority = Priority::kHigh;
    return call;
  }

  void overload(std::chrono::seconds seconds) {
    Settings s = settings();
    s.pool.workers = kWorkers;
    s.pool.queue_delay_max = kDelayMax;
    World world(GetParam(), s);
    world.warm();
    host::Driver& driver = world.driver();
    const load::Run closed =
        load::run_closed(driver, kWorkers, 2s, [](auto, auto) { return ask("sleep", "[20]"); });
    const double capacity = static_cast<double>(closed.count(OutcomeKind::kOk)) /
                            std::chrono::duration<double>(closed.length).count();
    ASSERT_GT(capacity, 20);

    load::LoadSpec spec;
    spec.rate = 3 * capacity;
    spec.length = seconds;
    spec.mix = {0.9, 0.1};
    const load::Plan plan = load::make_plan(spec, 1);
    const std::uint64_t resident_before = resident_bytes();
    const load::Run run = load::run_plan(driver, plan, one);
    const std::uint64_t resident_after = resident_bytes();

    std::uint64_t ok = 0, high_ok = 0, high = 0, refused = 0;
    load::Histogram accepted;
    Duration last{0};
    for (std::size_t i = 0; i < run.records.size(); ++i) {
      const load::Record& record = run.records[i];
      ASSERT_EQ(record.state, load::Record::State::kDone);
      const bool urgent = plan.arrivals[i].stream == 1;
      high += urgent;
      refused += record.kind == OutcomeKind::kOverloaded;
      if (!record.ok()) continue;
      ++ok;
      high_ok += urgent;
      accepted.record(record.latency());
      last = std::max(last, record.done);
    }
    const double goodput =
        static_cast<double>(ok) / std::chrono::duration<double>(last).count() / capacity;
    const Duration p99 = accepted.quantile(0.99).value;
    std::fprintf(
        stderr,
        "capacity %.0f/s, offered %.0f/s for %llds: goodput %.3f of capacity, p99 of the "
        "accepted %.0f ms, urgent ones served %.3f, resident %+lld KiB, over %.0f ms "
        "after the load\n",
        capacity, spec.rate, static_cast<long long>(seconds.count()), goodput,
        static_cast<double>(p99.count()) / 1e6,
        static_cast<double>(high_ok) / static_cast<double>(high),
        (static_cast<long long>(resident_after) - static_cast<long long>(resident_before)) / 1024,
        std::chrono::duration<double, std::milli>(run.length - seconds).count());
    EXPECT_EQ(ok + refused, run.records.size()) << "served or refused, nothing else";
    EXPECT_GT(goodput, 0.9);
    EXPECT_LT(p99, 4 * kDelayMax);
    EXPECT_GT(static_cast<double>(high_ok), 0.99 * static_cast<double>(high));
    EXPECT_LT(resident_after, resident_before + (16 << 20));
    // Back to normal: the rest is served within a second, and then a call waits for nobody.
    EXPECT_LT(run.length, seconds + 1s);
    EXPECT_EQ(world.stats().in_flight, 0U);
    const Outcome fresh = world.call("echo", "[1]");
    EXPECT_OUTCOME(fresh, kOk, kDone);
    EXPECT_LT(fresh.queued, kDelayMax);
    EXPECT_TRUE(world.adds_up());
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, DriverOverloadTest, testing::ValuesIn([] {
                           std::vector<Backend> real = backends();
                           std::erase(real, Backend::kSim);  // src/sim/overload_test.cpp is exact
                           return real;
                         }()),
                         [](const auto& chosen) {
                           return chosen.param == Backend::kFake ? "fake" : "python";
                         });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DriverOverloadTest);

TEST_P(DriverOverloadTest, ThreeTimesCapacityForThirtySeconds) { overload(length()); }
TEST_P(DriverOverloadTest, ThreeTimesCapacityForAMoment) { overload(3s); }

}  // namespace
}  // namespace keelback::test
