#include "bench/block.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <optional>

#include "bench/agent_process.h"
#include "bench/metrics.h"
#include "bench/signed_rank.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// One side while its block runs. Errors stick: the block is void at the first of them.
struct Side {
  std::optional<LineProcess> agent;
  Json order = Json::object(), started = Json::object();  // of the start
  std::map<std::string, double>* values = nullptr;
  std::map<std::string, Buckets> curves;
  std::map<std::string, std::vector<double>> windows;  // by metric
};

class BlockRun {
 public:
  BlockRun(const BlockOptions& options, Prng& prng) : options_(options), prng_(prng) {}

  std::expected<Block, std::string> run() {
    const auto began = std::chrono::steady_clock::now();
    block_.head_first = prng_.chance(0.5);
    sides_[0].values = &block_.base;
    sides_[1].values = &block_.head;
    each([&](int side) { start(side); });
    each([&](int side) { (void)window(side, 1, 0, options_.settle_ms); });
    measure_calls();
    if (!options_.calls_only) measure_the_rest();
    each([&](int side) { stop(side); });
    if (!error_.empty()) return std::unexpected(error_);
    score();
    block_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    return std::move(block_);
  }

 private:
  void measure_the_rest() {
    measure_open();
    if (options_.own_app) measure_sessions();
    measure_throughput();
    each([&](int side) { count(side); });
    if (options_.own_app) each([&](int side) { recover(side); });
    each([&](int side) { memory(side); });
    if (options_.count_allocations) each([&](int side) { count_allocations(side); });
  }

  template <typename Step>
  void each(Step step) {  // both sides, a coin's throw for the order
    const bool head_first = prng_.chance(0.5);
    step(head_first ? 1 : 0);
    step(head_first ? 0 : 1);
  }

  Json ask(int side, const Json& order) {
    if (!error_.empty()) return Json::object();
    auto answer = sides_[side].agent->ask(order);
    if (!answer) {
      error_ = (side ? "head: " : "base: ") + answer.error();
      return Json::object();
    }
    return std::move(*answer);
  }

  void start(int side) {
    if (!error_.empty()) return;
    auto agent = start_agent(side ? options_.head_program : options_.base_program);
    if (!agent) {
      error_ = agent.error();
      return;
    }
    sides_[side].agent = std::move(*agent);
    Json order = {{"op", "start"},
                  {"workers", options_.workers},
                  {"app", options_.app},
                  {"function", options_.function},
                  {"payload", options_.payload}};
    if (options_.cpu >= 0) order["cpu"] = options_.cpu;
    order.update(side ? options_.head_start : options_.base_start);
    const Json answer = ask(side, order);
    sides_[side].order = order;
    sides_[side].started = answer;
    set(side, "startup.first_call_ms", answer, "first_call_ms");
    set(side, "startup.all_ready_ms", answer, "all_ready_ms");
  }

  void set(int side, const char* metric, const Json& answer, const char* field) {
    if (answer.contains(field)) (*sides_[side].values)[metric] = answer[field].get<double>();
  }

  Json window(int side, unsigned callers, unsigned sessions, double ms) {
    const Json answer = ask(side, {{"op", "window"},
                                   {"function", sessions ? "count" : options_.function},
                                   {"payload", sessions ? "[]" : options_.payload},
                                   {"callers", callers},
                                   {"sessions", sessions},
                                   {"ms", ms}});
    if (error_.empty() && answer["succeeded"] != answer["calls"]) {
      error_ = std::string(side ? "head" : "base") +
               ": calls failed under load; a fast wrong answer is no improvement";
    }
    return answer;
  }

  // ABBA or BAAB quads, each begun by a coin.
  template <typename Measure>
  void alternate(int per_side, Measure measure) {
    for (int done = 0; done < per_side; done += 2) {
      const int first = prng_.chance(0.5) ? 1 : 0;
      for (const int side : {first, 1 - first, 1 - first, first}) measure(side);
    }
  }

  void measure_calls() {
    alternate(options_.windows, [&](int side) {
      const Json answer = window(side, 1, 0, options_.window_ms);
      if (!error_.empty()) return;
      auto& own = sides_[side].windows;
      own["call.p10_us"].push_back(answer["p10_us"]);
      own["call.p50_us"].push_back(answer["p50_us"]);
      own["call.cpu_us"].push_back(answer["cpu_us_per_call"]);
      add(sides_[side].curves["closed"], answer["buckets"]);
    });
    for (Side& side : sides_)
      (*side.values)["call.p99_us"] = merged_quantile(side.curves["closed"], 0.99);
  }

