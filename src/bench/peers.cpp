#include "bench/peers.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <memory>
#include <optional>

#include "base/prng.h"
#include "bench/agent_process.h"
#include "bench/http_load.h"
#include "bench/line_process.h"
#include "bench/machine.h"
#include "bench/pinned.h"
#include "bench/reference.h"
#include "bench/serve_process.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

double us(Duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

std::vector<std::string> peer_command(const PeersOptions& options, const std::string& name) {
  return {"/usr/bin/env",   "PYTHONPATH=" + options.python_directory,
          options.python,   "-m",
          "keelback.peers", name};
}

class PeersRun {
 public:
  explicit PeersRun(const PeersOptions& options) : options_(options), prng_(options.seed) {}

  std::expected<PeersResult, std::string> run() {
    for (const bool pinned : {true, false}) {
      if (auto error = calls(pinned); !error.empty()) return std::unexpected(error);
    }
    if (auto error = http(); !error.empty()) return std::unexpected(error);
    return std::move(result_);
  }

 private:
  struct Samples {
    std::vector<double> ours, theirs;
  };

  // Three stages of about equal length.
  void say(const std::string& stage, int number, double share) const {
    if (!options_.progress) return;
    const double all = (number + share) / 3;
    const double spent =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    options_.progress(stage, all,
                      Duration{all > 0.02 ? static_cast<long>(1e9 * spent * (1 - all) / all) : 0});
  }

  void add(std::string id, std::string what, std::string peer, std::string unit,
           const Samples& samples, double target, bool at_most) {
    PeerRow row{.id = std::move(id),
                .what = std::move(what),
                .peer = std::move(peer),
                .unit = std::move(unit),
                .target = target,
                .at_most = at_most};
    std::vector<double> logs;
    for (std::size_t i = 0; i < std::min(samples.ours.size(), samples.theirs.size()); ++i) {
      logs.push_back(std::log(samples.ours[i] / samples.theirs[i]));
    }
    if (logs.empty()) return;
    row.ours = median(samples.ours);
    row.theirs = median(samples.theirs);
    row.log_ratio = hodges_lehmann(logs, 0.95);
    row.blocks = logs.size();
    result_.rows.push_back(std::move(row));
  }

  // One caller's latency and sixteen callers' throughput, everybody alternated in a random order.
  std::string calls(bool pinned) {
    const Pinned pin(pinned ? Pinned::first_allowed() : -1);
    auto floor = ReferenceEcho::start(options_.python);
    if (!floor) return floor.error();
    auto agent = start_agent(options_.program);
    if (!agent) return agent.error();
    if (auto up = agent->ask(
            {{"op", "start"}, {"workers", 2}, {"settings", {{"workers.python", options_.python}}}});
        !up)
      return up.error();

    std::map<std::string, LineProcess> peers;
    for (const char* name : {"process_pool", "mp_pool", "loky", "grpc", "ray"}) {
      auto peer = LineProcess::start(peer_command(options_, name));
      if (!peer) return peer.error();
      if (auto up = peer->ask({{"op", "start"}, {"workers", 2}})) {
        peers.emplace(name, std::move(*peer));
      } else if (pinned) {
        result_.not_measured.push_back(fmt::format("{}: {}", name, up.error()));
      }
    }

    std::map<std::string, Samples> latency, throughput;
    const std::string place = pinned ? "one CPU" : "all CPUs";
    for (int block = 0; block < options_.blocks; ++block) {
      say(fmt::format("calls, {}", place), pinned ? 0 : 1,
          static_cast<double>(block) / options_.blocks);
      std::map<std::string, double> p50, rate;
      std::vector<std::string> order{"floor", "ours"};
      for (const auto& [name, peer] : peers) order.push_back(name);
      for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[prng_.below(i)]);
      for (const std::string& name : order) {
        if (name == "floor") {
          const auto times =
              floor->run(std::chrono::microseconds(static_cast<long>(1e3 * options_.window_ms)));
          if (times.empty()) return "the reference loop died";
          p50[name] = us(times[times.size() / 2]);
          continue;
        }
        LineProcess& process = name == "ours" ? *agent : peers.at(name);
        const bool ours = name == "ours";
        const auto one =
            process.ask(ours ? Json{{"op", "window"}, {"callers", 1}, {"ms", options_.window_ms}}
                             : Json{{"op", "latency"}, {"ms", options_.window_ms}});
        if (!one) return name + ": " + one.error();
        p50[name] = (*one)["p50_us"];
        const auto many = process.ask(
            ours ? Json{{"op", "window"}, {"callers", 16}, {"ms", 2 * options_.window_ms}}
                 : Json{{"op", "throughput"}, {"callers", 16}, {"ms", 2 * options_.window_ms}});
        if (!many) return name + ": " + many.error();
        rate[name] = (*many)["per_second"];
      }
      for (const auto& [name, value] : p50) {
        latency[name].ours.push_back(p50["ours"]);
        latency[name].theirs.push_back(value);
      }
      for (const auto& [name, value] : rate) {
        throughput[name].ours.push_back(rate["ours"]);
        throughput[name].theirs.push_back(value);
      }
    }
    const std::string suffix = pinned ? ".pinned" : ".free";
    add("call.floor" + suffix, "one caller, trivial function, p50, " + place,
        "socketpair + Python loop", "µs", latency["floor"], pinned ? 1.0 : 1.2, true);
    for (const auto& [name, peer] : peers) {
      add("call." + name + suffix, "one caller, trivial function, p50, " + place, name, "µs",
          latency[name], 0, true);
      add("throughput." + name + suffix, "2 workers, 16 callers, " + place, name, "calls/s",
          throughput[name], name == "process_pool" && !pinned ? 5.0 : 0, false);
    }
    return {};
  }

  // Our server and uvicorn under the same client.
  std::string http() {
    auto uvicorn = LineProcess::start(peer_command(options_, "uvicorn"));
    if (!uvicorn) return uvicorn.error();
    const auto up = uvicorn->ask({{"op", "start"}, {"workers", 2}});
    if (!up) {
      result_.not_measured.push_back("uvicorn: " + up.error());
      return {};
    }
    auto server = LineProcess::start(
        {options_.program, "serve", "keelback.apps.bench", "--json", "--workers", "2", "--listen",
         "127.0.0.1:0", "--set", "workers.python=" + options_.python, "--set", "log.level=warn"});
    if (!server) return server.error();
    const auto ours = server->next();
    if (!ours) return "serve: " + ours.error();
    const std::string address = (*ours)["listening"][0];
    const auto our_port =
        static_cast<std::uint16_t>(std::atoi(address.substr(address.rfind(':') + 1).c_str()));
    const std::uint16_t ports[2] = {our_port, (*up)["port"].get<std::uint16_t>()};
    const auto window = std::chrono::microseconds(static_cast<long>(2e3 * options_.window_ms));
    for (const std::uint16_t port : ports) {
      if (auto warm = wait_for_server(port); !warm) return warm.error();
    }
    Samples throughput, p99, p50;
    for (int block = 0; block < options_.blocks; ++block) {
      say("HTTP", 2, static_cast<double>(block) / options_.blocks);
      double rate[2]{}, slow[2]{}, typical[2]{};
      const int first = prng_.chance(0.5) ? 1 : 0;
      for (const int side : {first, 1 - first}) {
        const auto many = run_http({.port = ports[side], .callers = 16, .length = window});
        const auto one = run_http({.port = ports[side], .callers = 1, .length = window / 2});
        if (!many) return many.error();
        if (!one) return one.error();
        rate[side] = many->per_second();
        slow[side] = us(many->latency.quantile(0.99).value);
        typical[side] = us(one->latency.quantile(0.5).value);
      }
      throughput.ours.push_back(rate[0]);
      throughput.theirs.push_back(rate[1]);
      p99.ours.push_back(slow[0]);
      p99.theirs.push_back(slow[1]);
      p50.ours.push_back(typical[0]);
      p50.theirs.push_back(typical[1]);
    }
    const std::string peer = (*up)["version"];
    add("http.throughput", "HTTP, 2 workers, 16 connections", peer, "calls/s", throughput, 3.0,
        false);
    add("http.p99", "HTTP, 2 workers, 16 connections, p99", peer, "µs", p99, 1.0, true);
    add("http.p50", "HTTP, one connection, p50", peer, "µs", p50, 0, true);
    return {};
  }

  const PeersOptions& options_;
  Prng prng_;
  PeersResult result_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace

bool PeerRow::met() const {
  const double ratio = std::exp(log_ratio.value);
  return target == 0 || (at_most ? ratio <= target : ratio >= target);
}

std::expected<PeersResult, std::string> run_peers(const PeersOptions& options) {
  return PeersRun(options).run();
}

Json to_json(const PeersResult& result) {
  Json rows = Json::array();
  for (const PeerRow& row : result.rows) {
    Json one = {{"id", row.id},
                {"what", row.what},
                {"peer", row.peer},
                {"unit", row.unit},
                {"ours", row.ours},
                {"theirs", row.theirs},
                {"ratio", std::exp(row.log_ratio.value)},
                {"interval", {std::exp(row.log_ratio.low), std::exp(row.log_ratio.high)}},
                {"blocks", row.blocks}};
    if (row.target > 0) {
      one["target"] = row.target;
      one["at_most"] = row.at_most;
      one["met"] = row.met();
    }
    rows.push_back(std::move(one));
  }
  return {{"schema", "keelback-peers/1"},
          {"machine", describe_machine()},
          {"build", build_text()},
          {"rows", rows},
          {"not_measured", result.not_measured}};
}

}  // namespace keelback::bench
