#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "bench/core_cost.h"
#include "bench/family.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// Throughput over workers, of functions that wait (all workers help) and that compute (no more than
// there are processors).
void workers_curve(FamilyBlock& block) {
  for (const auto& [function, payload, title] :
       {std::tuple{"sleep_ms", "[2]", "Workers, function that waits 2 ms"},
        std::tuple{"spin_ms", "[1]", "Workers, function that computes 1 ms"}}) {
    std::vector<ScalingPoint> points;
    for (const unsigned workers : {1u, 2u, 3u, 4u, 6u, 8u}) {
      Subject pool = block.start({{"workers", workers}});
      const Json order = {{"op", "window"},
                          {"function", function},
                          {"payload", payload},
                          {"callers", 2 * workers},
                          {"ms", 120 * block.stretch()}};
      const Json answer = pool.ask(order);
      if (answer.contains("per_second"))
        points.push_back({static_cast<double>(workers), answer["per_second"].get<double>()});
    }
    if (points.size() != 6) return;
    if (std::string_view(function) == "sleep_ms") {
      block.note("scaling.lambda", points[0].x);
      block.note("scaling.4_efficiency", points[3].x / (4 * points[0].x));
    }
    block.figure(title, "scaling", "workers", "calls a second")
        .scaling.push_back(std::move(points));
  }
}

void core_curves(FamilyBlock& block) {
  const auto length = std::chrono::milliseconds(block.quick() ? 20 : 40);
  const auto curve = [&](const char* title, const char* x,
                         std::initializer_list<std::uint32_t> values, auto&& load_of,
                         const char* metric) {
    double first = 0, last = 0;
    for (const std::uint32_t value : values) {
      last = core_call_ns(load_of(value), length);
      if (first == 0) first = last;
      Figure& figure = block.figure(title, "curve", x, "ns a call");
      figure.log_x = true;
      figure.add("the core alone", value, last);
    }
    block.note(metric, last / first);
  };
  curve(
      "Core: cost of a call by sessions", "sessions", {100, 1'000, 10'000, 100'000, 1'000'000},
      [](std::uint32_t n) { return CoreLoad{.workers = 4, .sessions = n}; },
      "scaling.sessions_ratio");
  curve(
      "Core: cost of a call by workers", "workers", {1, 2, 4, 8, 16, 32, 64},
      [](std::uint32_t n) { return CoreLoad{.workers = n}; }, "scaling.workers_ratio");
  curve(
      "Core: cost of a call by waiting calls", "waiting calls",
      {1, 10, 100, 1'000, 10'000, 100'000},
      [](std::uint32_t n) { return CoreLoad{.workers = 2, .waiting = n}; }, "scaling.queued_ratio");
}

// The whole pool with workers that are no Python: what our side adds as it grows.
void pool_curves(FamilyBlock& block) {
  const Json fake = {
      {"app", "standard"}, {"function", "echo"}, {"settings", {{"pool.backend", "fake"}}}};
  double first = 0, last = 0;
  for (const unsigned workers : {1u, 4u, 16u, 64u}) {
    Json order = fake;
    order["workers"] = workers;
    Subject pool = block.start(order);
    pool.ask({{"op", "window"}, {"function", "echo"}, {"ms", 20}});
    const Json answer = pool.ask({{"op", "window"}, {"function", "echo"}, {"ms", 100}});
    last = answer.value("p50_us", NAN);
    if (first == 0) first = last;
    Figure& figure =
        block.figure("Pool of fake workers: a call by workers", "curve", "workers", "µs");
    figure.log_x = true;
    figure.add("median, one caller", workers, last);
    figure.add("processor time", workers, answer.value("cpu_us_per_call", NAN));
  }
  block.note("scaling.pool_workers_ratio", last / first);
  first = 0;
  for (const unsigned waiting : {100u, 1'000u, 10'000u, 100'000u}) {
    Subject pool = block.start(fake);
    const Json answer = pool.ask({{"op", "queue"}, {"waiting", waiting}, {"function", "echo"}});
    last = answer.value("total_us", NAN);
    if (first == 0) first = last;
    Figure& figure = block.figure("Pool of fake workers: a call by waiting calls", "curve",
                                  "waiting calls", "µs");
    figure.log_x = true;
    figure.add("submitted, queued, served", waiting, last);
  }
  block.note("scaling.pool_queued_ratio", last / first);
}

}  // namespace

void scaling_block(FamilyBlock& block) {
  workers_curve(block);
  core_curves(block);
  pool_curves(block);
}

}  // namespace keelback::bench
