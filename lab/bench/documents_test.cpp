// Everything that people read is made from documents; here from small ones of each kind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "bench/family.h"
#include "bench/peers.h"
#include "bench/report.h"
#include "bench/run.h"

namespace keelback::bench {
namespace {

using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::json;

Json run_document() {
  FamilyResult result;
  FamilyOptions options;
  Prng prng(1);
  FamilyBlock block(options, result, prng);
  const Json buckets = {{1'000, 900, 0}, {2'000, 90, 0}, {50'000, 9, 0}, {9'000'000, 0, 1}};
  block.percentiles("Percentiles <x>", "planned", buckets);
  Figure& curve = block.figure("Curve", "curve", "callers", "calls a second");
  curve.curves["a"] = {{1, {10, 11}}, {2, {19, 21}}};
  Figure& heat = block.figure("Heat", "heat", "s", "ms");
  heat.points = {{0.1, 1.0, true}, {0.2, 5.0, false}};
  heat.marks = {{0.15, "SIGKILL"}, {0.18, "replaced"}};
  block.figure("Water", "waterfall", "ms").rows = {{"row", {{"import", {3, 4}}, {"fork", {1, 1}}}}};
  Figure& scaling = block.figure("Scaling", "scaling", "workers", "calls a second");
  for (int i = 0; i < 3; ++i)
    scaling.scaling.push_back({{1, 100}, {2, 190}, {4, 350.0 + i}, {8, 500}});
  Json figures = Json::array();
  for (const std::string& title : result.figure_order)
    figures.push_back(result.figures.at(title).to_json(1));
  return {{"schema", "keelback-bench-run/1"},
          {"time", "now"},
          {"program", "keelback"},
          {"profile", "quick"},
          {"blocks", 3},
          {"seed", 1},
          {"topology", "free"},
          {"machine", {{"cpu", "c"}, {"ncpu", 2}}},
          {"took_s", 3.0},
          {"void", Json::array()},
          {"broken", Json::array()},
          {"families",
           {{{"name", "call"},
             {"doc", "What a call costs"},
             {"blocks", 3},
             {"figures", figures},
             {"rows",
              {{{"id", "call.p50_us"},
                {"unit", "µs"},
                {"doc", "median"},
                {"median", 15.3},
                {"interval", {15.0, 16.0}},
                {"values", {15.0, 15.3, 16.0}},
                {"reference_us", 16.0}},
               {{"id", "cleanup.left_processes"},
                {"unit", "processes"},
                {"doc", "left"},
                {"median", 0.0},
                {"interval", {0.0, 0.0}},
                {"values", {0.0}},
                {"required", 0.0},
                {"broken", false}}}}}}}};
}

Json compare_document() {
  const auto metric = [](const char* id, const char* verdict, double change) {
    return Json{{"id", id},
                {"verdict", verdict},
                {"gated", true},
                {"base", 15.0},
                {"head", 15.0 * (1 + change / 100)},
                {"change_percent", change},
                {"interval_percent", {change - 1, change + 1}},
                {"delta_min", 0.01},
                {"delta_tol", 0.04},
                {"blocks", 18},
                {"unit", "µs"},
                {"doc", "d"}};
  };
  return {
      {"schema", "keelback-bench/1"},
      {"base", "b"},
      {"head", "h"},
      {"profile", "pr"},
      {"seed", 1},
      {"cpu", 0},
      {"took_s", 100.0},
      {"void", Json::array()},
      {"strict", false},
      {"metrics", {metric("call.p50_us", "REGRESSED", 10), metric("call.p10_us", "OK", 0)}},
      {"control", {metric("call.p50_us", "OK", 0)}},
      {"canary",
       {{"slowdown", 0.1},
        {"caught", true},
        {"metrics", {metric("call.p50_us", "REGRESSED", 10)}}}},
      {"counters",
       {{{"id", "counters.fds"},
         {"base", 20.0},
         {"head", 20.0},
         {"worse", false},
         {"doc", "open"}}}},
      {"curves", {{"Closed", {{{"name", "base"}, {"buckets", {{1000, 10, 0}, {2000, 1, 0}}}}}}}},
      {"blocks",
       {{{"head_first", true}, {"score", {{"call.p50_us", 0.1}, {"call.p10_us", 0.0}}}}}}};
}

// Goal: each kind becomes a whole, offline page in which what the document says is text.
TEST(Documents, EveryKindBecomesAPage) {
  const Json app = {
      {"schema", "keelback-bench-app/1"},
      {"app", "<app>"},
      {"function", "f"},
      {"objective_p99_ms", 25.0},
      {"void", Json::array()},
      {"seed", 1},
      {"took_s", 1.0},
      {"pools",
       {{{"workers", 2},
         {"most_per_second", 400.0},
         {"at_objective_per_second", 380.0},
         {"unloaded_p50_ms", 5.0},
         {"unloaded_p99_ms", 6.0},
         {"worker_kb", 9000.0},
         {"steps",
          {{{"offered", 380.0},
            {"good", 380.0},
            {"p50_ms", 5.0},
            {"p99_ms", 20.0},
            {"service_p99_ms", 8.0},
            {"carried", true}}}}}}},
      {"concurrency",
       {{"declared", 1},
        {"advised", 8},
        {"measured", true},
        {"sentences", {"Set concurrency = 8 on <x>"}},
        {"steps",
         {{{"in_flight", 1}, {"per_second", 20.0}, {"p50_ms", 50.0}, {"p99_ms", 51.0}},
          {{"in_flight", 8}, {"per_second", 160.0}, {"p50_ms", 50.0}, {"p99_ms", 51.0}}}}}},
      {"advice",
       {{"workers", 2},
        {"concurrency", 8},
        {"per_second", 380.0},
        {"queue_max", 10},
        {"enough", true},
        {"sentences", {"Set pool.workers = 2"}}}}};
  const Json peers = {{"schema", "keelback-peers/1"},
                      {"not_measured", {"ray: not installed"}},
                      {"rows",
                       {{{"id", "call.floor.pinned"},
                         {"what", "w"},
                         {"peer", "p"},
                         {"unit", "µs"},
                         {"ours", 15.0},
                         {"theirs", 16.0},
                         {"ratio", 0.94},
                         {"interval", {0.9, 0.97}},
                         {"target", 1.0},
                         {"at_most", true},
                         {"met", true}}}}};
  Json old_app = app;  // of a build that knew one call at a time
  old_app.erase("concurrency");
  old_app["advice"].erase("concurrency");
  EXPECT_THAT(to_html(app), HasSubstr("@keelback.function(concurrency=8)"));
  EXPECT_THAT(to_html(old_app), Not(HasSubstr("concurrency=")));
  for (const Json& document : {run_document(), compare_document(), app, old_app, peers}) {
    const std::string html = to_html(document), schema = document["schema"];
    EXPECT_THAT(html, HasSubstr("</html>")) << schema;
    if (schema != "keelback-peers/1") {
      EXPECT_THAT(html, HasSubstr("<svg")) << schema;
    }
    for (const char* word : {"http://", "https://", "src=", "<app>", "<x>", "nan"})
      EXPECT_THAT(html, Not(HasSubstr(word))) << schema;
    EXPECT_FALSE(to_text(document).empty()) << schema;
    EXPECT_THAT(to_junit(document), HasSubstr("</testsuite>")) << schema;
    EXPECT_THAT(to_markdown(document), HasSubstr("| --- |")) << schema;
  }
}

// Goal: the verdict of a comparison is said with the metric and its interval, and fails in JUnit.
TEST(Documents, ARegressionIsSaidInWords) {
  const Json document = compare_document();
  EXPECT_THAT(to_text(document), HasSubstr("REGRESSED: call.p50_us +10.00 % [+9.00, +11.00]"));
  EXPECT_THAT(to_text(document), HasSubstr("[+9.00, +11.00]  REGRESSED, +10 % injected"));
  EXPECT_THAT(to_junit(document), HasSubstr("failures=\"1\""));
  Json doubtful = document;
  doubtful["void"] = {"canary: an injected slowdown of 10 % was not caught"};
  EXPECT_THAT(to_text(doubtful), HasSubstr("VOID: canary"));
}

// Goal: a missed target says by how much, and what the limit is; what the interval leaves open is
// not sold as sure.
TEST(Documents, AMissedTargetSaysByHowMuchAndWhatTheLimitIs) {
  PeersResult result;
  const auto add = [&](const char* id, double ratio, double low, double high) {
    result.rows.push_back({.id = id,
                           .what = "w",
                           .peer = "p",
                           .unit = "1/s",
                           .log_ratio = {std::log(ratio), std::log(low), std::log(high)},
                           .target = 5,
                           .at_most = false,
                           .blocks = 30});
  };
  add("throughput.process_pool.free", 4.75, 3.98, 5.68);
  add("met", 6, 5.5, 7);
  const Json document = to_json(result);
  const Json& missed = document["rows"][0];
  EXPECT_FALSE(missed["met"].get<bool>());
  EXPECT_FALSE(missed["sure"].get<bool>());
  EXPECT_NEAR(missed["missed_by"].get<double>(), 0.05, 1e-6);
  EXPECT_THAT(missed["limit"].get<std::string>(), HasSubstr("wakes its worker once"));
  EXPECT_FALSE(document["rows"][1].contains("limit"));
  EXPECT_TRUE(document["rows"][1]["sure"].get<bool>());
  EXPECT_THAT(to_text(document), HasSubstr("at least 5: MISSED by 5 %, not sure"));
  EXPECT_THAT(to_text(document), HasSubstr("what limits throughput.process_pool.free: a call"));
  EXPECT_THAT(to_html(document), HasSubstr("What limits the missed ones"));
}

// Goal: a p99 that so few samples do not bound is not said to be bounded, nor sure to be met.
TEST(Documents, AFigureWithoutABoundSaysSo) {
  PeersResult result;
  result.rows.push_back({.id = "recovery.p99",
                         .what = "w",
                         .unit = "ms",
                         .ours = 23,
                         .log_ratio = {std::log(23.0), std::log(20.0), INFINITY},
                         .target = 50,
                         .at_most = true,
                         .blocks = 24});
  const Json document = to_json(result);
  EXPECT_TRUE(document["rows"][0]["interval"][1].is_null());
  EXPECT_TRUE(document["rows"][0]["met"].get<bool>());
  EXPECT_FALSE(document["rows"][0]["sure"].get<bool>());
  EXPECT_THAT(to_text(document), HasSubstr("[20.0, no bound]  at most 50: met, not sure"));
  EXPECT_THAT(to_html(document), HasSubstr("no bound"));
}

// Goal: percentiles among calls that never came back are drawn as bounds.
TEST(Documents, CensoredCallsAreShownAsBounds) {
  EXPECT_THAT(to_html(run_document()), HasSubstr("planned, at least"));
}

// Goal: a broken promise is exit code 1, whatever else there is; a doubt alone is 3.
TEST(Documents, ExitCodesOfARun) {
  Json document = run_document();
  EXPECT_EQ(exit_code_of_run(document), 0);
  document["void"] = {"call: the generator lagged"};
  EXPECT_EQ(exit_code_of_run(document), 3);
  document["broken"] = {"cleanup.left_processes is not 0 in every block"};
  EXPECT_EQ(exit_code_of_run(document), 1);
}

// Goal: what is written can be read again and gives the same page: `bench report DIR`.
TEST(Documents, AReportCanBeMadeAnew) {
  const std::string directory = testing::TempDir() + "report-" + std::to_string(::getpid());
  ASSERT_TRUE(write_report(directory, run_document()));
  const auto again = read_report(directory);
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(to_html(*again), to_html(run_document()));
  std::filesystem::remove_all(directory);
  EXPECT_THAT(read_report(directory).error(), HasSubstr("there is no"));
}

// Goal: every metric belongs to a family or a group of peers, every family and group has metrics,
// no id is there twice, and every target says what limits it.
TEST(Families, MetricsAndFamiliesFit) {
  std::set<std::string_view> seen, used;
  for (const Metric& metric : metrics()) {
    EXPECT_TRUE(seen.insert(metric.id).second) << metric.id;
    EXPECT_EQ(find_metric(metric.id), &metric);
    EXPECT_EQ(find_metric(metric.compare_id()), &metric);
    used.insert(metric.family());
    if (metric.held) {
      EXPECT_THAT(peer_groups(), testing::Contains(metric.family()));
      EXPECT_EQ(metric.target > 0, !metric.limit.empty()) << metric.id;
    } else {
      EXPECT_TRUE(find_family(metric.family())) << metric.id;
    }
  }
  for (const Family& family : families()) EXPECT_TRUE(used.contains(family.name)) << family.name;
  for (const std::string& group : peer_groups()) EXPECT_TRUE(used.contains(group)) << group;
  EXPECT_EQ(families().size(), 12u);
  EXPECT_FALSE(find_family("nonsense"));
}

}  // namespace
}  // namespace keelback::bench
