#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "bench/family.h"
#include "bench/http.h"
#include "bench/pool_under_test.h"
#include "load/generator.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

Json window(unsigned callers, double ms, const Json& more = Json::object()) {
  Json order = {{"op", "window"}, {"callers", callers}, {"ms", ms}};
  order.update(more);
  return order;
}

Json sized(std::size_t bytes) { return {{"payload", "[\"" + std::string(bytes, 'x') + "\"]"}}; }

// Planned-time and service curves of an open loop, side by side.
void both_curves(FamilyBlock& block, const std::string& title, const Json& open) {
  block.percentiles(title, "from the planned time", open.value("buckets", Json::array()));
  block.percentiles(title, "service alone", open.value("service_buckets", Json::array()));
  block.percentiles(title, "the generator's lag", open.value("lag_buckets", Json::array()));
}

}  // namespace

void call_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask(window(1, 30));  // settles
  const Json closed = pool.take("closed", window(1, 300 * block.stretch()));
  block.percentiles("One caller, closed loop", "trivial function",
                    closed.value("buckets", Json::array()));
  for (const auto& [step, bytes] :
       {std::pair{"closed_4k", 4 << 10}, std::pair{"closed_64k", 64 << 10},
        std::pair{"closed_1m", 1 << 20}}) {
    const Json answer = pool.take(step, window(1, 100, sized(static_cast<std::size_t>(bytes))));
    Figure& figure = block.figure("Median by payload", "curve", "bytes each way", "µs");
    figure.log_x = figure.log_y = true;
    figure.add("argument and result", bytes, answer.value("p50_us", NAN));
  }
  const double rate = 0.15 * closed.value("per_second", 0.0);
  const Json open = pool.take("open", {{"op", "open"},
                                       {"rate", rate},
                                       {"ms", 500 * block.stretch()},
                                       {"seed", block.prng().below(1 << 30)}});
  block.doubt(open);
  both_curves(block, "Open loop at 15 % of one caller's rate", open);
  const unsigned calls = block.quick() ? 1000 : 3000;
  pool.take("counters", {{"op", "counters"}, {"calls", calls}});
  pool.count_system_calls(1000);
  pool.count_allocations(calls);
}

void throughput_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask(window(4, 30));
  for (const unsigned callers : {1u, 2u, 4u, 8u, 16u, 32u, 64u}) {
    const Json answer =
        pool.take(fmt::format("callers_{}", callers), window(callers, 120 * block.stretch()));
    Figure& rate = block.figure("Throughput by callers", "curve", "callers", "calls a second");
    rate.log_x = true;
    rate.add("trivial function, 2 workers", callers, answer.value("per_second", NAN));
    Figure& latency = block.figure("Latency by callers", "curve", "callers", "µs");
    latency.log_x = latency.log_y = true;
    latency.add("p50", callers, answer.value("p50_us", NAN));
    latency.add("p99", callers, answer.value("p99_us", NAN));
  }
  const Json sleeping =
      pool.ask(window(8, 250 * block.stretch(), {{"function", "sleep_ms"}, {"payload", "[5]"}}));
  block.note("throughput.sleep_efficiency", sleeping.value("per_second", NAN) / (2 / 0.005));
  const Json computing =
      pool.ask(window(8, 250 * block.stretch(), {{"function", "spin_ms"}, {"payload", "[1]"}}));
  const double processors =
      block.options().cpu >= 0 ? 1 : std::min(2u, std::thread::hardware_concurrency());
  block.note("throughput.cpu_efficiency",
             computing.value("per_second", NAN) / (processors / 0.001));
}

void affinity_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask(window(1, 30));
  const Json plain = pool.ask(window(1, 100));
  const Json uniform =
      pool.take("affinity", {{"op", "affinity"}, {"sessions", 1000}, {"calls", 4000}});
  block.note("affinity.cost_ratio", uniform.value("next_p50_us", NAN) / plain.value("p50_us", NAN));
  for (const unsigned sessions : {10u, 1000u, block.quick() ? 10'000u : 100'000u}) {
    const Json answer = pool.ask(
        window(1, 100, {{"function", "count"}, {"payload", "[]"}, {"sessions", sessions}}));
    Figure& figure = block.figure("Median by sessions in use", "curve", "sessions", "µs");
    figure.log_x = true;
    figure.add("a call in one of so many", sessions, answer.value("p50_us", NAN));
  }
  Subject skewed = block.start();
  const Json zipf = skewed.take("affinity_zipf", {{"op", "affinity"},
                                                  {"sessions", 1000},
                                                  {"calls", 3000},
                                                  {"zipf", 1.0},
                                                  {"seed", block.prng().below(1 << 30)}});
  for (const Json& answer : {uniform, zipf})
    block.note("affinity.hit_ratio", answer.value("hit_ratio", NAN));
  skewed.take("neighbour", {{"op", "neighbour"}, {"ms", 250 * block.stretch()}});
}