  // Open loop at 15 % of what the base's lone caller got: the same offered load for both, from the
  // same plan. Light, because an asynchronous call costs several threads their turns, and what is
  // asked is what a call costs, not how deep a queue grows.
  void measure_open() {
    if (!error_.empty()) return;
    const double rate = 0.15e6 / std::max(1.0, median(sides_[0].windows["call.p50_us"]));
    const auto seed = prng_.below(1 << 30);
    alternate(2, [&](int side) {
      const Json answer = ask(side, {{"op", "open"},
                                     {"function", options_.function},
                                     {"payload", options_.payload},
                                     {"rate", rate},
                                     {"ms", 1.5 * options_.window_ms},
                                     {"seed", seed}});
      if (!error_.empty()) return;
      sides_[side].windows["open.p50_us"].push_back(answer["p50_us"]);
      add(sides_[side].curves["planned"], answer["buckets"]);
      add(sides_[side].curves["service"], answer["service_buckets"]);
    });
    for (Side& side : sides_)
      (*side.values)["open.p99_us"] = merged_quantile(side.curves["planned"], 0.99);
  }

  static void add(Buckets& sum, const Json& buckets) {
    for (const auto& bucket : buckets) {
      auto& counts = sum[bucket[0].get<std::int64_t>()];
      counts.first += bucket[1].get<std::uint64_t>();
      counts.second += bucket[2].get<std::uint64_t>();
    }
  }

  void measure_sessions() {
    alternate(2, [&](int side) {
      const Json answer = window(side, 1, 1000, options_.window_ms);
      if (error_.empty()) sides_[side].windows["session.p50_us"].push_back(answer["p50_us"]);
    });
  }

  void measure_throughput() {
    alternate(2, [&](int side) {
      const Json answer = window(side, 16, 0, 2 * options_.window_ms);
      if (error_.empty())
        sides_[side].windows["throughput.per_second"].push_back(answer["per_second"]);
    });
  }

  void count(int side) {
    const Json answer = ask(
        side, {{"op", "counters"}, {"function", options_.function}, {"payload", options_.payload}});
    for (const char* name : {"worker_switches", "caller_switches", "fds", "processes"}) {
      if (answer.contains(name))
        (*sides_[side].values)[std::string("counters.") + name] = answer[name].get<double>();
    }
    if (!error_.empty()) return;
    const auto counted = system_calls_per_call(*sides_[side].agent, sides_[side].started,
                                               options_.function, options_.payload, 300);
    if (!counted) return;  // tracing is forbidden in many a container
    (*sides_[side].values)["counters.caller_syscalls"] = counted->caller;
    (*sides_[side].values)["counters.worker_syscalls"] = counted->worker;
  }

  void count_allocations(int side) {
    if (!error_.empty()) return;
    const auto counted =
        allocations_per_call(side ? options_.head_program : options_.base_program,
                             sides_[side].order, options_.function, options_.payload, 1000);
    if (counted) (*sides_[side].values)["counters.caller_allocations"] = *counted;
  }

  void recover(int side) {
    const Json answer = ask(side, {{"op", "recover"}, {"rate", 300}, {"ms", 60}, {"points", 0}});
    set(side, "recovery.detected_ms", answer, "detected_ms");
    set(side, "recovery.ready_ms", answer, "ready_ms");
  }

  void memory(int side) { set(side, "memory.pss_kb", ask(side, {{"op", "memory"}}), "pss_kb"); }

  void stop(int side) {
    const Json answer = ask(side, {{"op", "stop"}});
    set(side, "cleanup.stop_ms", answer, "stop_ms");
    set(side, "cleanup.left_processes", answer, "left_processes");
    set(side, "cleanup.left_fds", answer, "left_fds");
  }

  static double merged_quantile(const Buckets& buckets, double q) {
    std::uint64_t total = 0;
    for (const auto& [middle, counts] : buckets) total += counts.first + counts.second;
    std::uint64_t seen = 0;
    for (const auto& [middle, counts] : buckets) {
      seen += counts.first + counts.second;
      if (static_cast<double>(seen) >= q * static_cast<double>(total))
        return static_cast<double>(middle) / 1e3;
    }
    return 0;
  }

  void score() {
    for (Side& side : sides_) {
      for (auto& [metric, values] : side.windows) (*side.values)[metric] = median(values);
    }
    for (const Metric& metric : metrics()) {
      const std::string id(metric.id);
      const auto base = block_.base.find(id), head = block_.head.find(id);
      if (base == block_.base.end() || head == block_.head.end()) continue;
      if (base->second <= 0 || head->second <= 0) continue;
      double log_ratio = std::log(head->second / base->second);
      // Of windows, the median of the pairs in time order: drift hits both of a pair alike.
      const auto pairs = sides_[0].windows.find(id);
      if (pairs != sides_[0].windows.end()) {
        std::vector<double> ratios;
        for (std::size_t k = 0; k < pairs->second.size(); ++k) {
          ratios.push_back(std::log(sides_[1].windows[id][k] / pairs->second[k]));
        }
        log_ratio = median(ratios);
      }
      block_.score[id] = metric.higher_is_better ? -log_ratio : log_ratio;
    }
    block_.base_curves = std::move(sides_[0].curves);
    block_.head_curves = std::move(sides_[1].curves);
  }

  const BlockOptions& options_;
  Prng& prng_;
  Block block_;
  std::array<Side, 2> sides_;  // 0 base, 1 head
  std::string error_;
};

}  // namespace

std::expected<Block, std::string> run_block(const BlockOptions& options, Prng& prng) {
  return BlockRun(options, prng).run();
}

}  // namespace keelback::bench
