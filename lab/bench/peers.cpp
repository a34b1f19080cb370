#include "bench/peers.h"

#include <fmt/format.h>

#include <algorithm>
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
#include "bench/pool_under_test.h"
#include "bench/quantile_interval.h"
#include "bench/reference.h"
#include "bench/serve_process.h"
#include "bench/targets.h"
#include "load/application.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// What the alternatives tell people; what goes wrong they answer.
constexpr auto kQuiet = LineProcess::Stderr::kNowhere;
constexpr double kLeast = 1e-9;  // what stands for zero where logarithms are taken

std::vector<std::string> peer_command(const PeersOptions& options, const std::string& name,
                                      const std::vector<std::string>& environment = {}) {
  std::vector<std::string> argv{"/usr/bin/env", "PYTHONPATH=" + options.python_directory + ":" +
                                                    load::lab_python_directory()};
  argv.insert(argv.end(), environment.begin(), environment.end());
  argv.insert(argv.end(), {options.python, "-m", "peers", name});
  return argv;
}

class PeersRun {
 public:
  explicit PeersRun(const PeersOptions& options) : options_(options), prng_(options.seed) {}

  std::expected<PeersResult, std::string> run() {
    using Measure = std::string (PeersRun::*)();
    struct Stage {
      const char* group;
      Measure measure;
    };
    const Stage all[] = {{"call", &PeersRun::pinned_calls}, {"call", &PeersRun::free_calls},
                         {"http", &PeersRun::http},         {"start", &PeersRun::start},
                         {"ready", &PeersRun::ready},       {"recovery", &PeersRun::recovery},
                         {"stop", &PeersRun::stop},         {"cold", &PeersRun::cold},
                         {"kills", &PeersRun::kills},       {"attachment", &PeersRun::attachment},
                         {"sessions", &PeersRun::sessions}, {"simulator", &PeersRun::simulator}};
    std::vector<Measure> chosen;
    for (const Stage& stage : all) {
      // Calls and throughput take the same processes, hence the same stage.
      const bool as_throughput = std::string_view(stage.group) == "call" && wanted("throughput");
      if (wanted(stage.group) || as_throughput) chosen.push_back(stage.measure);
    }
    stages_ = chosen.size();
    for (stage_ = 0; stage_ < stages_; ++stage_) {
      if (auto error = (this->*chosen[stage_])(); !error.empty()) return std::unexpected(error);
    }
    return std::move(result_);
  }

 private:
  struct Samples {
    std::vector<double> ours, theirs;
  };

  bool wanted(const char* group) const {
    return options_.groups.empty() ||
           std::ranges::find(options_.groups, group) != options_.groups.end();
  }

