#include "bench/peer_stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/http.h"
#include "bench/pool_under_test.h"
#include "load/application.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr unsigned kInFlight = 64;
constexpr auto kShared = "answer_after";  // of apps/bench_shared.py, and of each alternative
constexpr auto kAtOnce = "[0]", kAfterMs = "[200]";

// Trivial functions, kInFlight callers: a pool whose calls run side by side against one where each
// call has its worker alone.
std::string measure_beside_exclusive(PeersRun& run) {
  auto shared = run.lasting_pool(2, {{"app", load::lab_application("bench_shared")},
                                     {"function", kShared},
                                     {"payload", kAtOnce}});
  auto exclusive = run.lasting_pool(2);
  if (!shared || !exclusive) return shared ? exclusive.error() : shared.error();
  const std::vector<Arm> arms = {{"ours", {}}, {"exclusive", {}}};
  return run.measure("shared calls", arms, run.options().blocks, [&](Block& block) {
    Json window = {{"op", "window"}, {"callers", kInFlight}, {"ms", 2 * run.options().window_ms}};
    for (const bool threads : {true, false}) {
      window["threads"] = threads;
      const char* row = threads ? "shared.rate.exclusive" : "shared.rate.exclusive.submitted";
      block.each([&](std::size_t arm) {
        Json order = window;
        if (arm == run.kOurs) order.update({{"function", kShared}, {"payload", kAtOnce}});
        LineProcess& process = arm == run.kOurs ? *shared : *exclusive;
        block.note(row, run.asked(block, arm, process, order, "per_second"), arm);
      });
    }
    block.note(
        "shared.wait.call",
        run.asked(
            block, run.kOurs, *shared,
            {{"op", "wave"}, {"function", kShared}, {"payload", kAfterMs}, {"calls", kInFlight}},
            "all_ms"));
  });
}

// The same client for our server and for the alternatives.
std::string measure_over_http(PeersRun& run) {
  const auto server =
      ServeProcess::start(run.options().program, load::lab_application("bench_shared"),
                          run.options().python, 2, kShared);
  if (!server) return server.error();
  std::vector<Arm> arms = {{"ours", {}}};
  std::vector<std::uint16_t> ports = {server->port()};
  std::vector<LineProcess> peers;
  for (const char* name : {"uvicorn", "litserve", "ray_serve"}) {
    auto started = run.peer(name);
    if (!started) return started.error();
    const auto up = started->ask({{"op", "start"}, {"workers", 2}});
    if (!up) {
      run.not_measured(fmt::format("{}: {}", name, up.error()));
      continue;
    }
    ports.push_back((*up)["port"].get<std::uint16_t>());
    if (auto warm = wait_for_server(ports.back(), kShared, kAtOnce); !warm)
      return fmt::format("{}: {}", name, warm.error());
    arms.push_back({name, {}});
    peers.push_back(std::move(*started));
  }
  const Duration window = from_ms(4 * run.options().window_ms);
  return run.measure("shared calls over HTTP", arms, run.options().blocks, [&](Block& block) {
    std::vector<double> rate(arms.size(), NAN), all_ms(arms.size(), NAN);
    block.each([&](std::size_t arm) {
      const HttpLoad load{.port = ports[arm],
                          .callers = kInFlight,
                          .threads = false,
                          .length = window,
                          .function = kShared,
                          .payload = kAtOnce};
      const auto many = run_http(load);
      HttpLoad slow = load;
      slow.payload = kAfterMs;
      const auto wave = http_wave(slow, kAtOnce);
      if (!many || !wave) return block.fail(arm, many ? wave.error() : many.error());
      if (many->other > 0) return block.fail(arm, "it answers with errors");
      rate[arm] = many->per_second();
      all_ms[arm] = ms(*wave);
    });
    block.note("shared.wait.http", all_ms[run.kOurs]);
    for (std::size_t arm = run.kOurs + 1; arm < arms.size(); ++arm) {
      run.note_pair(block, run.row_of("shared.rate", arms[arm].name, "http"), arm, rate[run.kOurs],
                    rate[arm]);
      run.note_pair(block, run.row_of("shared.wait", arms[arm].name, "http"), arm,
                    all_ms[run.kOurs], all_ms[arm]);
    }
  });
}

}  // namespace

std::string measure_shared(PeersRun& run) {
  if (auto error = measure_beside_exclusive(run); !error.empty()) return error;
  return measure_over_http(run);
}

// One call in each of so many sessions of the shipped DSPy application, all at once.
std::string measure_dspy(PeersRun& run) {
  constexpr unsigned kSessions = 64;
  constexpr int kModelMs = 500;
  auto pool = run.lasting_pool(
      4, {{"app", "keelback.apps.dspy"}, {"function", "stats"}, {"payload", "[]"}});
  if (!pool) {
    run.not_measured("dspy: " + pool.error());
    return {};
  }
  const Json script = {{"kind", "scripted"}, {"script", {{"delay_ms", kModelMs}}}};
  const Json program = {{"id", "qa"}, {"signature", "question -> answer"}};
  const Json question = {{"id", "qa"}, {"inputs", {{"question", "Why?"}}}};
  const auto in_each = [&](const char* op, const char* function, const Json& arguments) -> Json {
    return {{"op", op},
            {"function", function},
            {"payload", arguments.dump()},
            {"calls", kSessions},
            {"sessions", true}};
  };
  if (auto set = pool->ask({{"op", "calls"},
                            {"function", "configure_lm"},
                            {"payload", script.dump()},
                            {"calls", 1}});
      !set)
    return set.error();
  // One after another, so that each worker has as many sessions as the others.
  if (auto made = pool->ask(in_each("calls", "create_program", program)); !made)
    return made.error();
  const int count = std::clamp(run.options().blocks / 6, 2, 5);
  return run.measure("DSPy sessions", {{"ours", {}}}, count, [&](Block& block) {
    block.note("dspy.sessions", run.asked(block, run.kOurs, *pool,
                                          in_each("wave", "execute_program", question), "all_ms"));
  });
}

}  // namespace keelback::bench
