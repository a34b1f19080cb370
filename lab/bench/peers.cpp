#include "bench/peers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "base/prng.h"
#include "bench/agent_process.h"
#include "bench/block.h"
#include "bench/core_cost.h"
#include "bench/http.h"
#include "bench/machine.h"
#include "bench/pinned.h"
#include "bench/pool_under_test.h"
#include "bench/quantile_interval.h"
#include "bench/reference.h"
#include "bench/shared_memory_peer.h"
#include "load/application.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// What the alternatives write to stderr is for people. Their errors come in their answers.
constexpr auto kQuiet = LineProcess::Stderr::kNowhere;
constexpr double kLeast = 1e-9;     // used instead of zero in logarithms
constexpr double kTypicalS = 10;    // of a stage
constexpr int kCalls = 60;          // with an attachment, a block
constexpr std::size_t kOurs = 0;    // the first arm of every block
constexpr double kBallastMb = 100;  // of an application that a worker's start is measured with

// The row of "call" or "throughput" for an alternative: its own, or the one with "*".
std::string row_of(const std::string& what, const std::string& peer, const std::string& place) {
  const std::string own = fmt::format("{}.{}.{}", what, peer, place);
  return find_metric(own) ? own : fmt::format("{}.*.{}", what, place);
}

// Base64 of so many times 'x'.
std::string base64_of_x(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes / 3; ++i) text += "eHh4";
  return text + (bytes % 3 == 1 ? "eA==" : bytes % 3 == 2 ? "eHg=" : "");
}

double log_of(double value) { return std::log(std::max(value, kLeast)); }

PeerRow row_of(const Metric& metric) {
  return {.id = std::string(metric.id),
          .what = std::string(metric.doc),
          .unit = std::string(metric.unit),
          .target = metric.target,
          .at_most = metric.better == Better::kLess};
}

