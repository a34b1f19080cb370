// Operators' orders, given at a bad moment.
#include <fmt/format.h>

#include <algorithm>

#include "chaos/fault.h"

namespace keelback::chaos::faults::operators {
namespace {

using enum OutcomeKind;
using enum ParameterType;

// Orders after which workers are replaced.
struct Replacing : Fault {
  void before() override {
    for (const host::WorkerInfo& worker : recorder().workers()) {
      newest_ = std::max(newest_, worker.worker.generation);
    }
  }

 protected:
  bool newer(std::uint32_t slot) const {
    return std::ranges::any_of(recorder().workers(), [&](const host::WorkerInfo& worker) {
      return worker.worker.slot == slot && worker.worker.generation > newest_ &&
             worker.state != core::WorkerState::kStarting;
    });
  }
  void bit_at(std::uint32_t slot, Duration at) {
    bit(at, fmt::format("slot {} has a newer worker", slot));
  }

 private:
  std::uint32_t newest_ = 0;  // generation
};

struct Recycle final : Replacing {
  void inject(Duration) override {
    for (const auto& worker : targets()) world().recycle(worker.worker.slot);
  }
  void prove(Duration at) override {
    const bool all = std::ranges::all_of(
        targets(), [this](const auto& worker) { return newer(worker.worker.slot); });
    if (!targets().empty() && all) bit_at(targets().front().worker.slot, at);
  }
};

struct Reload final : Replacing {
  void inject(Duration) override { world().reload(); }
  // The first of the rolling replacement: it has begun to bite.
  void prove(Duration at) override {
    for (std::uint32_t slot = 1; slot <= scenario().settings.pool.workers; ++slot) {
      if (newer(slot)) return bit_at(slot, at);
    }
  }
};

// Other settings for a while.
struct Configured : Fault {
  void inject(Duration) override {
    Settings settings = scenario().settings;
    change(settings);
    world().configure(settings);
  }
  Evidence undo() override {
    world().configure(scenario().settings);
    return "nothing to undo";
  }

 protected:
  virtual void change(Settings& settings) const = 0;
};

struct Resize final : Configured {
  void prove(Duration at) override {
    const auto living = std::ranges::count_if(recorder().workers(), [](const auto& worker) {
      return worker.state == core::WorkerState::kReady || worker.state == core::WorkerState::kBusy;
    });
    const auto usual = static_cast<std::int64_t>(scenario().settings.pool.workers);
    if (living < usual) bit(at, fmt::format("{} workers of {} were up", living, usual));
  }

 private:
  void change(Settings& settings) const override {
    auto& pool = settings.pool;
    pool.workers = std::max(1U, pool.workers - 1);
    pool.min_ready = std::min(pool.min_ready, pool.workers);
  }
};

struct ShortenSessions final : Configured {
  void before() override { before_ = recorder().history().samples.back(); }
  void prove(Duration at) override {
    const Sample& now = recorder().history().samples.back();
    const std::uint64_t lost = now.lost - before_.lost, opened = now.opened - before_.opened;
    const std::uint64_t all = before_.sessions + opened;
    const std::uint64_t known = all - std::min(all, lost);
    if (over || now.sessions >= known) return;
    bit(at, fmt::format("{} sessions ended that nobody lost", known - now.sessions));
  }

 private:
  void change(Settings& settings) const override {
    if (duration("ttl") > Duration{0}) settings.sessions.idle_ttl = duration("ttl");
  }
  Sample before_;
};

FaultClass order(FaultClass made) {
  made.renews_zygote = made.by_operator = true;
  made.where = Where::kEverywhere;
  if (made.expected.empty()) made.expected = {kSessionLost, kTimeout, kOverloaded};
  return made;
}

}  // namespace

std::vector<FaultClass> classes() {
  return {order({.name = "pool.recycle",
                 .what = "A worker is replaced on order, replacement first.",
                 .proof = "its slot has a newer generation",
                 .make = make_fault<Recycle>}),
          order({.name = "pool.reload",
                 .what = "The application is loaded anew and every worker replaced, rolling.",
                 .proof = "every slot has a newer generation",
                 .reach = Reach::kPool,
                 .make = make_fault<Reload>}),
          order({.name = "pool.resize",
                 .what = "The pool shrinks by one worker and grows again.",
                 .proof = "fewer workers were seen, then as many as before",
                 .undo = "the old size, by the laboratory; it ends with the pool",
                 .reach = Reach::kPool,
                 .lasts = true,
                 .make = make_fault<Resize>}),
          order({.name = "pool.shorten_sessions",
                 .what = "An operator lowers sessions.idle_ttl while sessions live.",
                 .proof = "there are fewer sessions than before, and the pool did not lose them",
                 .undo = "the old setting, by the laboratory; it ends with the pool",
                 .reach = Reach::kPool,
                 .lasts = true,
                 .parameters = {{"ttl", kDuration, "200ms", "100ms", "50ms", "the new limit"}},
                 .expected = {kSessionExpired},
                 .make = make_fault<ShortenSessions>})};
}

}  // namespace keelback::chaos::faults::operators
