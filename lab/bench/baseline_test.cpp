#include "bench/baseline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>
#include <cmath>

#include <filesystem>
#include <fstream>

#include "base/prng.h"

namespace keelback::bench {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

Json row(const char* id, const char* unit, std::vector<double> values, double reference_us) {
  return {{"id", id},
          {"unit", unit},
          {"higher_is_better", std::string_view(unit) == "calls/s"},
          {"median", values[values.size() / 2]},
          {"values", values},
          {"reference_us", reference_us}};
}

// A run on a machine that is `slow` times slower, its calls `factor` times as dear as they should
// be.
Json run(double slow, double factor, const char* machine = "m1") {
  std::vector<double> call, rate, size;
  for (int i = 0; i < 6; ++i) {
    const double jitter = 1 + 0.004 * i;
    call.push_back(15 * slow * factor * jitter);
    rate.push_back(60'000 / slow / factor / jitter);
    size.push_back(30'000 + i);
  }
  return {{"schema", "keelback-bench-run/1"},
          {"suite", "s"},
          {"topology", "one-cpu"},
          {"time", "2026-01-01T00:00:00Z"},
          {"profile", "pr"},
          {"seed", 1},
          {"build", "gcc"},
          {"machine", {{"fingerprint", machine}, {"cpu", machine}, {"ncpu", 2}, {"kernel", "6"}}},
          {"void", Json::array()},
          {"broken", Json::array()},
          {"families",
           {{{"name", "call"},
             {"rows",
              {row("call.p50_us", "µs", call, 16 * slow),
               row("throughput.16_per_second", "calls/s", rate, 16 * slow),
               row("memory.pss_kb", "kB", size, 16 * slow)}}}}}};
}

class BaselineFile : public testing::Test {
 protected:
  BaselineFile() { std::filesystem::remove(path_); }
  ~BaselineFile() override { std::filesystem::remove(path_); }
  const std::string path_ = testing::TempDir() + "history-" + std::to_string(::getpid()) + ".jsonl";
};

const Json& find(const Json& rows, const std::string& id) {
  for (const auto& one : rows) {
    if (one["id"] == id) return one;
  }
  ADD_FAILURE() << id;
  return rows[0];
}

// Goal: a slow day, or a slower machine, divides out: only what changed against the reference does.
TEST(Baseline, AMachineTwiceAsSlowIsNoRegression) {
  const auto before = make_record(run(1, 1), "first"), slow_day = make_record(run(2, 1), "x"),
             slower = make_record(run(2, 1.2), "x");
  ASSERT_TRUE(before && slow_day && slower);
  EXPECT_NEAR(
      find(against_baseline(*slow_day, *before), "call.p50_us")["change_percent"].get<double>(), 0,
      0.1);
  const Json rows = against_baseline(*slower, *before);
  const Json& call = find(rows, "call.p50_us");
  EXPECT_NEAR(call["change_percent"].get<double>(), 20, 1);
  EXPECT_TRUE(call["stands_out"].get<bool>());
  EXPECT_TRUE(call["worse"].get<bool>());
  EXPECT_TRUE(find(rows, "throughput.16_per_second")["worse"].get<bool>())
      << "fewer a second is worse";
  EXPECT_FALSE(find(rows, "memory.pss_kb")["stands_out"].get<bool>());
}

// Goal: what cannot be compared is refused with the reason: suite, topology, machine.
TEST(Baseline, RefusesWhatIsNotComparable) {
  const auto record = *make_record(run(1, 1), "first");
  EXPECT_EQ(mismatch(record, record, false), "");
  for (const char* field : {"schema", "suite", "topology"}) {
    Json other = record;
    other[field] = "another";
    EXPECT_THAT(mismatch(record, other, true), HasSubstr(std::string("the ") + field + " differs"));
  }
  const auto elsewhere = *make_record(run(1, 1, "m2"), "x");
  EXPECT_THAT(mismatch(record, elsewhere, false),
              HasSubstr("the machine differs: m1 with 2 processors"));
  EXPECT_EQ(mismatch(record, elsewhere, true), "") << "ratios travel";
}

// Goal: nobody accepts a run that is void or broke a promise, and nobody accepts without a reason.
TEST(Baseline, AcceptingIsADecision) {
  EXPECT_FALSE(make_record(run(1, 1), ""));
  Json doubtful = run(1, 1);
  doubtful["void"] = {"the generator lagged"};
  EXPECT_THAT(make_record(doubtful, "x").error(), HasSubstr("the generator lagged"));
  Json broken = run(1, 1);
  broken["broken"] = {"cleanup.left_processes"};
  EXPECT_FALSE(make_record(broken, "x"));
  EXPECT_FALSE(make_record({{"schema", "keelback-bench/1"}}, "x"));
}

// Goal: the history is appended to, never rewritten, and read back in order; a run of another
// machine does not continue it; damage is named by its line.
TEST_F(BaselineFile, GrowsByWholeLines) {
  ASSERT_TRUE(append_record(path_, *make_record(run(1, 1), "first")));
  ASSERT_TRUE(append_record(path_, *make_record(run(1, 1), "second")));
  EXPECT_THAT(append_record(path_, *make_record(run(1, 1, "m2"), "third")).error(),
              HasSubstr("the machine differs"));
  const auto history = read_history(path_);
  ASSERT_TRUE(history);
  ASSERT_EQ(history->size(), 2u);
  EXPECT_EQ((*history)[1]["reason"], "second");
  std::ofstream(path_, std::ios::app) << "{\"half\n";
  EXPECT_THAT(read_history(path_).error(), HasSubstr(":3: no record"));
  EXPECT_TRUE(read_history(path_ + ".none")->empty());
}

// Goal: a step in the history is found and dated; a quiet metric stays quiet.
TEST(Baseline, TheHistoryShowsWhereALevelChanged) {
  std::vector<Json> history;
  Prng prng(8);
  for (int i = 0; i < 30; ++i) {
    Json record = *make_record(run(1 + prng.unit(), i < 18 ? 1 : 1.15), "x");
    record["time"] = "day " + std::to_string(i);
    history.push_back(record);
  }
  const Json rows = describe_history(history);
  const Json& call = find(rows, "call.p50_us");
  ASSERT_EQ(call["changes"].size(), 1u);
  EXPECT_EQ(call["changes"][0]["time"], "day 18");
  EXPECT_NEAR(call["changes"][0]["percent"].get<double>(), 15, 1);
  EXPECT_TRUE(find(rows, "memory.pss_kb")["changes"].empty());
}

}  // namespace
}  // namespace keelback::bench
