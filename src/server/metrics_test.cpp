#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

namespace keelback::server {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

// name{labels} -> value, as a scraper reads it.
std::map<std::string, double> scrape(const std::string& text) {
  std::map<std::string, double> values;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const auto space = line.rfind(' ');
    EXPECT_TRUE(values.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second)
        << line;
  }
  return values;
}

// Goal: one scrape is one picture: accepted = in flight + outcomes, also for counters far beyond
// what six digits can hold.
TEST(Metrics, CountersAddUpWithinAScrape) {
  PoolStats stats;
  stats.ready = true;
  stats.accepted = 123'456'789'012;
  stats.in_flight = 5;
  stats.outcomes[static_cast<int>(OutcomeKind::kOk)] = 123'456'789'000;
  stats.outcomes[static_cast<int>(OutcomeKind::kTimeout)] = 7;
  stats.workers.busy = 3;
  stats.batches.push_back({"f", {}});
  for (const std::uint32_t size : {1U, 2U, 5U}) stats.batches[0].sizes.add(size);
  stats.scaling.wanted = 4;
  stats.queue_delay = 250ms;
  stats.sessions.expired = 4;
  stats.attachments.carried_bytes = 70'000;
  stats.attachments.slab_bytes = 65536;
  const std::string text =
      metrics_text({.stats = stats, .log_dropped_workers = 11, .log_dropped_zygotes = 12},
                   {.http_rejected = 9, .connections = 2, .log_lost = 13}, {});
  const auto values = scrape(text);
  double sum = values.at("keelback_calls_in_flight");
  for (int i = 0; i < kOutcomeKinds; ++i) {
    sum += values.at("keelback_calls_total{outcome=\"" +
                     std::string(to_string(static_cast<OutcomeKind>(i))) + "\"}");
  }
  EXPECT_EQ(sum, values.at("keelback_calls_accepted_total"));
  EXPECT_EQ(values.at("keelback_calls_accepted_total"), 123'456'789'012.0);
  EXPECT_EQ(values.at("keelback_workers{state=\"busy\"}"), 3);
  EXPECT_EQ(values.at("keelback_workers_wanted"), 4);
  EXPECT_EQ(values.at("keelback_queue_delay_seconds"), .25);
  EXPECT_EQ(values.at("keelback_sessions_total{event=\"expired\"}"), 4);
  EXPECT_EQ(values.at("keelback_http_rejected_total"), 9);
  EXPECT_EQ(values.at("keelback_ready"), 1);
  EXPECT_EQ(values.at("keelback_batch_size_bucket{function=\"f\",le=\"2\"}"), 2);
  EXPECT_EQ(values.at("keelback_batch_size_bucket{function=\"f\",le=\"8\"}"), 3);
  EXPECT_EQ(values.at("keelback_batch_size_count{function=\"f\"}"), 3);
  EXPECT_EQ(values.at("keelback_batch_size_sum{function=\"f\"}"), 8);
  EXPECT_EQ(values.at("keelback_log_dropped_lines_total{from=\"workers\"}"), 11);
  EXPECT_EQ(values.at("keelback_log_dropped_lines_total{from=\"zygotes\"}"), 12);
  EXPECT_EQ(values.at("keelback_log_dropped_lines_total{from=\"daemon\"}"), 13);
  EXPECT_EQ(values.at("keelback_attachment_carried_bytes"), 70'000);
  EXPECT_EQ(values.at("keelback_attachment_slab_bytes"), 65536);
  EXPECT_GT(values.at("keelback_process_resident_memory_bytes"), 1e6);
  EXPECT_GE(values.at("keelback_process_open_fds"), 3);
  EXPECT_GE(values.at("keelback_process_threads"), 1);
  EXPECT_THAT(text, HasSubstr("# TYPE keelback_calls_total counter"));
}

// Goal: a node's part of the cluster, each number in its own place; a daemon alone has none of it.
TEST(Metrics, ANodeShowsItsPartOfTheCluster) {
  host::ClusterInfo info;
  info.node = "a";
  info.phase = "member";
  info.database_up = true;
  info.sessions = 7;
  info.weaknesses = {"fsync is off."};
  info.nodes = {{.name = "a"},
                {.name = "b"},
                {.name = "c", .draining = true},
                {.name = "d", .draining = true, .retired = true}};
  info.counters = {.claims = 1,
                   .taken_over = 2,
                   .forwarded = 3,
                   .misdirected = 4,
                   .commits_kept = 5,
                   .commits_lost = 6,
                   .commits_unknown = 7,
                   .sessions_lost = 8,
                   .sessions_expired = 9,
                   .forgotten = 10,
                   .retired_others = 11,
                   .retired = 12,
                   .went_back = 13};
  const auto values = scrape(metrics_text({}, {}, {}, info));
  EXPECT_EQ(values.at("keelback_cluster_member"), 1);
  EXPECT_EQ(values.at("keelback_cluster_database_up"), 1);
  EXPECT_EQ(values.at("keelback_cluster_database_weaknesses"), 1);
  EXPECT_EQ(values.at("keelback_cluster_database_went_back_total"), 13);
  EXPECT_EQ(values.at("keelback_cluster_serves_sessions"), 0);
  EXPECT_EQ(values.at("keelback_cluster_sessions_owned"), 7);
  EXPECT_EQ(values.at("keelback_cluster_nodes{state=\"serving\"}"), 2);
  EXPECT_EQ(values.at("keelback_cluster_nodes{state=\"draining\"}"), 1);
  EXPECT_EQ(values.at("keelback_cluster_nodes{state=\"retired\"}"), 1);
  const std::map<std::string, double> counts = {
      {"sessions_total{event=\"claimed\"}", 1}, {"sessions_total{event=\"taken_over\"}", 2},
      {"hops_total{event=\"forwarded\"}", 3},   {"hops_total{event=\"misdirected\"}", 4},
      {"commits_total{result=\"kept\"}", 5},    {"commits_total{result=\"lost\"}", 6},
      {"commits_total{result=\"unknown\"}", 7}, {"sessions_total{event=\"lost\"}", 8},
      {"sessions_total{event=\"expired\"}", 9}, {"sessions_total{event=\"forgotten\"}", 10},
      {"retired_total{which=\"other\"}", 11},   {"retired_total{which=\"self\"}", 12}};
  for (const auto& [name, count] : counts) {
    EXPECT_EQ(values.at("keelback_cluster_" + name), count) << name;
  }
  EXPECT_EQ(metrics_text({}, {}, {}).find("keelback_cluster"), std::string::npos);
}

// Goal: who provides functions, and how what they were asked ended.
TEST(Metrics, RequestsForProvidedFunctionsAreCountedByTheirEnd) {
  const auto values = scrape(metrics_text(
      {}, {.provided = {.names = 3, .answered = 10, .failed = 2, .cancelled = 1, .gone = 4}}, {}));
  EXPECT_EQ(values.at("keelback_providers"), 3);
  EXPECT_EQ(values.at("keelback_host_requests_total{outcome=\"ok\"}"), 10);
  EXPECT_EQ(values.at("keelback_host_requests_total{outcome=\"error\"}"), 2);
  EXPECT_EQ(values.at("keelback_host_requests_total{outcome=\"cancelled\"}"), 1);
  EXPECT_EQ(values.at("keelback_host_requests_total{outcome=\"host_gone\"}"), 4);
}

// Goal: the lag of event loops is a histogram of its own, and blocks are counted beside it.
TEST(Metrics, TheLagOfEventLoopsIsAHistogram) {
  host::PoolInfo info;
  info.stats.loop_blocks = 2;
  for (const Duration lag : {Duration{0}, Duration{30ms}, Duration{200ms}, Duration{2min}}) {
    info.loop_lag.observe(lag);
  }
  const auto values = scrape(metrics_text(info, {}, {}));
  EXPECT_EQ(values.at("keelback_worker_loop_blocks_total"), 2);
  EXPECT_EQ(values.at("keelback_worker_loop_lag_seconds_count"), 4);
  EXPECT_EQ(values.at("keelback_worker_loop_lag_seconds_bucket{le=\"0.001\"}"), 1);
  EXPECT_EQ(values.at("keelback_worker_loop_lag_seconds_bucket{le=\"0.05\"}"), 2);
  EXPECT_EQ(values.at("keelback_worker_loop_lag_seconds_bucket{le=\"60\"}"), 3);
  EXPECT_NEAR(values.at("keelback_worker_loop_lag_seconds_sum"), 120.23, 1e-9);
}

// Goal: a histogram is cumulative and complete, and callers cannot invent series.
TEST(Metrics, DurationsAreBoundedInNumber) {
  CallDurations durations;
  Outcome outcome{.attempts = 1, .queued = 1ms, .ran = 90s};
  durations.observe("greet", outcome);
  outcome.ran = 10us;
  durations.observe("greet", outcome);
  durations.observe("refused", {.kind = OutcomeKind::kOverloaded});
  durations.observe("invented", {.kind = OutcomeKind::kUnknownFunction, .attempts = 1});
  EXPECT_EQ(durations.functions().size(), 1U);
  const auto values = scrape(metrics_text({}, {}, durations));
  const std::string run = "function=\"greet\",stage=\"run\"";
  EXPECT_EQ(values.at("keelback_call_seconds_count{" + run + "}"), 2);
  EXPECT_EQ(values.at("keelback_call_seconds_bucket{" + run + ",le=\"+Inf\"}"), 2);
  EXPECT_EQ(values.at("keelback_call_seconds_bucket{" + run + ",le=\"60\"}"), 1);
  EXPECT_NEAR(values.at("keelback_call_seconds_sum{" + run + "}"), 90.00001, 1e-9);
  EXPECT_EQ(
      values.at("keelback_call_seconds_bucket{function=\"greet\",stage=\"queue\",le=\"0.001\"}"),
      2);

  for (std::size_t i = 0; i < CallDurations::kFunctionsMax * 2; ++i) {
    durations.observe("f" + std::to_string(i), outcome);
  }
  EXPECT_EQ(durations.functions().size(), CallDurations::kFunctionsMax + 1);
  EXPECT_TRUE(durations.functions().contains("_other"));
}

}  // namespace
}  // namespace keelback::server