  // As if every stage took as long as every other.
  void say(const std::string& stage, double share) const {
    if (!options_.progress) return;
    const double all = (static_cast<double>(stage_) + share) / static_cast<double>(stages_);
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

  // A figure that is held against a number: the median of its samples, or another quantile.
  void add_alone(std::string id, std::string what, std::string unit,
                 const std::vector<double>& samples, double target, bool at_most, double q = 0.5) {
    QuantileEstimate figure;
    if (q == 0.5) {
      std::vector<double> logs;
      for (const double sample : samples) logs.push_back(std::log(std::max(sample, kLeast)));
      const Estimate centre = hodges_lehmann(logs, 0.95);
      figure = {median(samples), std::exp(centre.low), std::exp(centre.high)};
    } else {
      figure = quantile_interval(samples, q, 0.95);
    }
    const auto log = [](double value) { return std::log(std::max(value, kLeast)); };
    result_.rows.push_back({.id = std::move(id),
                            .what = std::move(what),
                            .peer = {},
                            .unit = std::move(unit),
                            .ours = figure.value,
                            .log_ratio = {log(figure.value), log(figure.low), log(figure.high)},
                            .target = target,
                            .at_most = at_most,
                            .blocks = samples.size()});
  }

  std::string pinned_calls() { return calls(true); }
  std::string free_calls() { return calls(false); }

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
      auto peer = LineProcess::start(peer_command(options_, name), kQuiet);
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
      say(fmt::format("calls, {}", place), static_cast<double>(block) / options_.blocks);
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
        if (wanted("call")) {
          const auto one =
              process.ask(ours ? Json{{"op", "window"}, {"callers", 1}, {"ms", options_.window_ms}}
                               : Json{{"op", "latency"}, {"ms", options_.window_ms}});
          if (!one) return name + ": " + one.error();
          p50[name] = (*one)["p50_us"];
        }
        if (!wanted("throughput")) continue;
        const auto many = process.ask(
            ours ? Json{{"op", "window"}, {"callers", 16}, {"ms", 2 * options_.window_ms}}
                 : Json{{"op", "throughput"}, {"callers", 16}, {"ms", 2 * options_.window_ms}});
        if (!many) return name + ": " + many.error();
        rate[name] = (*many)["per_second"];
      }
      for (const auto& [name, value] : p50) {
        if (!wanted("call")) break;
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
    auto uvicorn = LineProcess::start(peer_command(options_, "uvicorn"), kQuiet);
    if (!uvicorn) return uvicorn.error();
    const auto up = uvicorn->ask({{"op", "start"}, {"workers", 2}});
    if (!up) {
      result_.not_measured.push_back("uvicorn: " + up.error());
      return {};
    }
    const auto server = ServeProcess::start(options_.program, load::lab_application("bench_probe"),
                                            options_.python, 2);
    if (!server) return server.error();
    const std::uint16_t ports[2] = {server->port(), (*up)["port"].get<std::uint16_t>()};
    const auto window = std::chrono::microseconds(static_cast<long>(2e3 * options_.window_ms));
    if (auto warm = wait_for_server(ports[1]); !warm) return warm.error();
    Samples throughput, p99, p50;
    for (int block = 0; block < options_.blocks; ++block) {
      say("HTTP", static_cast<double>(block) / options_.blocks);
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

  // A replacement for a worker, its application imported, against a bare os.fork() of a process
  // that has imported the same.
  std::string start() {
    constexpr int kTimes = 20;
    const TargetPool pool{.python = options_.python, .workers = 2};
    auto bare = LineProcess::start(peer_command(
        options_, "bare", {fmt::format("KEELBACK_BENCH_BALLAST_MB={:.0f}", pool.ballast_mb)}));
    if (!bare) return bare.error();
    if (auto up = bare->ask({{"op", "start"}, {"workers", 0}}); !up) return up.error();
    Samples samples;
    const int blocks = std::max(2, options_.blocks / 3);
    for (int block = 0; block < blocks; ++block) {
      say("worker start", static_cast<double>(block) / blocks);
      // In turn, one by one: a process that forks again and again finds its page tables in the
      // cache, and takes half the time.
      std::vector<double> theirs;
      const auto ours = worker_start_ms(pool, kTimes, [&]() -> std::expected<void, std::string> {
        const auto fork = bare->ask({{"op", "forks"}, {"times", 1}});
        if (!fork) return std::unexpected(fork.error());
        theirs.push_back((*fork)["ms"][0]);
        return {};
      });
      if (!ours) return ours.error();
      samples.ours.push_back(median(*ours));
      samples.theirs.push_back(median(theirs));
    }
    add("start.fork", "worker start to ready, application of 100 MB imported, p50",
        "os.fork() to the first byte", "ms", samples, 1.5, true);
    return {};
  }

  std::string ready() {
    constexpr double kImportSeconds = 1;
    Samples samples;
    const int blocks = std::clamp(options_.blocks / 6, 2, 5);
    for (int block = 0; block < blocks; ++block) {
      say("pool of 4 ready", static_cast<double>(block) / blocks);
      auto bare = LineProcess::start(peer_command(
          options_, "bare", {fmt::format("KEELBACK_BENCH_IMPORT_S={}", kImportSeconds)}));
      if (!bare) return bare.error();
      const auto imported = bare->ask({{"op", "start"}, {"workers", 0}});
      if (!imported) return imported.error();
      const auto import_ms = bare->ask({{"op", "import_ms"}});
      if (!import_ms) return import_ms.error();
      const auto ours =
          pool_ready_ms({.python = options_.python, .import_s = kImportSeconds, .ballast_mb = 0});
      if (!ours) return ours.error();
      samples.theirs.push_back((*import_ms)["ms"]);
      samples.ours.push_back(*ours);
    }
    add("ready.import", "pool of 4, start to all ready; target 1.15 T + 50 ms",
        "T: the application's import alone", "ms", samples, 1.15 + 50 / (1e3 * kImportSeconds),
        true);
    return {};
  }

  std::string recovery() {
    // Few a pool: its budget of immediate replacements must not be what is measured.
    constexpr int kPerPool = 6;
    std::vector<double> all;
    // With 30 blocks 372 of them: from 368 on a sample bounds its p99 on both sides.
    const int pools = std::clamp(options_.blocks * 2 + 2, 4, 62);
    for (int pool = 0; pool < pools; ++pool) {
      say("recovery", static_cast<double>(pool) / pools);
      const auto some = recovery_ms({.python = options_.python, .workers = 2}, kPerPool);
      if (!some) return some.error();
      all.insert(all.end(), some->begin(), some->end());
    }
    add_alone("recovery.p99", "SIGKILL of a busy worker to its replacement ready, p99", "ms", all,
              50, true, 0.99);
    add_alone("recovery.p50", "the same, p50", "ms", all, 0, true);
    return {};
  }

  std::string stop() {
    std::vector<double> all;
    for (int block = 0; block < std::clamp(options_.blocks / 3, 3, 10); ++block) {
      const auto one = stop_ms({.python = options_.python});
      if (!one) return one.error();
      all.push_back(*one);
    }
    add_alone("stop.idle", "end of an idle pool of 4", "ms", all, 100, true);
    return {};
  }

  std::string cold() {
    constexpr int kCalls = 20;
    say("20 calls on a cold pool", 0);
    const auto ok = cold_calls_ok({.python = options_.python, .import_s = 2}, kCalls);
    if (!ok) return ok.error();
    add_alone("cold.ok", "20 simultaneous calls on a cold pool of 4 whose start takes 2 s", "ok",
              {static_cast<double>(*ok)}, kCalls, false);
    return {};
  }

  std::string kills() {
    constexpr int kRoundsPerPool = 3;
    Samples p99;
    int ok = 0, asked = 0;
    const int pools = std::clamp(options_.blocks / 5, 1, 6);
    for (int pool = 0; pool < pools; ++pool) {
      say("after kills", static_cast<double>(pool) / pools);
      const auto one =
          after_kills({.python = options_.python}, kRoundsPerPool, 3 * options_.window_ms);
      if (!one) return one.error();
      p99.ours.insert(p99.ours.end(), one->p99_after_us.begin(), one->p99_after_us.end());
      p99.theirs.insert(p99.theirs.end(), one->p99_before_us.begin(), one->p99_before_us.end());
      ok += one->ok;
      asked += one->asked;
    }
    const double share = static_cast<double>(ok) / asked;
    add_alone("kills.ok", fmt::format("calls after every worker was killed under load ({})", asked),
              "share", {share}, 1, false);
    add("kills.p99", "p99 of 16 callers after the kills", "the same pool before", "µs", p99, 1.2,
        true);
    return {};
  }

  // A mebibyte to a worker's function, and back, against two processes that copy it through memory
  // which both have mapped and touched.
  std::string attachment() {
    constexpr int kCalls = 60;
    for (const Ends ends : {Ends::kOnOneProcessor, Ends::kOnTwoProcessors}) {
      const bool one = ends == Ends::kOnOneProcessor;
      if (!one && !Pinned::allowed(1)) {
        result_.not_measured.push_back("attachments between processors: there is one");
        break;
      }
      const std::string stage = one ? "attachments, one CPU" : "attachments, two CPUs";
      say(stage, 0);
      const auto us = attachment_us({.python = options_.python, .workers = 1, .ballast_mb = 0},
                                    ends, 1 << 20, options_.blocks, kCalls, prng_,
                                    [&](int block) { say(stage, 1.0 * block / options_.blocks); });
      if (!us) return us.error();
      const std::string where = one ? "both ends on one CPU" : "on two";
      const std::string suffix = one ? ".pinned" : ".apart";
      add("attachment.there" + suffix, "1 MiB beside a call, copied to bytes, p50, " + where,
          "warm shared memory", "µs", {us->there, us->floor_there}, 1.5, true);
      add("attachment.back" + suffix, "1 MiB beside a call and back with its result, p50, " + where,
          "warm shared memory", "µs", {us->back, us->floor_back}, 1.5, true);
    }
    return {};
  }

  std::string sessions() {
    constexpr std::uint64_t kMillion = 1'000'000;
    std::vector<double> ns;
    SessionCost cost;
    for (int block = 0; block < std::clamp(options_.blocks / 6, 2, 5); ++block) {
      say("a million sessions", 0);
      cost = session_cost(kMillion, options_.seed + static_cast<std::uint64_t>(block));
      ns.push_back(cost.ns_per_touch);
    }
    add_alone("sessions.touch", "lookup, verdict and touch of a session among a million", "ns", ns,
              150, true);
    add_alone("sessions.bytes", "memory of a session, its id beyond 15 bytes apart", "bytes",
              {cost.bytes_per_session}, 200, true);
    return {};
  }

  std::string simulator() {
    std::vector<double> rates;
    for (int block = 0; block < std::clamp(options_.blocks / 6, 2, 5); ++block) {
      say("simulator", 0);
      rates.push_back(simulated_events_per_second(0.5, options_.seed));
    }
    add_alone("simulator.events", "events of the core a second, one thread", "1/s", rates, 1e6,
              false);
    return {};
  }

  const PeersOptions& options_;
  Prng prng_;
  std::size_t stage_ = 0, stages_ = 1;
  PeersResult result_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace

bool PeerRow::met() const {
  return target == 0 || (at_most ? figure() <= target : figure() >= target);
}

bool PeerRow::sure() const {
  const double low = std::exp(log_ratio.low), high = std::exp(log_ratio.high);
  return target == 0 || high <= target || low >= target;
}

double PeerRow::missed_by() const { return met() ? 0 : std::abs(figure() / target - 1); }

std::string_view limit_of(std::string_view id) {
  // As docs/performance.md measures and explains it.
  static constexpr std::pair<std::string_view, std::string_view> kLimits[] = {
      {"call.floor.pinned",
       "one send, one receive and one switch each way, the floor's own; ours are the record, the "
       "core's step and the frame"},
      {"call.floor.free",
       "as call.floor.pinned; on which processor a sleeper wakes is the kernel's choice, for both"},
      {"throughput.process_pool.free",
       "a call wakes its worker once and its caller twice; fewer wake-ups take a second call in a "
       "worker's socket, which would wait behind a slow one while another worker is free"},
      {"http.throughput", "one thread parses, submits and writes for all connections"},
      {"http.p99", "one thread parses, submits and writes for all connections"},
      {"start.fork",
       "the kernel copies the page tables of the imported application, for both; then each page "
       "that the worker touches first is a fault of about 4 us"},
      {"ready.import", "one import and the forks that follow it"},
      {"recovery.p99", "the end of the dead worker's group and one fork"},
      {"stop.idle", "each worker runs its exit functions before it leaves"},
      {"cold.ok", "every call waits in the queue until the first worker is ready"},
      {"kills.ok", "every call waits in the queue until a worker is back"},
      {"kills.p99", "the new workers' caches and pages are cold"},
      {"attachment.there.pinned",
       "the function's bytes are memory that is allocated for this call; beside them the call"},
      {"attachment.back.pinned",
       "two of the four copies go into memory that is allocated for this call: the function's "
       "bytes and the reply's buffer; beside them the call"},
      {"attachment.there.apart",
       "the slab's lines cross from one processor's cache to the other's, for both"},
      {"attachment.back.apart",
       "as attachment.back.pinned; and the lines cross between caches, for both"},
      {"sessions.touch",
       "two cache lines that are not in the cache, one after the other, and their TLB entries"},
      {"sessions.bytes", "the session's record and its slot in the table"},
      {"simulator.events", "one thread, a trace line hashed for each event"},
  };
  for (const auto& [row, limit] : kLimits)
    if (row == id) return limit;
  return {};
}

const std::vector<std::string>& peer_groups() {
  static const std::vector<std::string> groups = {"call",  "throughput", "http",     "start",
                                                  "ready", "recovery",   "stop",     "cold",
                                                  "kills", "attachment", "sessions", "simulator"};
  return groups;
}

namespace {

// JSON has no infinity: where the samples give no bound, there is none.
Json bound(double log) {
  const double value = std::exp(log);
  return std::isfinite(value) ? Json(value) : Json();
}

}  // namespace

std::expected<PeersResult, std::string> run_peers(const PeersOptions& options) {
  return PeersRun(options).run();
}

Json to_json(const PeersResult& result) {
  Json rows = Json::array();
  for (const PeerRow& row : result.rows) {
    Json one = {{"id", row.id},
                {"what", row.what},
                {"unit", row.unit},
                {"ours", row.ours},
                {"interval", {bound(row.log_ratio.low), bound(row.log_ratio.high)}},
                {"blocks", row.blocks}};
    if (!row.peer.empty()) {
      one["peer"] = row.peer;
      one["theirs"] = row.theirs;
      one["ratio"] = std::exp(row.log_ratio.value);
    }
    if (row.target > 0) {
      one["target"] = row.target;
      one["at_most"] = row.at_most;
      one["met"] = row.met();
      one["sure"] = row.sure();
      if (!row.met()) {
        one["missed_by"] = row.missed_by();
        one["limit"] = limit_of(row.id);
      }
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
