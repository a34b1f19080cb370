#include "bench/capacity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "bench/signed_rank.h"

namespace keelback::bench {
namespace {

constexpr double kSlowFirstMs = 100;  // callers do not notice less
constexpr double kTimesLater = 5;

std::string rate_text(double rate) {
  return rate >= 100 ? fmt::format("{:.0f}", rate) : fmt::format("{:.3g}", rate);
}

std::string workers_text(std::uint32_t n) {
  return n == 1 ? "1 worker carries" : fmt::format("{} workers carry", n);
}

}  // namespace

bool carried(const LoadStep& step, double objective_ms) {
  return step.p99_ms <= objective_ms && step.good >= 0.99 * step.offered;
}

std::optional<double> knee(std::span<const LoadStep> steps, double objective_ms) {
  std::map<double, std::vector<LoadStep>> by_rate;
  for (const LoadStep& step : steps) by_rate[step.offered].push_back(step);
  std::optional<double> best;
  for (const auto& [rate, several] : by_rate) {
    std::vector<double> p99, share;
    for (const LoadStep& step : several) {
      p99.push_back(step.p99_ms);
      share.push_back(step.good / step.offered);
    }
    if (!carried({.offered = rate, .good = rate * median(share), .p99_ms = median(p99)},
                 objective_ms))
      break;
    best = rate;
  }
  return best;
}

std::optional<Advice> advise(std::span<const PoolCapacity> pools, double wanted,
                             double objective_ms) {
  std::vector<const PoolCapacity*> able;
  for (const PoolCapacity& pool : pools) {
    if (pool.at_objective) able.push_back(&pool);
  }
  if (able.empty()) return std::nullopt;
  std::ranges::sort(able, {}, &PoolCapacity::workers);
  const double best = (*std::ranges::max_element(able, {}, [](const PoolCapacity* pool) {
                        return *pool->at_objective;
                      }))->at_objective.value();
  const double bar = wanted > 0 ? std::min(wanted, best) : 0.9 * best;
  const PoolCapacity& chosen = **std::ranges::find_if(able, [&](const PoolCapacity* pool) {
    return *pool->at_objective >= bar || (wanted <= 0 && pool->has_room);
  });
  const double rate = *chosen.at_objective;
  Advice advice{.workers = chosen.workers, .rate = rate, .enough = wanted <= best};
  // Little's law: what is in the pool is rate times stay. Behind more than this, a call is late
  // before it begins, and refusing it at once is kinder.
  advice.queue_max = static_cast<std::uint32_t>(
      std::max<double>(chosen.workers, std::ceil(rate * objective_ms / 1e3)));
  for (const PoolCapacity* pool : able) {
    advice.sentences.push_back(
        fmt::format("{} {} calls a second with p99 within {:.3g} ms; kept busy, at most {} a "
                    "second. Alone, a call takes {:.3g} ms "
                    "(p99 {:.3g} ms).",
                    workers_text(pool->workers), rate_text(*pool->at_objective), objective_ms,
                    rate_text(pool->most), pool->unloaded_p50_ms, pool->unloaded_p99_ms));
  }
  if (!advice.enough)
    advice.sentences.push_back(
        fmt::format("{} calls a second are more than any of these pools carries: the best is {} a "
                    "second. Try more workers, or a second machine.",
                    rate_text(wanted), rate_text(best)));
  advice.sentences.push_back(
      fmt::format("Set pool.workers = {} and pool.queue_max = {}: behind more waiting calls than "
                  "that, a call is late before it begins.",
                  advice.workers, advice.queue_max));
  if (chosen.has_room)
    advice.sentences.push_back(
        "Its workers wait most of the time even when they are kept busy: more workers only add "
        "more "
        "calls at once. Raise concurrency first; more workers bound what a crash costs.");
  if (chosen.worker_kb > 0)
    advice.sentences.push_back(fmt::format("Each worker adds {:.0f} MB.", chosen.worker_kb / 1024));
  return advice;
}

std::optional<std::string> about_first_call(const std::string& function, double first_ms,
                                            double later_ms) {
  if (first_ms < kSlowFirstMs || first_ms < kTimesLater * later_ms) return std::nullopt;
  return fmt::format(
      "The first call of {} in a new worker takes {:.0f} ms, later ones {:.3g} ms: each new worker "
      "makes its first caller wait. Load in @keelback.setup what all workers can share, or in "
      "@keelback.worker_setup what each needs of its own.",
      function, first_ms, later_ms);
}

}  // namespace keelback::bench
