#include "host/worker_process.h"

#include <fmt/format.h>

#include <utility>

#include "host/started_mark.h"
#include "wire/process.h"

namespace keelback::host {

// The supervisor's marks and the workers' are the same memory.
static_assert(os::Marks::kBytes == wire::kMarksBytes);
static_assert(os::Marks::kRowsOffset == wire::kRowsOffset);
static_assert(os::Marks::kRows == wire::kRowsMax);
static_assert(os::Marks::kDumpOffset == wire::kDumpOffset);

os::Result<NewWorker> make_worker(WorkerId id, std::uint32_t frame_bytes_max,
                                  std::shared_ptr<SlabBudget> slab_budget) {
  auto data = os::make_seqpacket_pair();
  if (!data) return std::unexpected(data.error());
  auto control = os::make_seqpacket_pair();
  if (!control) return std::unexpected(control.error());
  auto marks = os::Marks::create();
  if (!marks) return std::unexpected(marks.error());
  auto marks_copy = os::duplicate(marks->fd());
  if (!marks_copy) return std::unexpected(marks_copy.error());
  auto log = os::make_pipe();
  if (!log) return std::unexpected(log.error());
  if (auto done = os::set_nonblocking(log->read.get(), true); !done) {
    return std::unexpected(done.error());
  }
  NewWorker made;
  made.worker = std::make_shared<WorkerProcess>(id, std::move(data->ours), frame_bytes_max,
                                                std::move(slab_budget), std::move(*marks));
  made.worker->log = std::move(log->read);
  made.control = std::move(control->ours);
  made.ends = {std::move(data->theirs), std::move(control->theirs),
               std::move(*marks_copy),  std::move(log->write),
               os::draw_kin(),          {}};
  made.worker->kin = made.ends.kin;
  return made;
}

std::optional<ParkedState> WorkerProcess::take_parked(CallId call, std::uint64_t birth) {
  for (auto each = parked.begin(); each != parked.end(); ++each) {
    if (call ? each->call != call : each->birth != birth) continue;
    ParkedState found = std::move(*each);
    parked.erase(each);
    return found;
  }
  return std::nullopt;
}

bool WorkerProcess::may_have_begun(CallId call) const {
  if (const std::uint16_t row = shared.row_of(call)) {
    return may_have_started(call, 0, {marks.started(row), marks.ended(row)});
  }
  return may_have_started(call, last_ok, {marks.started(), marks.ended()});
}

bool WorkerProcess::end(CallId call) {
  if (!call) return false;
  if (running == call) {
    running = {};
    return true;
  }
  const std::uint16_t row = shared.row_of(call);
  if (row != 0) shared.end(row);
  if (shared.empty()) batch = {};
  return row != 0;
}

void WorkerProcess::leave_loop() {
  log_watch.reset();
  death_watch.reset();
  control.reset();
  check_timer.reset();
  log.reset();
  pidfd.reset();
}

}  // namespace keelback::host
