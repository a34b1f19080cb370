// Health checks: the question goes to the worker between two calls, the loop reads the answer, and
// a timer sees that it comes in time.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/wording.h"
#include "host/host_impl.h"
#include "os/process.h"

namespace keelback::host {
namespace {

// How soon a check that seems late is looked at again.
constexpr Duration kLookAgain = std::chrono::milliseconds(10);

os::ProcessorUse processor_use(const WorkerProcess& worker) {
  return os::read_processor_use(worker.pid).value_or(os::ProcessorUse{});
}

bool is_runnable(const WorkerProcess& worker) {
  const auto stat = os::read_stat(worker.pid);
  return stat && stat->state == 'R';
}

}  // namespace

void HostImpl::check_health(WorkerId id) {
  Effects& effects = effects_of_thread();
  WorkerPtr worker;
  {
    const Locked lock(lock_);
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
  worker->check_use = processor_use(*worker);
  worker->check_seen.reset();
  perform(effects);
  watch_check(worker, settings_.workers.health_timeout);
}

void HostImpl::watch_check(const WorkerPtr& worker, Duration wait) {
  if (worker->finished) return;
  worker->check_timer = std::make_unique<boost::asio::steady_timer>(loop_, wait);
  worker->check_timer->async_wait(
      alive_.guard([this, worker](const boost::system::error_code& error) {
        if (!error) check_due(worker);
      }));
}

void HostImpl::check_due(const WorkerPtr& worker) {
  {
    const Locked lock(lock_);
    if (!worker->checking || worker->finished) return;
  }
  const Duration limit = settings_.workers.health_timeout;
  const os::ProcessorUse use = processor_use(*worker);
  const Duration took = now() - worker->check_began;
  const Duration left = limit - (took - (use.waited - worker->check_use.waited));
  if (left > Duration{0}) {
    worker->check_seen.reset();
    return watch_check(worker, std::max<Duration>(left, std::chrono::milliseconds(1)));
  }
  // The kernel counts a wait for a processor when it is over, and the answer may be in the socket.
  const bool waits = worker->check_seen == use && is_runnable(*worker);
  if (waits || !worker->check_seen) {
    worker->check_seen = use;
    return watch_check(worker, kLookAgain);
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
