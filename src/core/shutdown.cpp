#include "core/shutdown.h"

#include <algorithm>
#include <utility>

#include "core/calls.h"
#include "core/health.h"
#include "core/readiness.h"
#include "core/replacements.h"
#include "core/starts.h"
#include "core/waiting.h"
#include "core/workers.h"

namespace keelback::core {

void Shutdown::on(const DrainRequested& event) {
  const Time until = frame_.now + std::max(event.limit, Duration{0});
  if (frame_.phase >= Phase::kOverdue) return;
  if (frame_.draining() && timer_.armed() && timer_.due <= until) return;
  if (!frame_.draining()) {
    frame_.phase = Phase::kDraining;
    readiness_.refresh();
    replacements_.finish_reload();
    health_.stop();
    starts_.drop_unwanted();
  }
  frame_.timers.arm(timer_, until);
  if (until <= frame_.now) {
    frame_.timers.disarm(timer_);
    due();
  }
}

void Shutdown::due() {
  frame_.phase = Phase::kOverdue;
  Ending ending;
  ending.kind = OutcomeKind::kShuttingDown;
  ending.message = "The pool shut down before this call could start.";
  waiting_.end_all(ending);
  workers_.table().each([this](Worker& worker) {
    worker.free() ? workers_.stop(worker) : workers_.kill(worker, KillCause::kDrained);
  });
}

void Shutdown::advance() {
  if (frame_.phase == Phase::kDrained || !calls_.empty()) return;
  starts_.drop_all();
  workers_.table().each([this](Worker& worker) {
    if (!worker.was_ready()) return workers_.kill(worker, KillCause::kDrained);
    if (!worker.draining() || worker.spare) return workers_.drain(worker);
    workers_.leave(worker);
  });
  if (workers_.table().size() > 0) return;
  frame_.phase = Phase::kDrained;
  frame_.timers.disarm(timer_);
  frame_.emit(Drained{});
}

}  // namespace keelback::core
