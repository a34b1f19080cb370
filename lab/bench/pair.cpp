#include "bench/pair.h"

#include <algorithm>

#include "bench/signed_rank.h"
#include "load/application.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kBase = 0, kHead = 1;
constexpr int kWindows = 6;  // of the lone caller, a side
constexpr double kWindowMs = 40;
constexpr double kSettleMs = 10;  // discarded, before the first window of each side

std::vector<Arm> arms_of(const PairOptions& options) {
  std::vector<Arm> arms = {{"base", options.base_program}, {"head", options.head_program}};
  for (const std::size_t side : {kBase, kHead}) {
    Json& start = arms[side].start;
    start = {{"workers", 2}, {"app", load::lab_application("bench_probe")}};
    if (options.cpu >= 0) start["cpu"] = options.cpu;
    start.update(side == kHead ? options.head_start : options.base_start);
  }
  return arms;
}

class PairBlock {
 public:
  PairBlock(const PairOptions& options, Prng& prng)
      : options_(options), block_(arms_of(options), prng) {}

  std::expected<Pair, std::string> run() {
    start();
    block_.alternate(kWindows, [&](std::size_t side) { window("closed", side, 1, 0, kWindowMs); });
    if (!options_.calls_only) measure_the_rest();
    block_.each([&](std::size_t side) { side_[side].take("stop"); });
    if (!block_.error().empty()) return std::unexpected(block_.error());
    score();
    return std::move(pair_);
  }

 private:
  void start() {
    const auto order = block_.order(2);
    pair_.head_first = order[0] == kHead;
    for (const std::size_t side : order) {
      side_[side] = block_.start(side);
      block_.note_step("start", side_[side].started(), side);
    }
    block_.each([&](std::size_t side) { side_[side].ask({{"op", "window"}, {"ms", kSettleMs}}); });
  }

  void window(std::string_view step, std::size_t side, unsigned callers, unsigned sessions,
              double ms) {
    const Json answer = side_[side].take(step, {{"op", "window"},
                                                {"function", sessions ? "count" : "noop"},
                                                {"payload", sessions ? "[]" : "[1]"},
                                                {"callers", callers},
                                                {"sessions", sessions},
                                                {"ms", ms}});
    if (answer.value("succeeded", 0) != answer.value("calls", 0))
      block_.fail(side, "calls failed under load; a fast wrong answer is no improvement");
  }

  // The open loop offers 15 % of what the base's lone caller got: the same load for both, from the
  // same plan. It is light, because an asynchronous call costs several threads their turns, and the
  // question is what a call costs, not how deep a queue grows.
  void measure_the_rest() {
    if (!block_.error().empty()) return;
    const double p50 = median(block_.sample(kBase).windows["call.p50_us"]);
    const Json open = {{"op", "open"},
                       {"rate", 0.15e6 / std::max(1.0, p50)},
                       {"ms", 1.5 * kWindowMs},
                       {"seed", block_.prng().below(1 << 30)}};
    block_.alternate(2, [&](std::size_t side) {
      const Json answer = side_[side].take("open", open);
      add(block_.sample(side).curves["service"], answer.value("service_buckets", Json::array()));
    });
    block_.alternate(2, [&](std::size_t side) { window("sessions", side, 1, 1000, kWindowMs); });
    block_.alternate(2,
                     [&](std::size_t side) { window("callers_16", side, 16, 0, 2 * kWindowMs); });
    block_.each([&](std::size_t side) {
      side_[side].take("counters");
      side_[side].count_system_calls(300);
    });
    block_.each([&](std::size_t side) {
      side_[side].take("recover", {{"op", "recover"}, {"rate", 300}, {"ms", 60}, {"points", 0}});
    });
    block_.each([&](std::size_t side) { side_[side].take("memory"); });
    if (!options_.count_allocations) return;
    block_.each([&](std::size_t side) { side_[side].count_allocations(1000); });
  }

  void score() {
    const Sample &base = block_.sample(kBase), &head = block_.sample(kHead);
    for (const Metric& metric : metrics()) {
      if (metric.compared == Compared::kNo) continue;
      const std::string id(metric.compare_id());
      if (const auto value = base.value(metric)) pair_.base[id] = *value;
      if (const auto value = head.value(metric)) pair_.head[id] = *value;
      const auto score = log_ratio(metric, head, base);
      if (metric.judged() && score)
        pair_.score[id] = metric.better == Better::kMore ? -*score : *score;
    }
    pair_.base_curves = base.curves;
    pair_.head_curves = head.curves;
  }

  const PairOptions& options_;
  Block block_;
  Subject side_[2] = {Subject(block_, kBase), Subject(block_, kHead)};
  Pair pair_;
};

}  // namespace

std::expected<Pair, std::string> run_pair(const PairOptions& options, Prng& prng) {
  return PairBlock(options, prng).run();
}

}  // namespace keelback::bench