// A function of one millisecond, so that the pool is saturated and not the load generator, which is
// in the same process.
void overload_block(FamilyBlock& block) {
  const Json function = {{"function", "sleep_ms"}, {"payload", "[1]"}};
  Subject pool = block.start(
      {{"function", "sleep_ms"}, {"payload", "[1]"}, {"settings", {{"pool.queue_max", "64"}}}});
  const Json closed = pool.take("capacity", window(32, 300, function));
  const double capacity = closed.value("per_second", 0.0);
  double unexplained = 0;
  const auto open = [&](double share, const Json& more) {
    Json order = {{"op", "open"},
                  {"rate", share * capacity},
                  {"ms", 400 * block.stretch()},
                  {"saturated", share > 0.9},
                  {"deadline_ms", 500},
                  {"seed", block.prng().below(1 << 30)}};
    order.update(function);
    order.update(more);
    Json answer = pool.ask(order);
    if (share <= 0.8) block.doubt(answer);
    const Json outcomes = answer.value("outcomes", Json::object());
    for (const auto& [kind, count] : outcomes.items()) {
      if (kind != "ok" && kind != "overloaded" && kind != "timeout" && kind != "unsent")
        unexplained += count.get<double>();
    }
    return answer;
  };
  for (const double share : {0.2, 0.5, 0.8, 0.95, 1.1, 1.5}) {
    const Json answer = open(share, Json::object());
    const double good = answer.value("per_second", NAN);
    Figure& latency = block.figure("Latency by offered load", "curve",
                                   "offered calls a second, % of capacity", "ms");
    latency.log_y = true;
    latency.add("p50, planned", 100 * share, answer.value("p50_us", NAN) / 1e3);
    latency.add("p99, planned", 100 * share, answer.value("p99_us", NAN) / 1e3);
    latency.add("p99, service", 100 * share, answer.value("service_p99_us", NAN) / 1e3);
    block
        .figure("Goodput by offered load", "curve", "offered calls a second, % of capacity",
                "% of capacity")
        .add("answered in time", 100 * share, 100 * good / capacity);
    if (share == 0.5)
      block.note("overload.goodput_50",
                 answer.value("succeeded", NAN) / answer.value("calls", NAN));
    if (share == 0.8) block.note("overload.p99_80_ms", answer.value("p99_us", NAN) / 1e3);
    if (share == 1.5) block.note("overload.goodput_150", good / capacity);
    if (share == 0.8) both_curves(block, "Percentiles at 80 % of the capacity", answer);
  }
  const Json burst = open(0.5, {{"shape", "burst"},
                                {"burst_factor", 5},
                                {"ms", 1000},
                                {"saturated", true},
                                {"points", 3000}});
  block.note_step("burst", burst);
  block.note("overload.unexplained", unexplained);
  if (block.first()) {
    Figure& heat = block.figure("A burst of five times the load, from 0.4 to 0.6 s", "heat",
                                "seconds", "ms from the planned time");
    heat.points = burst.value("points", Json::array());
    heat.marks = {{0.4, "burst begins"}, {0.6, "burst ends"}};
  }
}

void http_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask(window(1, 30));
  const Json inside = pool.ask(window(1, 150));
  auto server =
      ServeProcess::start(block.options().program, block.options().app, block.options().python, 2);
  if (!server) return block.fail(server.error());
  const std::uint16_t port = server->port();
  const auto load = [&](HttpLoad what) -> std::optional<HttpFigures> {
    what.port = port;
    auto figures = run_http(what);
    if (figures) return std::move(*figures);
    block.fail("http: " + figures.error());
    return std::nullopt;
  };
  const auto window_ms = [&](double ms) { return Duration{static_cast<long>(1e6 * ms)}; };
  const auto warm = load({.length = window_ms(30)});
  const auto one = load({.length = window_ms(200 * block.stretch())});
  const auto many = load({.callers = 16, .length = window_ms(200 * block.stretch())});
  const auto fresh = load({.reconnect = true, .length = window_ms(150)});
  if (!warm || !one || !many || !fresh) return;
  const double p50 = us(one->latency.quantile(0.5).value);
  block.note("http.p50_us", p50);
  block.note("http.p99_us", us(one->latency.quantile(0.99).value));
  block.note("http.overhead_us", p50 - inside.value("p50_us", NAN));
  block.note("http.16_per_second", many->per_second());
  block.note("http.connect_p50_us", us(fresh->latency.quantile(0.5).value));
  double errors = static_cast<double>(one->other + many->other + fresh->other);

  const load::Plan plan =
      load::make_plan({.rate = 0.3 * one->per_second(), .length = window_ms(500 * block.stretch())},
                      block.prng().next());
  HttpSender sender(port, 16);
  const load::Run run = load::run_plan(
      [&](Call&& call, host::OnOutcome&& done) { sender.send(std::move(call), std::move(done)); },
      plan,
      [](const load::Arrival&, std::size_t) { return Call{.function = "noop", .payload = "[1]"}; });
  for (const std::string& reason : load::void_reasons(run)) block.doubt({{"void", {reason}}});
  errors += static_cast<double>(run.records.size() - run.count(OutcomeKind::kOk));
  block.note("http.open_p99_us", us(run.latency().quantile(0.99).value));
  block.note("http.errors", errors);
  const auto add = [&](const std::string& title, const std::string& series,
                       const load::Histogram& histogram) {
    Json buckets = Json::array();
    for (const auto& bucket : histogram.buckets())
      buckets.push_back({bucket.middle.count(), bucket.finished, bucket.censored});
    block.percentiles(title, series, buckets);
  };
  add("HTTP, open loop at 30 % of one connection's rate", "from the planned time", run.latency());
  add("HTTP, open loop at 30 % of one connection's rate", "service alone", run.service());
  add("HTTP against in process, one caller, closed loop", "HTTP", one->latency);
  block.percentiles("HTTP against in process, one caller, closed loop", "in process",
                    inside.value("buckets", Json::array()));
}

}  // namespace keelback::bench
