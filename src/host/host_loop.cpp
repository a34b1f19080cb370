// The loop thread: the inbox, the timer, and the sockets of asynchronous calls.
#include <signal.h>

#include <array>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/check.h"
#include "base/overloaded.h"
#include "host/host_impl.h"
#include "wire/process.h"

namespace keelback::host {
namespace {

// Packets that one worker may have read in one go; then others have their turn.
constexpr int kPacketsPerTurn = 16;

// An epoll token is a worker's id.
std::uint64_t token_of(WorkerId id) { return std::uint64_t{id.slot} << 32 | id.generation; }
WorkerId worker_of(std::uint64_t token) {
  return {static_cast<std::uint32_t>(token >> 32), static_cast<std::uint32_t>(token)};
}

}  // namespace

void HostImpl::empty_inbox() {
  for (;;) {
    std::vector<InboxItem> batch;
    bool timer_wanted = false;
    {
      const Locked lock(lock_);
      batch.swap(inbox_);
      timer_wanted = std::exchange(timer_wanted_, false);
      poked_ = false;
    }
    if (timer_wanted) arm_timer();
    if (batch.empty()) return;
    for (InboxItem& item : batch) {
      std::visit(Overloaded{
                     [&](core::Action& action) { perform_on_loop(action); },
                     [&](Completion& completion) {
                       completion.record->done(std::move(completion.record->outcome));
                     },
                     [&](Item& piece) { piece.record->item(std::move(piece.bytes)); },
                     [&](Drained& drained) { reading_ended(drained.worker, drained.violation); },
                     [&](Blocked& blocked) { flush_as_loop(blocked.worker); },
                     [&](Hello& hello) { process_said(hello); },
                     [&](Ready& ready) { process_said(ready); },
                 },
                 item);
    }
  }
}

void HostImpl::perform_on_loop(core::Action& any) {
  const auto worker_named = [this](WorkerId id) {
    const Locked lock(lock_);
    return find(id);
  };
  std::visit(Overloaded{
                 [&](core::StartWorker& action) { start_worker(action.worker, /*probe=*/false); },
                 [&](core::KillWorker& action) {
                   if (const WorkerPtr worker = worker_named(action.worker)) kill_worker(worker);
                 },
                 [&](core::AbandonWorker& action) {
                   log(core::Notice::Level::kError, "worker " + to_string(action.worker) +
                                                        " does not die; its slot is refilled");
                 },
                 [&](core::CancelCall& action) { climb(any, action.worker, action.call); },
                 [&](core::InterruptCall& action) { climb(any, action.worker, action.call); },
                 [&](core::DumpWorker& action) { climb(any, action.worker, action.call); },
                 [&](core::CheckWorker& action) { check_health(action.worker); },
                 [&](core::Drained&) {
                   drained_ = true;
                   for (auto& done : std::exchange(on_drained_, {})) done();
                 },
                 [&](core::Reloaded& action) {
                   if (std::exchange(reload_committed_, false)) reload_ended(action.error);
                 },
                 [&](core::Notice& action) { log(action.level, action.text); },
                 [&](auto&) { CHECK(false); },  // apply() keeps the others
             },
             any);
}

// One rung of the kill ladder. The process may be dead by now: signals to it do nothing then.
void HostImpl::climb(const core::Action& rung, WorkerId id, CallId call) {
  WorkerPtr worker;
  bool streaming = false;
  bool unsent = false;
  Effects& effects = effects_of_thread();
  {
    const Locked lock(lock_);
    worker = find(id);
    CallRecord* record = find(call);
    if (worker == nullptr || worker->running != call) return;
    unsent = worker->unsent != nullptr;
    if (unsent) {
      give_up_restore(*worker, call, /*gone=*/false);
      follow_up(nullptr, effects);
      settle(effects);
    }
    streaming = record != nullptr && record->streaming;
  }
  if (unsent) return perform(effects);
  if (const auto* cancel = std::get_if<core::CancelCall>(&rung)) {
    const auto dispatched = cancel->dispatched.time_since_epoch();
    worker->marks.set_cancel(call.value, static_cast<std::uint64_t>(dispatched.count()));
    std::string frame;
    wire::append_cancel(frame, call.value);
    wire::append_ping(frame, call.value);
    worker->pinged = call.value;
    if (worker->control) static_cast<void>(worker->control->send(std::move(frame)));
    if (!streaming) return;
    std::string credit;  // a generator that waits for credit looks at its mark
    wire::append_credit(credit, call.value, 0);
    worker->channel.push(std::move(credit));
    flush_as_loop(worker);
  } else if (std::holds_alternative<core::InterruptCall>(rung)) {
    worker->marks.set_interrupt(call.value);
    if (worker->pidfd) static_cast<void>(worker->pidfd.send_signal(SIGINT));
  } else {
    const auto stat = os::read_stat(worker->pid);
    const bool stopped = stat && (stat->state == 'T' || stat->state == 't');
    const std::size_t dumped = worker->marks.dump().size();
    {
      const Locked lock(lock_);
      if (CallRecord* record = find(call)) {
        record->dump_asked = true;
        record->dump_from = dumped;
        if (stopped) record->dump_note = "unavailable: stopped";
      }
    }
    if (!stopped && worker->pidfd) {
      static_cast<void>(worker->pidfd.send_signal(wire::kDumpSignal));
    }
  }
}

void HostImpl::arm_timer() {
  Time at;
  {
    const Locked lock(lock_);
    at = timer_at_;
  }
  timer_.expires_at(std::chrono::steady_clock::time_point(at.time_since_epoch()));
  timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (error) return;
    {
      const Locked lock(lock_);
      timer_at_ = Time::max();  // settle() sets the next one
    }
    feed(core::Tick{});
  }));
}

