// The load comes in waves, and the pool's size is to follow it.
#include <fmt/format.h>

#include <algorithm>

#include "chaos/fault.h"

namespace keelback::chaos::faults::waves {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;

// A worker that is killed comes back sooner: who is missing so long has left.
constexpr Duration kHasLeft = 300ms;
constexpr Duration kWave = 200ms;  // the calls of a wave come within it

class Waves final : public OwnCalls {
 public:
  void before() override { least_ = there(); }
  void prove(Duration at) override {
    OwnCalls::prove(at);
    const std::size_t now = there();
    most_ = std::max(most_, now);
    if (!large_) {
      least_ = std::min(least_, now);
      if (now <= least_) return;
      large_ = true;
      peak_ = now;
      ++grew_;
    }
    peak_ = std::max(peak_, now);
    if (now == peak_) {
      fewer_since_.reset();
    } else if (!fewer_since_) {
      fewer_since_ = at;
    } else if (at - *fewer_since_ >= kHasLeft) {
      fewer_since_.reset();
      large_ = false;
      least_ = now;
      ++shrank_;
    }
  }

 protected:
  void decide(const Seen& seen, Duration at) override {
    if (seen.sent != seen.planned) return;
    if (grew_ < 2 || shrank_ < 1) {
      return no_bite(fmt::format("the pool grew {} times and shrank {} times", grew_, shrank_));
    }
    bit(at, fmt::format("the pool grew {} times, to {} workers, and shrank {} times", grew_, most_,
                        shrank_));
  }

 private:
  std::size_t there() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(recorder().workers(), [](const host::WorkerInfo& worker) {
          return worker.state != core::WorkerState::kDraining;
        }));
  }

  bool large_ = false;  // it has grown since it was last at its smallest
  std::size_t least_ = 0, peak_ = 0, most_ = 0;
  std::optional<Duration> fewer_since_;  // than at the peak
  int grew_ = 0, shrank_ = 0;
};

void plan_waves(CallPlan& plan) {
  const auto n = static_cast<std::int64_t>(count_of(plan.fault, "calls"));
  const std::string takes = plan.milliseconds("takes");
  const Duration every = duration_of(plan.fault, "every");
  for (Duration begin = 0ms; begin + kWave <= plan.fault.lasts; begin += every) {
    plan.repeat(static_cast<std::uint64_t>(n), [&](std::uint64_t i) {
      return plan.call("sleep", takes, begin + kWave * static_cast<std::int64_t>(i) / n);
    });
  }
}

}  // namespace

std::vector<FaultClass> classes() {
  return {{.name = "client.waves",
           .what = "The load comes in waves: the pool is to grow for each and to shrink between "
                   "them.",
           .proof = "the pool grew at least twice and shrank in between",
           .reach = Reach::kPool,
           .lasts = true,
           .callers_only = true,
           .needs_growth = true,
           .where = Where::kEverywhere,
           .parameters = {{"calls", kCount, "60", "80", "120", "of each wave"},
                          {"takes", kDuration, "30ms", "30ms", "30ms", "each"},
                          {"every", kDuration, "2s", "2s", "2s", "from wave to wave"}},
           .expected = {kTimeout, kOverloaded},
           .plan = plan_waves,
           .make = make_fault<Waves>}};
}

}  // namespace keelback::chaos::faults::waves
