#include "bench/peer_stages.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "bench/http.h"
#include "bench/pinned.h"
#include "bench/reference.h"
#include "load/application.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// One caller's latency and sixteen callers' throughput.
std::string measure_calls(PeersRun& run, const std::string& place) {
  const bool pinned = place == "pinned";
  const Pinned pin(pinned ? Pinned::first_allowed() : -1);
  auto floor = ReferenceEcho::start(run.options().python);
  if (!floor) return floor.error();
  auto agent = run.lasting_pool(2);
  if (!agent) return agent.error();
  constexpr std::size_t kFloor = 1;
  std::vector<Arm> arms = {{"ours", {}}, {"floor", {}}};
  std::vector<LineProcess> peers;
  for (const char* name : {"process_pool", "mp_pool", "loky", "grpc", "ray"}) {
    auto started = run.peer(name);
    if (!started) return started.error();
    if (auto up = started->ask({{"op", "start"}, {"workers", 2}})) {
      arms.push_back({name, {}});
      peers.push_back(std::move(*started));
    } else if (pinned) {
      run.not_measured(fmt::format("{}: {}", name, up.error()));
    }
  }
  const double ms = run.options().window_ms;
  const auto one = [&](Block& block) {
    std::vector<double> p50(arms.size(), NAN), rate(arms.size(), NAN);
    block.each([&](std::size_t arm) {
      if (arm == kFloor) {
        const auto times = floor->run(from_ms(ms));
        if (times.empty()) return block.fail(arm, "the reference loop died");
        p50[arm] = us(times[times.size() / 2]);
        return;
      }
      LineProcess& process = arm == run.kOurs ? *agent : peers[arm - kFloor - 1];
      const char* op = arm == run.kOurs ? "window" : "latency";
      if (run.wanted("call"))
        p50[arm] =
            run.asked(block, arm, process, {{"op", op}, {"callers", 1}, {"ms", ms}}, "p50_us");
      if (arm != run.kOurs) op = "throughput";
      if (run.wanted("throughput"))
        rate[arm] = run.asked(block, arm, process, {{"op", op}, {"callers", 16}, {"ms", 2 * ms}},
                              "per_second");
    });
    for (std::size_t arm = kFloor; arm < arms.size(); ++arm) {
      run.note_pair(block, run.row_of("call", arms[arm].name, place), arm, p50[run.kOurs],
                    p50[arm]);
      run.note_pair(block, run.row_of("throughput", arms[arm].name, place), arm, rate[run.kOurs],
                    rate[arm]);
    }
  };
  return run.measure(pinned ? "calls, one CPU" : "calls, all CPUs", arms, run.options().blocks,
                     one);
}

// A function that Python code calls in this program, against the bare loop, which this program
// calls in Python: the same two processes and the same two bodies, begun by the other end.
std::string measure_host(PeersRun& run, const std::string& place) {
  const bool pinned = place == "pinned";
  const Pinned pin(pinned ? Pinned::first_allowed() : -1);
  auto floor = ReferenceEcho::start(run.options().python);
  if (!floor) return floor.error();
  auto agent = run.lasting_pool(1);
  if (!agent) return agent.error();
  const double ms = run.options().window_ms;
  const std::vector<Arm> arms = {{"ours", {}}, {"floor", {}}};
  return run.measure(pinned ? "host functions, one CPU" : "host functions, all CPUs", arms,
                     run.options().blocks, [&](Block& block) {
                       double p50[2] = {NAN, NAN};
                       block.each([&](std::size_t arm) {
                         if (arm == run.kOurs) {
                           p50[arm] = run.asked(block, arm, *agent, {{"op", "host"}, {"ms", ms}},
                                                "p50_us");
                           return;
                         }
                         const auto times = floor->run(from_ms(ms));
                         if (times.empty()) return block.fail(arm, "the reference loop died");
                         p50[arm] = us(times[times.size() / 2]);
                       });
                       run.note_pair(block, "host.floor." + place, 1, p50[run.kOurs], p50[1]);
                     });
}

}  // namespace

std::string measure_pinned_calls(PeersRun& run) { return measure_calls(run, "pinned"); }
std::string measure_free_calls(PeersRun& run) { return measure_calls(run, "free"); }
std::string measure_pinned_host(PeersRun& run) { return measure_host(run, "pinned"); }
std::string measure_free_host(PeersRun& run) { return measure_host(run, "free"); }

// Our server and uvicorn under the same client.
std::string measure_http(PeersRun& run) {
  auto uvicorn = run.peer("uvicorn");
  if (!uvicorn) return uvicorn.error();
  const auto up = uvicorn->ask({{"op", "start"}, {"workers", 2}});
  if (!up) {
    run.not_measured("uvicorn: " + up.error());
    return {};
  }
  const auto server = ServeProcess::start(
      run.options().program, load::lab_application("bench_probe"), run.options().python, 2);
  if (!server) return server.error();
  const std::uint16_t ports[] = {server->port(), (*up)["port"].get<std::uint16_t>()};
  if (auto warm = wait_for_server(ports[1]); !warm) return warm.error();
  const Duration window = from_ms(2 * run.options().window_ms);
  const std::vector<Arm> arms = {{"ours", {}}, {(*up)["version"], {}}};
  return run.measure("HTTP", arms, run.options().blocks, [&](Block& block) {
    block.each([&](std::size_t arm) {
      const auto many = run_http({.port = ports[arm], .callers = 16, .length = window});
      const auto one = run_http({.port = ports[arm], .callers = 1, .length = window / 2});
      if (!many || !one) return block.fail(arm, many ? one.error() : many.error());
      block.note("http.throughput", many->per_second(), arm);
      block.note("http.p99", us(many->latency.quantile(0.99).value), arm);
      block.note("http.p50", us(one->latency.quantile(0.5).value), arm);
    });
  });
}

}  // namespace keelback::bench
