// Health checks: the question goes to the worker between two calls, the loop reads the answer, and
// a timer sees that it comes in time.
#include <fmt/format.h>

#include <algorithm>

#include "core/wording.h"
#include "host/host_impl.h"
#include "os/process.h"

namespace keelback::host {
namespace {

// Time without a processor does not count, but a check that has not ended after so many times its
// limit is late whatever the reason.
constexpr int kLimitsAtMost = 10;

Duration processor_wait(const WorkerProcess& worker) {
  const auto waited = os::read_processor_wait(worker.pid);
  return waited ? Duration(*waited) : Duration{0};
}

}  // namespace

void HostImpl::check_health(WorkerId id) {
  Effects& effects = effects_of_thread();
  WorkerPtr worker;
  {
    const os::MutexLock lock(mutex_);
    worker = find(id);
    if (worker == nullptr) return;
    std::string frame;
    wire::append_check(frame);
    worker->channel.push(std::move(frame));
    effects.flush.push_back(worker);
    worker->checking = true;
    read_between_calls(worker, effects);
  }
  worker->check_began = now();
  worker->check_waited = processor_wait(*worker);
  perform(effects);
  watch_check(worker, settings_.workers.health_timeout);
}

void HostImpl::watch_check(const WorkerPtr& worker, Duration wait) {
  if (worker->finished) return;
  worker->check_timer = std::make_unique<boost::asio::steady_timer>(loop_, wait);
  worker->check_timer->async_wait([this, worker](const boost::system::error_code& error) {
    if (!error) check_due(worker);
  });
}

void HostImpl::check_due(const WorkerPtr& worker) {
  {
    const os::MutexLock lock(mutex_);
    if (!worker->checking || worker->finished) return;
  }
  const Duration limit = settings_.workers.health_timeout;
  const Duration took = now() - worker->check_began;
  const Duration without_processor = processor_wait(*worker) - worker->check_waited;
  const Duration left = std::min(limit - (took - without_processor), limit * kLimitsAtMost - took);
  if (left > Duration{0}) {
    return watch_check(worker, std::max<Duration>(left, std::chrono::milliseconds(1)));
  }
  const std::string reason = "it takes longer than " + core::describe(limit);
  feed(core::WorkerChecked{worker->id, /*healthy=*/false, /*over=*/false, reason});
}

bool HostImpl::take_checked(WorkerProcess& worker, const WorkerMessage& message, CallRecord* self,
                            Effects& effects) {
  if (!worker.checking) return false;
  worker.checking = false;
  end_reading_between_calls(worker, self);
  step(core::WorkerChecked{worker.id, message.healthy, /*over=*/true, message.body}, self, effects);
  return true;
}

}  // namespace keelback::host
