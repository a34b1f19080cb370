#include "core/readiness.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/health.h"
#include "core/replacements.h"
#include "core/starts.h"
#include "core/waiting.h"
#include "core/wording.h"
#include "core/workers.h"

namespace keelback::core {

void Readiness::note_ready() {
  start_failure_.reset();
  loaded_ = true;
}

void Readiness::refresh() {
  const bool was = std::exchange(not_ready_, false);
  if (!start_failure_ || workers_.table().up() > 0 || frame_.draining()) return;
  for (const auto& slot : workers_.table().slots()) {
    if (slot->wanted && !slot->start_failed) return;  // it may yet come up
  }
  not_ready_ = true;
  if (was) return;
  waiting_.end_all(refusal());
}

Ending Readiness::refusal() const {
  const auto next = starts_.next();
  const Duration retry = next ? std::max(*next - frame_.now, Duration{std::chrono::milliseconds(1)})
                              : waiting_.queue().retry_after(0);
  return Ending{
      OutcomeKind::kNotReady,
      fmt::format("No worker is up: the last one ended with {}.", core::describe(*start_failure_)),
      retry, start_failure_};
}

// Requires: start_failure_.
std::string Readiness::describe_failure() const {
  std::string text = "the last start ended with " + core::describe(*start_failure_);
  if (!start_failure_->stderr_tail.empty()) {
    text += "; its last words: " + start_failure_->stderr_tail;
  }
  return text;
}

void Readiness::describe(Time now, PoolStats& stats) const {
  std::uint32_t sick = 0;
  const Worker* sickest = nullptr;
  workers_.table().each([&](const Worker& worker) {
    if (worker.condition == Worker::Condition::kWell) return;
    if (worker.slot->current != &worker || !worker.was_ready() || worker.draining()) return;
    ++sick;
    if (!sickest) sickest = &worker;
  });
  const std::uint32_t up = stats.workers.ready + stats.workers.busy;
  const std::uint32_t serving = up - std::min(sick, up);
  const std::uint32_t wanted = std::max(frame_.settings.pool.workers, workers_.table().wanted());
  if (frame_.draining()) {
    stats.reasons.push_back("the pool is shutting down");
  } else {
    ask_for_workers(serving, wanted, stats);
  }
  if (!stats.reasons.empty() && !frame_.draining()) {
    if (sickest) {
      stats.reasons.push_back(
          fmt::format("worker {}.{} {}", sickest->id.slot, sickest->id.generation, sickest->fault));
    }
    give_causes(now, stats);
  }
  stats.ready = stats.reasons.empty();
  if (stats.ready && start_failure_ && serving < wanted) {
    stats.failing = fmt::format("{} of {} workers serve; {}", serving, wanted, describe_failure());
  }
  if (not_ready_ && !loaded_ && replacements_.code() == 0) stats.load_failure = start_failure_;
}

// A pool that keeps no worker is ready when the application is loaded, as long as workers start.
void Readiness::ask_for_workers(std::uint32_t serving, std::uint32_t wanted,
                                PoolStats& stats) const {
  const auto& pool = frame_.settings.pool;
  const std::uint32_t needed = std::max(pool.ready_from(), starts_.exec() ? 1U : 0U);
  if (needed > pool.ready_from() && serving == 0) {
    stats.reasons.push_back("no worker serves, and a pool that starts them by exec keeps one");
  } else if (serving < needed) {
    stats.reasons.push_back(
        fmt::format("{} of {} workers serve; pool.min_ready asks for {}", serving, wanted, needed));
  } else if (serving == 0 && start_failure_) {
    stats.reasons.push_back("no worker can be started");
  } else if (serving == 0 && !announced_) {
    stats.reasons.push_back("the application is being loaded");
  }
}

// What has happened, and what comes next.
void Readiness::give_causes(Time now, PoolStats& stats) const {
  if (start_failure_) {
    stats.reasons.push_back(describe_failure());
  } else if (last_exit_) {
    stats.reasons.push_back("the last worker to end by itself ended with " +
                            core::describe(*last_exit_));
  }
  if (health_.pause().armed()) {
    stats.reasons.push_back("the next replacement of a broken worker is in " +
                            core::describe(std::max(health_.pause().due - now, Duration{0})));
  }
  if (const auto next = starts_.next()) {
    stats.reasons.push_back("the next start is in " +
                            core::describe(std::max(*next - now, Duration{0})));
  }
}

}  // namespace keelback::core
