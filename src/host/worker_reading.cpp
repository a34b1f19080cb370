#include "host/worker_reading.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "host/hello.h"
#include "wire/process.h"

namespace keelback::host {
namespace {

using Step = WorkerProcess::Step;

// Packets that one worker may have read in one go; then others have their turn.
constexpr int kPacketsPerTurn = 16;

// An epoll token is a worker's id.
std::uint64_t token_of(WorkerId id) { return std::uint64_t{id.slot} << 32 | id.generation; }
WorkerId worker_of(std::uint64_t token) {
  return {static_cast<std::uint32_t>(token >> 32), static_cast<std::uint32_t>(token)};
}

core::ReplyKind reply_kind(const WorkerMessage& message) {
  if (message.type != wire::Type::kError) return core::ReplyKind::kOk;
  switch (message.error_kind) {
    case wire::ErrorKind::kCancelled:
      return core::ReplyKind::kCancelled;
    case wire::ErrorKind::kBadRequest:
      return core::ReplyKind::kBadRequest;
    case wire::ErrorKind::kUnknownFunction:
      return core::ReplyKind::kUnknownFunction;
    case wire::ErrorKind::kError:
      break;
  }
  return core::ReplyKind::kError;
}

store::Format stored_format(wire::StateFormat format) {
  using enum wire::StateFormat;
  static_assert(static_cast<int>(store::Format::kNone) == static_cast<int>(kNone));
  static_assert(static_cast<int>(store::Format::kJson) == static_cast<int>(kJson));
  static_assert(static_cast<int>(store::Format::kBytes) == static_cast<int>(kBytes));
  return static_cast<store::Format>(format);
}

}  // namespace

// ---- who reads

os::Result<void> WorkerReading::start() {
  auto epoll = os::Epoll::create();
  if (!epoll) return std::unexpected(epoll.error());
  epoll_ = std::move(*epoll);
  epoll_watch_ =
      std::make_unique<FdWatch>(engine_.context(), epoll_.get(), [this] { sockets_ready(); });
  return {};
}

os::Result<void> WorkerReading::add(const WorkerProcess& worker) {
  return epoll_.add(worker.channel.fd(), token_of(worker.id));
}

void WorkerReading::release(WorkerProcess& worker, CallRecord* self) {
  if (worker.reader == Reader::kCaller) {
    CHECK(self != nullptr && self->reading.get() == &worker);
    self->reading.reset();
    self->word.fetch_and(~CallRecord::kRead, std::memory_order_relaxed);
  }
  worker.reader = Reader::kNobody;
}

void WorkerReading::leave_to_loop(CallRecord& self, Effects& effects) {
  const WorkerPtr worker = std::static_pointer_cast<WorkerProcess>(self.reading);
  release(*worker, &self);
  worker->reader = Reader::kLoop;
  effects.arm.push_back(worker);
  if (worker->channel.has_pending()) hear_later(worker, News::kBlocked, {}, effects);
}

void WorkerReading::read_between_calls(const WorkerPtr& worker, Effects& effects) {
  // Somebody reads already; of one that is dead, to its end.
  if (worker->reader != Reader::kNobody) return;
  worker->reader = Reader::kLoop;
  effects.arm.push_back(worker);
}

void WorkerReading::end_reading_between_calls(WorkerProcess& worker, CallRecord* self) {
  if (worker.saves == 0 && !worker.checking && worker.idle()) release(worker, self);
}

void WorkerReading::hear_later(const WorkerPtr& worker, News news, std::string text,
                               Effects& effects) {
  engine_.hear_later({worker, static_cast<std::uint8_t>(news), std::move(text)}, effects);
}

void WorkerReading::perform(Effects& effects) {
  for (const auto& each : effects.flush) {
    WorkerProcess& worker = static_cast<WorkerProcess&>(*each);
    const Channel::Flushed flushed = worker.channel.flush();
    if (flushed == Channel::Flushed::kAll) continue;
    const WorkerPtr owned = std::static_pointer_cast<WorkerProcess>(each);
    if (flushed == Channel::Flushed::kBroken) {
      engine_.post([this, owned] { handlers_.broken(owned); });
      continue;
    }
    const Locked locked(engine_.lock);
    if (worker.reader != Reader::kCaller || worker.asks) {
      hear_later(owned, News::kBlocked, {}, effects);
    }
  }
  for (const auto& each : effects.arm) {
    if (watch(static_cast<WorkerProcess&>(*each), true, false)) continue;
    cannot_watch(std::static_pointer_cast<WorkerProcess>(each));
  }
}

// ---- a blocked caller

// Reads until the answer is there, the worker has no more to say, or the deadline has passed and
// the caller has heard so.
void WorkerReading::read_for(CallRecord& record) {
  thread_local std::vector<WorkerMessage> messages;
  Effects& effects = effects_of_thread();
  auto [crew_worker, until] = record.to_read();
  const WorkerPtr worker = std::static_pointer_cast<WorkerProcess>(std::move(crew_worker));
  for (;;) {
    if (worker->channel.has_pending()) {
      // One that cannot be waited for is as good as broken: its answer will not come before the
      // rest of its call has gone out.
      const auto ready = os::wait_read_or_write(worker->channel.fd(), until - engine_.now());
      if (!ready || (ready->writable && worker->channel.flush() == Channel::Flushed::kBroken)) {
        engine_.post([this, worker] { handlers_.broken(worker); });
      }
      if (ready && !ready->readable && engine_.now() < until) continue;
    }
    messages.clear();
    const Channel::Received received = worker->channel.receive(until, messages);
    if (received == Channel::Received::kSome && messages.empty()) continue;
    prepare_asks(*worker, messages);
    bool released = false;
    {
      const Locked locked(engine_.lock);
      if (received != Channel::Received::kNothing) {
        take_all(worker, messages, received, &record, effects);
      } else if (engine_.now() >= until) {
        engine_.step(core::Tick{}, &record, effects);
        const bool done = (record.word.load(std::memory_order_relaxed) & CallRecord::kDone) != 0;
        if (done && record.reading == worker) leave_to_loop(record, effects);
        until = Time::max();  // calls.answer_at = end
      }
      released = (record.word.load(std::memory_order_relaxed) & CallRecord::kRead) == 0 ||
                 record.reading != worker;
      engine_.settle(effects);
    }
    engine_.perform(effects);
    if (released) return;
  }
}

// ---- the loop

bool WorkerReading::watch(const WorkerProcess& worker, bool read, bool write) {
  return epoll_.arm(worker.channel.fd(), token_of(worker.id), read, write).has_value();
}

void WorkerReading::cannot_watch(WorkerPtr worker) {
  engine_.post(
      [this, worker = std::move(worker)] { handlers_.ended(worker, "it cannot be watched"); });
}

void WorkerReading::arm(const WorkerPtr& worker, bool read, bool write) {
  if (!watch(*worker, read, write)) cannot_watch(worker);
}

void WorkerReading::flush(const WorkerPtr& worker) {
  const Channel::Flushed flushed = worker->channel.flush();
  if (flushed == Channel::Flushed::kBroken) return handlers_.broken(worker);
  if (flushed == Channel::Flushed::kAll) return;
  Reader reader;
  bool asks = false;
  {
    const Locked locked(engine_.lock);
    reader = worker->reader;
    asks = worker->asks;
  }
  // A caller that reads also waits for the room to write, but for what comes while it waits.
  if (reader != Reader::kCaller || asks) arm(worker, reader == Reader::kLoop, true);
}

void WorkerReading::sockets_ready() {
  std::array<os::EpollEvent, 64> events;
  const auto count = epoll_.ready(events);
  if (!count) return;
  for (std::size_t i = 0; i < *count; ++i) {
    WorkerPtr worker;
    bool ours = false;
    {
      const Locked locked(engine_.lock);
      worker = roster_.find(worker_of(events[i].token));
      ours = worker != nullptr && worker->reader == Reader::kLoop;
    }
    if (worker == nullptr) continue;
    if (ours) {
      read_as_loop(worker);
    } else if (events[i].writable) {
      flush(worker);
    }
  }
}

void WorkerReading::read_as_loop(const WorkerPtr& worker) {
  Effects& effects = effects_of_thread();
  std::vector<WorkerMessage> messages;
  for (int turn = 0; turn < kPacketsPerTurn; ++turn) {
    messages.clear();
    const Channel::Received received = worker->channel.receive(os::Wait::kNo, messages);
    if (received == Channel::Received::kNothing) break;
    if (received == Channel::Received::kSome && messages.empty()) continue;
    prepare_asks(*worker, messages);
    bool ours = false;
    {
      const Locked locked(engine_.lock);
      take_all(worker, messages, received, nullptr, effects);
      ours = worker->reader == Reader::kLoop;
      engine_.settle(effects);
    }
    engine_.perform(effects);
    if (!ours) break;
  }
  bool ours = false;
  {
    const Locked locked(engine_.lock);
    ours = worker->reader == Reader::kLoop;
  }
  if (!ours) return flush(worker);
  const bool blocked = worker->channel.flush() == Channel::Flushed::kBlocked;
  arm(worker, true, blocked);
}

// ---- what the workers say

void WorkerReading::prepare_asks(const WorkerProcess& worker,
                                 std::vector<WorkerMessage>& messages) {
  for (WorkerMessage& message : messages) {
    if (message.type != wire::Type::kNested) continue;
    engine_.calls_out().prepare(worker, CallId{message.call}, *message.ask);
  }
}

void WorkerReading::take_all(const WorkerPtr& worker, std::vector<WorkerMessage>& messages,
                             Channel::Received received, CallRecord* self, Effects& effects) {
  std::string violation;
  for (WorkerMessage& message : messages) {
    if (!violation.empty()) break;
    // Once the answer is in, the reading may be somebody else's already: whatever follows it in
    // the same packet breaks the protocol.
    if (worker->reader == Reader::kNobody ||
        (self == nullptr && worker->reader == Reader::kCaller)) {
      violation = fmt::format("{} after the answer", wire::to_string(message.type));
    } else if (message.type == wire::Type::kResult || message.type == wire::Type::kError ||
               message.type == wire::Type::kEnd) {
      const bool shared = worker->shared.row_of(CallId{message.call}) != 0;
      if (!take_answer(*worker, message, self, effects)) violation = "an answer to no call of its";
      if (violation.empty() && !shared) {
        if (&message != &messages.back()) violation = "more after the answer";
        break;
      }
    } else if (message.type == wire::Type::kItem) {
      const CallId call{message.call};
      if (!worker->runs(call)) {
        violation = "an item of no call of its";
      } else if (!engine_.item(worker->id, call, std::move(message.body), self, effects)) {
        violation = "an item for a caller that takes none";
      }
    } else if (message.ask != nullptr) {
      if (!take_ask(*worker, message, self, effects)) {
        violation = fmt::format("{} of no call of its", wire::to_string(message.type));
      }
    } else if (message.type == wire::Type::kSnapshot) {
      if (!take_snapshot(*worker, message, self, effects))
        violation = "a SNAPSHOT nobody asked for";
    } else if (message.type == wire::Type::kChecked) {
      if (!take_checked(*worker, message, self, effects)) violation = "a CHECKED nobody asked for";
    } else if (self != nullptr || !take_start(worker, message, effects)) {
      violation = fmt::format("{} at the wrong time", wire::to_string(message.type));
    }
  }
  if (received == Channel::Received::kViolation) violation = worker->channel.violation();
  if (violation.empty() && received != Channel::Received::kEnd) return;
  const bool ours = self != nullptr ? self->reading == worker : worker->reader == Reader::kLoop;
  if (ours) release(*worker, self);
  if (received == Channel::Received::kEnd) worker->drained = true;
  hear_later(worker, News::kDrained, std::move(violation), effects);
}

bool WorkerReading::take_answer(WorkerProcess& worker, WorkerMessage& message, CallRecord* self,
                                Effects& effects) {
  const CallId call{message.call};
  const bool shared = worker.running != call;
  const bool begun = worker.may_have_begun(call);
  const CallId batch = worker.batch;
  if (!worker.end(call)) return false;
  if (shared) {
    end_reading_between_calls(worker, self);
  } else {
    release(worker, self);
    worker.asks = false;
  }
  Reply reply;
  reply.worker = worker.id;
  reply.call = call;
  reply.answer.kind = reply_kind(message);
  reply.clean = !message.unclean;
  reply.interrupted = message.interrupted;
  reply.retire_reason = message.retire_reason;
  const bool ok = reply.answer.kind == core::ReplyKind::kOk;
  reply.started = ok || begun;
  if (ok && (!shared || batch)) worker.last_ok = (batch ? batch : call).value;
  if (message.state != nullptr) {
    WorkerState& state = *message.state;
    const bool taken = state.format != wire::StateFormat::kNone;
    reply.snapshot = taken ? core::Snapshot::kTaken : core::Snapshot::kFailed;
    if (taken) {
      worker.parked.push_back({call, 0, stored_format(state.format), std::move(state.bytes)});
    } else {
      reply.snapshot_error = state.bytes;
    }
  }
  if (message.type == wire::Type::kError) {
    reply.answer.python = std::move(message.error);
  } else {
    reply.answer.result = std::move(message.body);
    reply.answer.attachments = std::move(message.attachments);
    reply.attachment_bytes = message.attachment_bytes;
  }
  engine_.answered(reply, self, effects);
  if (reply.snapshot == core::Snapshot::kTaken) {
    static_cast<void>(worker.take_parked(call, 0));  // nobody wanted it
  }
  return true;
}

bool WorkerReading::take_ask(WorkerProcess& worker, WorkerMessage& message, CallRecord* self,
                             Effects& effects) {
  const CallId parent{message.call};
  if (!worker.runs(parent)) return false;
  if (message.type == wire::Type::kNestedCancel) {
    engine_.calls_out().cancel(worker, parent, message.ask->request, self, effects);
    return true;
  }
  worker.asks = worker.running == parent;
  engine_.calls_out().take(worker, parent, *message.ask, self, effects);
  return true;
}

bool WorkerReading::take_start(const WorkerPtr& worker, WorkerMessage& message, Effects& effects) {
  if (message.type == wire::Type::kConnect && worker->said == Step::kFork) {
    worker->said = Step::kConnect;
  } else if (message.type == wire::Type::kHello && worker->said == Step::kConnect) {
    worker->said = Step::kHello;
    hear_later(worker, News::kHello, std::move(message.body), effects);
  } else if (message.type == wire::Type::kReady && worker->said == Step::kHello) {
    worker->said = Step::kReady;
    release(*worker, nullptr);
    hear_later(worker, News::kReady, {}, effects);
  } else if (message.type == wire::Type::kStartFailed) {
    // On the loop thread (only callers come with a record), which owns these.
    const PythonError error = python_error_of(message.body);
    worker->start_step = step_of(message.body);
    worker->start_error = error.type + ": " + error.message;
    worker->traceback = error.traceback;
    // It exits by itself; one that does not is ended by its start timeout.
  } else {
    return false;
  }
  return true;
}

bool WorkerReading::take_snapshot(WorkerProcess& worker, WorkerMessage& message, CallRecord* self,
                                  Effects& effects) {
  if (worker.saves == 0) return false;
  WorkerState& state = *message.state;
  const bool taken = state.format != wire::StateFormat::kNone;
  if (taken)
    worker.parked.push_back(
        {CallId{}, state.birth, stored_format(state.format), std::move(state.bytes)});
  --worker.saves;
  end_reading_between_calls(worker, self);
  engine_.step(core::SessionSaved{worker.id, state.session, state.birth, taken,
                                  taken ? std::string_view{} : std::string_view{state.bytes}},
               self, effects);
  static_cast<void>(worker.take_parked(CallId{}, state.birth));  // nobody wanted it
  return true;
}

bool WorkerReading::take_checked(WorkerProcess& worker, const WorkerMessage& message,
                                 CallRecord* self, Effects& effects) {
  if (!worker.checking) return false;
  worker.checking = false;
  end_reading_between_calls(worker, self);
  engine_.step(core::WorkerChecked{worker.id, message.healthy, /*over=*/true, message.body}, self,
               effects);
  return true;
}

}  // namespace keelback::host
