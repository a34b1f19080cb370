#include "host/worker_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "core/wording.h"
#include "host/log_lines.h"
#include "os/process.h"
#include "wire/process.h"

namespace keelback::host {
namespace {

using Step = WorkerProcess::Step;

// What a worker needs to take a call at all: the stack of its control thread, and buffers.
constexpr std::uint64_t kRoomOfAWorker = 16 << 20;
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

// ---- health

void WorkerWatch::check_health(WorkerId id) {
  Effects& effects = effects_of_thread();
  WorkerPtr worker;
  {
    const Locked locked(engine_.lock);
    worker = roster_.find(id);
    if (worker == nullptr) return;
    std::string frame;
    wire::append_check(frame);
    worker->channel.push(std::move(frame));
    effects.flush.push_back(worker);
    worker->checking = true;
    reading_.read_between_calls(worker, effects);
  }
  worker->check_began = engine_.now();
  worker->check_use = processor_use(*worker);
  worker->check_seen.reset();
  engine_.perform(effects);
  watch_check(worker, roster_.settings.workers.health_timeout);
}

void WorkerWatch::watch_check(const WorkerPtr& worker, Duration wait) {
  if (worker->finished) return;
  worker->check_timer = std::make_unique<boost::asio::steady_timer>(engine_.context(), wait);
  worker->check_timer->async_wait(
      engine_.guard([this, worker](const boost::system::error_code& error) {
        if (!error) check_due(worker);
      }));
}

void WorkerWatch::check_due(const WorkerPtr& worker) {
  {
    const Locked locked(engine_.lock);
    if (!worker->checking || worker->finished) return;
  }
  const Duration limit = roster_.settings.workers.health_timeout;
  const os::ProcessorUse use = processor_use(*worker);
  const Duration took = engine_.now() - worker->check_began;
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
  engine_.feed(core::WorkerChecked{worker->id, /*healthy=*/false, /*over=*/false, reason});
}

// ---- memory

void WorkerWatch::limit_memory(WorkerProcess& worker) {
  const std::uint64_t limit = roster_.settings.workers.memory_limit.count;
  if (limit == 0 || refuse_limit(worker)) return;
  if (const auto limited = os::limit_data(worker.pid, limit); !limited) {
    engine_.log(core::Notice::Level::kError,
                fmt::format("worker {} has no memory limit: {}", to_string(worker.id),
                            limited.error().message()));
  }
}

bool WorkerWatch::refuse_limit(WorkerProcess& worker) {
  const std::uint64_t limit = roster_.settings.workers.memory_limit.count;
  if (limit == 0) return false;
  const auto used = os::read_data_bytes(worker.pid);
  if (!used || *used + kRoomOfAWorker <= limit) return false;
  worker.refused = true;
  worker.kill_wanted = true;
  worker.start_error = fmt::format(
      "workers.memory_limit is {} bytes; the worker has allocated {} before its first call, and "
      "needs {} beside them",
      limit, *used, kRoomOfAWorker);
  return true;
}

void WorkerWatch::is_ready(WorkerProcess& worker) {
  if (roster_.settings.workers.max_rss.count == 0) return;
  if (const auto memory = os::read_memory_use(worker.pid)) {
    worker.own_bytes_at_ready = memory->own;
  }
}

void WorkerWatch::look() {
  sample_memory();
  shrink_slabs();
  std::vector<WorkerPtr> all;
  {
    const Locked locked(engine_.lock);
    all = roster_.all();
  }
  for (const WorkerPtr& worker : all) mark_dropped(*worker);
}

// Workers whose private memory has grown by more than workers.max_rss since they were ready are
// replaced. Looked at between calls only: what a call uses while it runs is its own affair.
void WorkerWatch::sample_memory() {
  const std::uint64_t growth_max = roster_.settings.workers.max_rss.count;
  if (growth_max == 0) return;
  std::vector<WorkerPtr> idle;
  {
    const Locked locked(engine_.lock);
    for (const auto& [id, worker] : roster_.workers) {
      if (worker->idle() && worker->said == Step::kReady && !worker->probe) {
        idle.push_back(worker);
      }
    }
  }
  for (const WorkerPtr& worker : idle) {
    const auto memory = os::read_memory_use(worker->pid);
    if (!memory || worker->own_bytes_at_ready == 0 || worker->recycle_asked) continue;
    if (memory->own < worker->own_bytes_at_ready + growth_max) continue;
    worker->recycle_asked = true;
    engine_.logger().info("worker {} is replaced: its private memory grew by {} bytes",
                          to_string(worker->id), memory->own - worker->own_bytes_at_ready);
    engine_.feed(core::RecycleRequested{worker->id.slot});
  }
}

// Slabs that no call has used for attachments.keep.
void WorkerWatch::shrink_slabs() {
  if (roster_.slab_budget->used() == 0) return;
  const Time limit = engine_.now() - roster_.settings.attachments.keep;
  Effects& effects = effects_of_thread();
  Slabs::Dropped dropped;
  {
    const Locked locked(engine_.lock);
    for (const auto& [id, worker] : roster_.workers) {
      if (!worker->idle() || worker->said != Step::kReady) continue;
      auto theirs = worker->channel.shrink_slabs(limit);
      if (theirs.empty()) continue;
      effects.flush.push_back(worker);
      std::ranges::move(theirs, std::back_inserter(dropped));
    }
  }
  for (const auto& slab : dropped) slab->empty();
  engine_.perform(effects);
}

// ---- log

void WorkerWatch::read_log(WorkerProcess& worker) {
  std::string piece(kLogPerTurn, '\0');
  const auto got = os::read_some(worker.log.get(), piece.data(), piece.size());
  std::vector<std::string> lines;
  if (got && *got > 0) {
    worker.lines.feed(engine_.now(), std::string_view(piece).substr(0, *got), lines);
  } else if (got) {  // errors pass; the end does not
    worker.lines.finish(engine_.now(), lines);
    worker.log_watch->stop();
  }
  log_lines(worker, lines);
  const std::uint64_t before = worker.log_dropped_lines.exchange(worker.lines.dropped());
  roster_.log_dropped_workers += worker.lines.dropped() - before;
}

// Once a second, so that a flood which never ends leaves marks, and not a flood of them.
void WorkerWatch::mark_dropped(WorkerProcess& worker) {
  const LogLines::Flood flood = worker.lines.take_flood();
  if (flood.dropped > 0) {
    engine_.logger().warn("{}", dropped_text("Worker " + to_string(worker.id), flood.dropped));
  }
  log_lines(worker, flood.held);
}

void WorkerWatch::log_lines(const WorkerProcess& worker, const std::vector<std::string>& lines) {
  for (const std::string& line : lines)
    engine_.logger().info("[{}] {}", to_string(worker.id), line);
}

}  // namespace keelback::host