// ---- sockets

// Any thread, for itself or for whom it has dispatched. Harmless if the worker is gone; one that is
// not gone and cannot be watched is of no use.
void HostImpl::arm(const WorkerPtr& worker, bool read, bool write) {
  if (epoll_.arm(worker->channel.fd(), token_of(worker->id), read, write)) return;
  boost::asio::post(
      loop_, alive_.guard([this, worker] { reading_ended(worker, "it cannot be watched"); }));
}

void HostImpl::flush_as_loop(const WorkerPtr& worker) {
  const Channel::Flushed flushed = worker->channel.flush();
  if (flushed == Channel::Flushed::kBroken) return kill_if_it_lives(worker);
  if (flushed == Channel::Flushed::kAll) return;
  Reader reader;
  {
    const Locked lock(lock_);
    reader = worker->reader;
  }
  // A caller that reads also waits for the room to write.
  if (reader != Reader::kCaller) arm(worker, reader == Reader::kLoop, true);
}

void HostImpl::sockets_ready() {
  std::array<os::EpollEvent, 64> events;
  const auto count = epoll_.ready(events);
  if (!count) return;
  for (std::size_t i = 0; i < *count; ++i) {
    WorkerPtr worker;
    bool ours = false;
    {
      const Locked lock(lock_);
      worker = find(worker_of(events[i].token));
      ours = worker != nullptr && worker->reader == Reader::kLoop;
    }
    if (worker == nullptr) continue;
    if (ours) {
      read_as_loop(worker);
    } else if (events[i].writable) {
      flush_as_loop(worker);
    }
  }
}

void HostImpl::read_as_loop(const WorkerPtr& worker) {
  Effects& effects = effects_of_thread();
  std::vector<WorkerMessage> messages;
  for (int turn = 0; turn < kPacketsPerTurn; ++turn) {
    messages.clear();
    const Channel::Received received = worker->channel.receive(os::Wait::kNo, messages);
    if (received == Channel::Received::kNothing) break;
    if (received == Channel::Received::kSome && messages.empty()) continue;
    bool ours = false;
    {
      const Locked lock(lock_);
      take_all(worker, messages, received, nullptr, effects);
      ours = worker->reader == Reader::kLoop;
      settle(effects);
    }
    perform(effects);
    if (!ours) break;
  }
  bool ours = false;
  {
    const Locked lock(lock_);
    ours = worker->reader == Reader::kLoop;
  }
  if (!ours) return flush_as_loop(worker);
  const bool blocked = worker->channel.flush() == Channel::Flushed::kBlocked;
  arm(worker, true, blocked);
}

void HostImpl::log(core::Notice::Level level, const std::string& text) {
  switch (level) {
    case core::Notice::Level::kDebug:
      return logger_->debug("{}", text);
    case core::Notice::Level::kInfo:
      return logger_->info("{}", text);
    case core::Notice::Level::kWarn:
      return logger_->warn("{}", text);
    case core::Notice::Level::kError:
      return logger_->error("{}", text);
  }
}

}  // namespace keelback::host
