// An autoscaler cannot decide: the pool's size goes down and up in turn.
#include <fmt/format.h>

#include <algorithm>

#include "chaos/fault.h"

namespace keelback::chaos::faults::flapping {
namespace {

using enum OutcomeKind;
using enum ParameterType;

constexpr int kTurns = 2;  // with fewer workers, before it is a bite

struct Flapping final : Fault {
  void inject(Duration) override {}
  std::optional<Duration> turn(Duration) override {
    if (over) return std::nullopt;
    smaller_ = !smaller_;
    counted_ = false;
    Settings settings = scenario().settings;
    auto& pool = settings.pool;
    if (smaller_) pool.workers = std::max(1U, pool.workers - 1);
    pool.min_ready = std::min(pool.min_ready, pool.workers);
    world().configure(settings);
    return duration("every");
  }
  void prove(Duration at) override {
    const auto up = std::ranges::count_if(recorder().workers(), [](const auto& worker) {
      return worker.state == core::WorkerState::kReady || worker.state == core::WorkerState::kBusy;
    });
    if (!smaller_ || counted_ || up >= scenario().settings.pool.workers) return;
    counted_ = true;
    if (++seen_ < kTurns) return;
    bit(at, fmt::format("fewer than {} workers were up in {} turns",
                        scenario().settings.pool.workers, seen_));
  }
  Evidence undo() override {
    world().configure(scenario().settings);
    return "the old size is set";
  }

 private:
  bool smaller_ = false;
  bool counted_ = false;  // this turn
  int seen_ = 0;          // turns in which workers were missing
};

}  // namespace

std::vector<FaultClass> classes() {
  return {{.name = "pool.flap",
           .what =
               "An autoscaler cannot decide: the pool shrinks by one worker and grows again, in "
               "turn.",
           .proof = "fewer workers were up in at least two turns",
           .undo = "the old size, by the laboratory; it ends with the pool",
           .reach = Reach::kPool,
           .lasts = true,
           .renews_zygote = true,
           .by_operator = true,
           .where = Where::kEverywhere,
           .parameters = {{"every", kDuration, "400ms", "300ms", "200ms", "between two orders"}},
           .expected = {kSessionLost, kTimeout, kOverloaded},
           .make = make_fault<Flapping>}};
}

}  // namespace keelback::chaos::faults::flapping