// A figure that is held against a number: the median of its samples or, as the row's name says, its
// p99; of what must be at least so much, the least.
PeerRow row_alone(const Metric& metric, const std::vector<double>& samples) {
  PeerRow row = row_of(metric);
  QuantileEstimate figure;
  if (metric.id.ends_with(".p99")) {
    figure = quantile_interval(samples, 0.99, 0.95);
  } else {
    std::vector<double> logs;
    for (const double sample : samples) logs.push_back(log_of(sample));
    const Estimate centre = hodges_lehmann(logs, 0.95);
    const double value = row.at_most ? median(samples) : *std::ranges::min_element(samples);
    figure = {value, std::min(value, std::exp(centre.low)), std::exp(centre.high)};
  }
  row.ours = figure.value;
  row.log_ratio = {log_of(figure.value), log_of(figure.low), log_of(figure.high)};
  row.blocks = samples.size();
  return row;
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
    const Stage all[] = {{"call", &PeersRun::pinned_calls},  {"call", &PeersRun::free_calls},
                         {"http", &PeersRun::http},          {"start", &PeersRun::start},
                         {"ready", &PeersRun::ready},        {"recovery", &PeersRun::recovery},
                         {"stop", &PeersRun::stop},          {"cold", &PeersRun::cold},
                         {"kills", &PeersRun::kills},        {"attachment", &PeersRun::attachment},
                         {"ways", &PeersRun::ways},          {"sessions", &PeersRun::sessions},
                         {"simulator", &PeersRun::simulator}};
    std::vector<Measure> chosen;
    for (const Stage& stage : all) {
      // Calls and throughput take the same processes, hence the same stage.
      const bool as_throughput = std::string_view(stage.group) == "call" && wanted("throughput");
      if (wanted(stage.group) || as_throughput) chosen.push_back(stage.measure);
    }
    pace_.emplace(options_.progress, kTypicalS * static_cast<double>(chosen.size()));
    for (const Measure stage : chosen) {
      if (auto error = (this->*stage)(); !error.empty()) return std::unexpected(error);
    }
    return std::move(result_);
  }

 private:
  bool wanted(const char* group) const {
    return options_.groups.empty() ||
           std::ranges::find(options_.groups, group) != options_.groups.end();
  }

  // So many blocks of these arms, and the rows that come of them. The error: of the first block
  // that has one.
  std::string measure(const std::string& stage, const std::vector<Arm>& arms, int count,
                      const std::function<void(Block&)>& one) {
    std::vector<Block> blocks;
    for (int i = 0; i < count; ++i) {
      pace_->say(stage);
      blocks.emplace_back(arms, prng_);
      one(blocks.back());
      if (!blocks.back().error().empty()) return blocks.back().error();
      pace_->did(kTypicalS / count);
    }
    for (const Metric& metric : metrics()) {
      if (metric.held) add_rows(metric, arms, blocks);
    }
    return {};
  }

  void add_rows(const Metric& metric, const std::vector<Arm>& arms, std::vector<Block>& blocks) {
    bool alone = true;
    for (std::size_t arm = kOurs + 1; arm < arms.size(); ++arm) {
      std::vector<double> ours, theirs, logs;
      for (Block& block : blocks) {
        const Sample &own = block.sample(kOurs), &other = block.sample(arm);
        const auto ratio = log_ratio(metric, own, other);
        if (!ratio) continue;
        logs.push_back(*ratio);
        ours.push_back(*own.value(metric));
        theirs.push_back(*other.value(metric));
      }
      if (logs.empty()) continue;
      alone = false;
      PeerRow row = row_of(metric);
      if (const auto star = row.id.find('*'); star != std::string::npos)
        row.id.replace(star, 1, arms[arm].name);
      row.peer = metric.against.empty() ? arms[arm].name : std::string(metric.against);
      row.ours = median(ours);
      row.theirs = median(theirs);
      row.log_ratio = hodges_lehmann(logs, 0.95);
      row.blocks = logs.size();
      result_.rows.push_back(std::move(row));
    }
    std::vector<double> samples;
    for (Block& block : blocks) {
      const auto at = block.sample(kOurs).windows.find(metric.id);
      if (at != block.sample(kOurs).windows.end())
        samples.insert(samples.end(), at->second.begin(), at->second.end());
    }
    if (alone && !samples.empty()) result_.rows.push_back(row_alone(metric, samples));
  }

  // A pool of ours, to be started in a block.
  Arm our_pool(unsigned workers, double ballast_mb, double import_s = 0) const {
    Arm arm{.name = "ours", .program = options_.program};
    arm.start = {{"workers", workers},
                 // Workers are killed on purpose.
                 {"settings", {{"workers.python", options_.python}, {"breaker.failures", "0"}}},
                 {"env",
                  {{"KEELBACK_BENCH_IMPORT_S", fmt::format("{}", import_s)},
                   {"KEELBACK_BENCH_BALLAST_MB", fmt::format("{:.0f}", ballast_mb)}}}};
    return arm;
  }

  // An agent with a running pool that lives for all blocks of a stage.
  std::expected<LineProcess, std::string> lasting_pool(
      unsigned workers, const Json& settings = Json::object()) const {
    auto agent = start_agent(options_.program);
    if (!agent) return agent;
    Json order = our_pool(workers, 0).start;
    order["op"] = "start";
    order["settings"].update(settings);
    if (auto up = agent->ask(order); !up) return std::unexpected(up.error());
    return agent;
  }

  // The error: it cannot be started at all. One that is not installed answers its start with one.
  std::expected<LineProcess, std::string> peer(const std::string& name,
                                               const std::string& environment = {}) const {
    std::vector<std::string> argv{"/usr/bin/env", "PYTHONPATH=" + options_.python_directory + ":" +
                                                      load::lab_python_directory()};
    if (!environment.empty()) argv.push_back(environment);
    argv.insert(argv.end(), {options_.python, "-m", "peers", name});
    return LineProcess::start(argv, kQuiet);
  }

  // A field of the answer; NaN if there is none, and then the block has failed.
  static double asked(Block& block, std::size_t arm, LineProcess& process, const Json& order,
                      const char* field) {
    const auto answer = process.ask(order);
    if (answer) return answer->value(field, NAN);
    block.fail(arm, answer.error());
    return NAN;
  }

  std::string pinned_calls() { return calls("pinned"); }
  std::string free_calls() { return calls("free"); }

  // One caller's latency and sixteen callers' throughput.
  std::string calls(const std::string& place) {
    const bool pinned = place == "pinned";
    const Pinned pin(pinned ? Pinned::first_allowed() : -1);
    auto floor = ReferenceEcho::start(options_.python);
    if (!floor) return floor.error();
    auto agent = lasting_pool(2);
    if (!agent) return agent.error();
    constexpr std::size_t kFloor = 1;
    std::vector<Arm> arms = {{"ours", {}}, {"floor", {}}};
    std::vector<LineProcess> peers;
    for (const char* name : {"process_pool", "mp_pool", "loky", "grpc", "ray"}) {
      auto started = peer(name);
      if (!started) return started.error();
      if (auto up = started->ask({{"op", "start"}, {"workers", 2}})) {
        arms.push_back({name, {}});
        peers.push_back(std::move(*started));
      } else if (pinned) {
        result_.not_measured.push_back(fmt::format("{}: {}", name, up.error()));
      }
    }
    const double ms = options_.window_ms;
    const auto one = [&](Block& block) {
      std::vector<double> p50(arms.size(), NAN), rate(arms.size(), NAN);
      block.each([&](std::size_t arm) {
        if (arm == kFloor) {
          const auto times = floor->run(from_ms(ms));
          if (times.empty()) return block.fail(arm, "the reference loop died");
          p50[arm] = us(times[times.size() / 2]);
          return;
        }
        LineProcess& process = arm == kOurs ? *agent : peers[arm - kFloor - 1];
        const char* op = arm == kOurs ? "window" : "latency";
        if (wanted("call"))
          p50[arm] = asked(block, arm, process, {{"op", op}, {"callers", 1}, {"ms", ms}}, "p50_us");
        if (arm != kOurs) op = "throughput";
        if (wanted("throughput"))
          rate[arm] = asked(block, arm, process, {{"op", op}, {"callers", 16}, {"ms", 2 * ms}},
                            "per_second");
      });
      for (std::size_t arm = kFloor; arm < arms.size(); ++arm) {
        note_pair(block, row_of("call", arms[arm].name, place), arm, p50[kOurs], p50[arm]);
        note_pair(block, row_of("throughput", arms[arm].name, place), arm, rate[kOurs], rate[arm]);
      }
    };
    return measure(pinned ? "calls, one CPU" : "calls, all CPUs", arms, options_.blocks, one);
  }

  // Ours is the same value in each pair of a block.
  static void note_pair(Block& block, const std::string& metric, std::size_t arm, double ours,
                        double theirs) {
    if (!std::isfinite(ours) || !std::isfinite(theirs)) return;
    block.sample(kOurs).windows[metric] = {ours};
    block.note(metric, theirs, arm);
  }

  // Our server and uvicorn under the same client.
  std::string http() {
    auto uvicorn = peer("uvicorn");
    if (!uvicorn) return uvicorn.error();
    const auto up = uvicorn->ask({{"op", "start"}, {"workers", 2}});
    if (!up) {
      result_.not_measured.push_back("uvicorn: " + up.error());
      return {};
    }
    const auto server = ServeProcess::start(options_.program, load::lab_application("bench_probe"),
                                            options_.python, 2);
    if (!server) return server.error();
    const std::uint16_t ports[] = {server->port(), (*up)["port"].get<std::uint16_t>()};
    if (auto warm = wait_for_server(ports[1]); !warm) return warm.error();
    const Duration window = from_ms(2 * options_.window_ms);
    const std::vector<Arm> arms = {{"ours", {}}, {(*up)["version"], {}}};
    return measure("HTTP", arms, options_.blocks, [&](Block& block) {
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

  // A replacement for a worker, its application imported, against a bare os.fork() of a process
  // that has imported the same. In turn, one by one: a process that forks again and again finds its
  // page tables in the cache, and takes half the time.
  std::string start() {
    auto bare = peer("bare", fmt::format("KEELBACK_BENCH_BALLAST_MB={:.0f}", kBallastMb));
    if (!bare) return bare.error();
    if (auto up = bare->ask({{"op", "start"}, {"workers", 0}}); !up) return up.error();
    const std::vector<Arm> arms = {our_pool(2, kBallastMb), {"bare", {}}};
    return measure("worker start", arms, std::max(2, options_.blocks / 3), [&](Block& block) {
      Subject pool = block.start();
      for (int i = 0; i < 20; ++i) {
        const auto fork = bare->ask({{"op", "forks"}, {"times", 1}});
        if (!fork) return block.fail(1, fork.error());
        block.note("start.fork", (*fork)["ms"][0], 1);
        block.note("start.fork", pool.ask("recycle").value("ready_ms", NAN));
      }
    });
  }

  std::string ready() {
    constexpr double kImportS = 1;
    const std::vector<Arm> arms = {our_pool(4, 0, kImportS), {"bare", {}}};
    const int count = std::clamp(options_.blocks / 6, 2, 5);
    return measure("pool of 4 ready", arms, count, [&](Block& block) {
      auto bare = peer("bare", fmt::format("KEELBACK_BENCH_IMPORT_S={}", kImportS));
      if (!bare) return block.fail(1, bare.error());
      if (auto up = bare->ask({{"op", "start"}, {"workers", 0}}); !up)
        return block.fail(1, up.error());
      block.note("ready.import", asked(block, 1, *bare, {{"op", "import_ms"}}, "ms"), 1);
      block.note("ready.import", block.start().started().value("all_ready_ms", NAN));
    });
  }

  // Few kills in each pool: a pool has a budget of immediate replacements. With 30 blocks
  // 372 of them: from 368 on a sample bounds its p99 on both sides.
  std::string recovery() {
    const int pools = std::clamp(options_.blocks * 2 + 2, 4, 62);
    return measure("recovery", {our_pool(2, kBallastMb)}, pools, [&](Block& block) {
      Subject pool = block.start();
      for (int i = 0; i < 6; ++i) {
        const double ms = pool.ask("recover").value("ready_ms", NAN);
        block.note("recovery.p99", ms);
        block.note("recovery.p50", ms);
      }
    });
  }

  std::string stop() {
    const int count = std::clamp(options_.blocks / 3, 3, 10);
    return measure("stop", {our_pool(4, kBallastMb)}, count, [&](Block& block) {
      block.note("stop.idle", block.start().ask("stop").value("stop_ms", NAN));
    });
  }

  std::string cold() {
    return measure("20 calls on a cold pool", {our_pool(4, kBallastMb, 2)}, 1, [&](Block& block) {
      block.note("cold.ok", block.start(0, {{"calls", 20}}).started().value("calls_ok", NAN));
    });
  }

  std::string kills() {
    const std::vector<Arm> arms = {our_pool(4, kBallastMb), {"before", {}}};
    const Json window = {{"op", "window"}, {"callers", 16}, {"ms", 3 * options_.window_ms}};
    const int pools = std::clamp(options_.blocks / 3, 2, 10);
    return measure("after kills", arms, pools, [&](Block& block) {
      Subject pool = block.start();
      pool.ask(window);  // warm
      for (int round = 0; round < 3; ++round) {
        block.note("kills.p99", pool.ask(window).value("p99_us", NAN), 1);
        const Json killed = pool.ask({{"op", "kill_all"}, {"ms", window["ms"]}, {"calls", 5}});
        block.note("kills.ok", killed.value("share", NAN));
        block.note("kills.p99", pool.ask(window).value("p99_us", NAN));
      }
    });
  }

  std::string attachment() {
    if (auto error = attachment("pinned", 0); !error.empty()) return error;
    if (Pinned::allowed(1)) return attachment("apart", 1);
    result_.not_measured.push_back("attachments between processors: there is one");
    return {};
  }

  // The median of so many exchanges with the other side.
  template <typename Exchange>
  static double shared_memory_us(Block& block, Exchange exchange) {
    std::vector<double> took;
    for (int i = 0; i < kCalls; ++i) {
      const auto began = std::chrono::steady_clock::now();
      if (!exchange()) block.fail(1, "the shared memory's other side is gone");
      took.push_back(us(std::chrono::steady_clock::now() - began));
    }
    return median(took);
  }

  // A mebibyte to a worker's function, and back, against two processes that copy it through memory
  // which both have mapped and touched. Both ends run where we say, on both sides.
  std::string attachment(const std::string& place, int other_end) {
    constexpr std::size_t kBytes = 1 << 20;
    const int here = Pinned::first_allowed(), there = *Pinned::allowed(other_end);
    auto floor = SharedMemoryPeer::start(kBytes);
    if (!floor) return floor.error();
    auto agent = lasting_pool(1);
    if (!agent) return agent.error();
    const Pinned pin(here);
    Pinned::put(floor->pid(), there);
    const std::string source(kBytes, 'x');
    std::string back(kBytes, '\0');
    const auto ours = [&](Block& block, const char* function) {
      return asked(block, kOurs, *agent,
                   {{"op", "attachment"},
                    {"function", function},
                    {"bytes", kBytes},
                    {"calls", kCalls},
                    {"here", here},
                    {"there", there}},
                   "p50_us");
    };
    const std::string way_there = "attachment.there." + place,
                      way_back = "attachment.back." + place;
    const auto one = [&](Block& block) {
      for (const std::size_t step : block.order(4)) {
        if (step == 0) block.note(way_there, ours(block, "size"), kOurs);
        if (step == 1) block.note(way_back, ours(block, "noop"), kOurs);
        if (step == 2)
          block.note(way_there, shared_memory_us(block, [&] { return floor->send(source); }), 1);
        if (step == 3)
          block.note(way_back, shared_memory_us(block, [&] { return floor->echo(source, back); }),
                     1);
      }
    };
    const std::vector<Arm> arms = {{"ours", {}}, {"floor", {}}};
    Block warm(arms, prng_);
    one(warm);
    if (!warm.error().empty()) return warm.error();
    return measure("attachments, " + place, arms, options_.blocks, one);
  }

  // A mebibyte by every way that there is, against the least that it can cost. It is one byte more:
  // no size of a slab, so that a budget of exactly so much carries the bytes and has no slab for
  // them. Of what is inline, nothing is encoded or decoded on our side of the socket.
  std::string ways() {
    constexpr std::size_t kBytes = (1 << 20) + 1;
    auto floor = SharedMemoryPeer::start(kBytes);
    if (!floor) return floor.error();
    auto slabs = lasting_pool(1);
    auto none = lasting_pool(1, {{"attachments.budget", fmt::format("{}B", kBytes)}});
    if (!slabs || !none) return slabs ? none.error() : slabs.error();
    const auto beside = [&](const char* function) -> Json {
      return {{"op", "attachment"}, {"function", function}, {"bytes", kBytes}, {"calls", kCalls}};
    };
    const auto inside = [text = "[\"" + base64_of_x(kBytes) + "\"]"](const char* function) -> Json {
      return {{"op", "window"}, {"function", function}, {"payload", text}, {"ms", 10 * kCalls}};
    };
    struct Way {
      const char* row;
      LineProcess* process;
      Json order;
      bool back = false;
    };
    const Way all[] = {{"ways.there.zero_copy", &*slabs, beside("look")},
                       {"ways.there.slab", &*slabs, beside("size")},
                       {"ways.there.frames", &*none, beside("size")},
                       {"ways.there.inline", &*slabs, inside("text_size")},
                       {"ways.back.slab", &*slabs, beside("noop"), true},
                       {"ways.back.frames", &*none, beside("noop"), true},
                       {"ways.back.inline", &*slabs, inside("text_back"), true}};
    const std::string source(kBytes, 'x');
    std::string back(kBytes, '\0');
    const std::vector<Arm> arms = {{"ours", {}}, {"floor", {}}};
    return measure("attachments, every way", arms, options_.blocks, [&](Block& block) {
      for (const std::size_t i : block.order(std::size(all)))
        block.note(all[i].row, asked(block, kOurs, *all[i].process, all[i].order, "p50_us"));
      const double there = shared_memory_us(block, [&] { return floor->send(source); });
      const double there_and_back =
          shared_memory_us(block, [&] { return floor->echo(source, back); });
      for (const Way& way : all) block.note(way.row, way.back ? there_and_back : there, 1);
    });
  }

  std::string sessions() {
    const int count = std::clamp(options_.blocks / 6, 2, 5);
    return measure("a million sessions", {{"ours", {}}, {"misses", {}}}, count, [&](Block& block) {
      SessionTouch table(1'000'000, prng_.next());
      const SessionTouch::Cost cost = table.measure();
      block.note("sessions.touch", cost.touch_ns);
      block.note("sessions.touch", cost.two_misses_ns, 1);
      block.note("sessions.bytes", table.bytes_per_session());
    });
  }

  std::string simulator() {
    const int count = std::clamp(options_.blocks / 6, 2, 5);
    return measure("simulator", {{"ours", {}}, {"bare", {}}}, count, [&](Block& block) {
      block.alternate(2, [&](std::size_t arm) {
        const auto rate = arm == kOurs ? simulated_events_per_second : bare_events_per_second;
        block.note("simulator.events", rate(from_ms(250), options_.seed), arm);
      });
    });
  }

  const PeersOptions& options_;
  Prng prng_;
  PeersResult result_;
  std::optional<Pace> pace_;
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

const std::vector<std::string>& peer_groups() {
  static const std::vector<std::string> groups = {
      "call", "throughput", "http",       "start", "ready",    "recovery", "stop",
      "cold", "kills",      "attachment", "ways",  "sessions", "simulator"};
  return groups;
}

namespace {

// JSON has no infinity: a bound that the samples do not give is null.
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
        const Metric* metric = find_metric(row.id);
        one["limit"] = metric ? metric->limit : std::string_view();
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
