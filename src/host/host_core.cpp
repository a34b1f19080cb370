// The core under its lock: events go in, actions are booked; then, after the lock, performed.
#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "base/check.h"
#include "base/overloaded.h"
#include "core/outcome_of.h"
#include "host/hello.h"
#include "host/host_impl.h"

namespace keelback::host {
namespace {

constexpr std::string_view kSilent =
    " Its control thread answered no ping: the GIL is held, or it is stopped.";

wire::SessionEnd wire_reason(core::SessionEndReason reason) {
  return static_cast<wire::SessionEnd>(reason);  // same values, see wire/messages.h
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

std::uint64_t bytes_of(const std::optional<PythonError>& error) {
  return error ? error->type.size() + error->message.size() + error->traceback.size() : 0;
}

}  // namespace

Effects& effects_of_thread() {
  thread_local Effects effects;
  return effects;
}

HostImpl::WorkerPtr HostImpl::find(WorkerId id) {
  const auto found = workers_.find(id);
  return found == workers_.end() ? nullptr : found->second;
}

CallRecord* HostImpl::find(CallId id) { return calls_.find(id.value); }

void HostImpl::step(const core::Event& event, CallRecord* self, Effects& effects) {
  effects.actions.clear();
  pool_.handle(now(), event, effects.actions);
  for (core::Action& action : effects.actions) apply(action, self, effects);
  if (!follow_ups_.empty()) follow_up(self, effects);
}

void HostImpl::follow_up(CallRecord* self, Effects& effects) {
  while (!follow_ups_.empty()) {
    const std::vector<core::Event> events = std::exchange(follow_ups_, {});
    for (const core::Event& event : events) {
      effects.actions.clear();
      pool_.handle(now(), event, effects.actions);
      for (core::Action& action : effects.actions) apply(action, self, effects);
    }
  }
}

void HostImpl::feed(const core::Event& event) {
  Effects& effects = effects_of_thread();
  {
    const Locked lock(lock_);
    step(event, nullptr, effects);
    settle(effects);
  }
  perform(effects);
}

void HostImpl::for_loop(InboxItem item, Effects& effects) {
  inbox_.push_back(std::move(item));
  if (!std::exchange(poked_, true)) effects.poke = true;
}

void HostImpl::apply(core::Action& any, CallRecord* self, Effects& effects) {
  // Annotated lambdas: the lock is held throughout.
  std::visit(
      Overloaded{
          [&](core::Dispatch& action) REQUIRES(host_state) { dispatch(action, self, effects); },
          [&](core::Resolve& action) REQUIRES(host_state) { resolve(action, self, effects); },
          [&](core::TellCaller& action) REQUIRES(host_state) { tell(action, self, effects); },
          [&](core::ReplayOutcome& action) REQUIRES(host_state) { replay(action, self, effects); },
          [&](core::ForgetOutcome& action)
              REQUIRES(host_state) { retained_.erase(action.call.value); },
          [&](core::StopWorker& action) REQUIRES(host_state) {
            if (const WorkerPtr worker = find(action.worker)) {
              std::string frame;
              wire::append_shutdown(frame);
              worker->stop_wanted = true;
              worker->channel.push(std::move(frame));
              effects.flush.push_back(worker);
            }
          },
          [&](core::EndSession& action) REQUIRES(host_state) {
            if (const WorkerPtr worker = find(action.worker)) {
              std::string frame;
              CHECK(wire::append_session_end(
                  frame, {action.birth, wire_reason(action.reason), action.session}));
              worker->channel.push(std::move(frame));
              effects.flush.push_back(worker);
            }
          },
          [&](core::SaveSession& action) REQUIRES(host_state) { save_session(action, effects); },
          [&](core::KeepSnapshot& action) REQUIRES(host_state) { keep_snapshot(action); },
          [&](core::DropSnapshot& action) REQUIRES(host_state) { drop_snapshot(action); },
          [&](auto&) REQUIRES(host_state) { for_loop(std::move(any), effects); },
      },
      any);
}

void HostImpl::dispatch(const core::Dispatch& action, CallRecord* self, Effects& effects) {
  CallRecord* record = find(action.call);
  const WorkerPtr worker = find(action.worker);
  if (UNEXPECTED(record == nullptr)) return;
  // The core looks at its timers before it hears an event: it may choose the very worker whose end
  // that event tells. It takes the call back in the same step.
  if (worker == nullptr) return;
  record->worker = worker;
  record->result.clear();
  record->result_attachments.clear();
  record->python.reset();
  record->dump_asked = false;
  record->dump_note.clear();
  record->deadline = action.deadline;
  worker->running = action.call;
  if (action.session && action.session->restore != 0) {
    // The loop reads its answer: the caller waits for the store and for the worker, here or there.
    worker->reader = Reader::kLoop;
    effects.arm.push_back(worker);
    return restore(action, worker, *record, effects);
  }
  encode(*record, action, effects.frame);
  effects.frame = worker->channel.push(record->id.value, std::move(effects.frame),
                                       record->large_payload, record->attachments);
  if (record->granted > 0) {
    std::string frame;
    wire::append_credit(frame, action.call.value, record->granted);
    worker->channel.push(std::move(frame));
  }
  effects.flush.push_back(worker);
  if (!record->blocking) {
    worker->reader = Reader::kLoop;
    effects.arm.push_back(worker);
    return;
  }
  CHECK(record->reading == nullptr);
  worker->reader = Reader::kCaller;
  record->reading = worker;
  if (record != self) effects.wake.push_back(&record->word);
  record->word.fetch_or(CallRecord::kRead, std::memory_order_release);
}

void HostImpl::resolve(core::Resolve& action, CallRecord* self, Effects& effects) {
  CallRecord* record = find(action.call);
  if (UNEXPECTED(record == nullptr)) return;
  calls_.erase(*record);
  Outcome& outcome = record->outcome;
  outcome = core::outcome_of(action);
  if (outcome.ok()) {
    outcome.payload = std::move(record->result);
    outcome.attachments = std::move(record->result_attachments);
  }
  if (record->python && !outcome.ok()) {
    if (outcome.kind == OutcomeKind::kError || outcome.kind == OutcomeKind::kBadRequest) {
      outcome.message = record->python->type.empty()
                            ? record->python->message
                            : record->python->type + ": " + record->python->message;
    }
    outcome.python = std::move(record->python);
  }
  const bool silent = outcome.kind == OutcomeKind::kTimeout && record->worker != nullptr &&
                      record->worker->pinged == action.call.value &&
                      record->worker->ponged != action.call.value;
  if (silent) outcome.message += kSilent;
  if (record->dump_asked && record->worker != nullptr) {
    outcome.dump = record->dump_note;
    if (outcome.dump.empty()) outcome.dump = record->worker->marks.dump(record->dump_from);
    if (outcome.dump.empty()) outcome.dump = "unavailable: no answer";
    if (silent && record->told) outcome.dump.insert(0, std::string(kSilent.substr(1)) + "\n");
  }
  if (action.retain) retained_.insert_or_assign(action.call.value, outcome);
  if (record->told) return end_told(*record, action, effects);
  complete(*record, self, effects);
}

// The caller hears at its deadline. What the call still needs moves to a record of its own, because
// the caller's may be gone at any moment from here on.
void HostImpl::tell(core::TellCaller& action, CallRecord* self, Effects& effects) {
  CallRecord* record = find(action.answer.call);
  if (UNEXPECTED(record == nullptr)) return;
  Call call;
  call.function = record->call.function;
  call.session = record->call.session;
  call.idempotency_key = record->call.idempotency_key;
  auto late = std::make_unique<CallRecord>(record->id, std::move(call));
  late->told = true;
  late->fingerprint = record->fingerprint;
  late->attachments = record->attachments;
  late->quick_print = record->quick_print;
  late->streaming = record->streaming;
  late->worker = record->worker;
  // Its answer, if that is there and waits for the store.
  late->reply = record->reply;
  late->result = std::move(record->result);
  late->result_attachments = std::move(record->result_attachments);
  late->python = std::move(record->python);
  calls_.erase(*record);
  record->outcome = core::outcome_of(action.answer);
  record->worker.reset();
  calls_.insert(*late.release());
  if (!record->blocking) {
    return for_loop(Completion{std::unique_ptr<CallRecord>(record)}, effects);
  }
  // A caller that reads wakes at its deadline too, and leaves the reading to the loop.
  if (record != self) effects.wake.push_back(&record->word);
  record->word.fetch_or(CallRecord::kDone, std::memory_order_release);
}

// The call of a caller who has heard is over.
void HostImpl::end_told(CallRecord& record, core::Resolve& action, Effects& effects) {
  const std::unique_ptr<CallRecord> owned(&record);
  if (owned->outcome.dump.empty()) return;
  for_loop(core::Action(core::Notice{
               core::Notice::Level::kWarn,
               fmt::format("Call {} of function \"{}\" ran past its deadline; its stacks:\n{}",
                           action.call.value, owned->call.function, owned->outcome.dump)}),
           effects);
  late_dumps_.add(now(), action.call, std::move(owned->outcome.dump));
}

// A call that ends as an earlier one did: same idempotency key, same body.
void HostImpl::replay(const core::ReplayOutcome& action, CallRecord* self, Effects& effects) {
  CallRecord* record = find(action.call);
  if (UNEXPECTED(record == nullptr)) return;
  calls_.erase(*record);
  const auto found = retained_.find(action.of.value);
  if (!UNEXPECTED(found == retained_.end())) record->outcome = found->second;
  record->outcome.kind = action.kind;
  record->outcome.effect = action.effect;
  complete(*record, self, effects);
}

// The record's outcome is there and the call table has forgotten it.
void HostImpl::complete(CallRecord& record, CallRecord* self, Effects& effects) {
  record.worker.reset();
  if (!record.blocking) {
    return for_loop(Completion{std::unique_ptr<CallRecord>(&record)}, effects);
  }
  // Resolved before its answer: the caller is in recv and must find the end there.
  if (record.reading != nullptr) record.reading->channel.shutdown_reading();
  if (&record != self) effects.wake.push_back(&record.word);
  record.word.fetch_or(CallRecord::kDone, std::memory_order_release);
}

void HostImpl::release_reading(WorkerProcess& worker, CallRecord* self) {
  if (worker.reader == Reader::kCaller) {
    CHECK(self != nullptr && self->reading.get() == &worker);
    self->reading.reset();
    self->word.fetch_and(~CallRecord::kRead, std::memory_order_relaxed);
  }
  worker.reader = Reader::kNobody;
}

void HostImpl::leave_to_loop(CallRecord& self, Effects& effects) {
  const WorkerPtr worker = self.reading;
  release_reading(*worker, &self);
  worker->reader = Reader::kLoop;
  effects.arm.push_back(worker);
  if (worker->channel.has_pending()) for_loop(Blocked{worker}, effects);
}

void HostImpl::take_all(const WorkerPtr& worker, std::vector<WorkerMessage>& messages,
                        Channel::Received received, CallRecord* self, Effects& effects) {
  std::string violation;
  for (WorkerMessage& message : messages) {
    if (!violation.empty()) break;
    // Once the answer is in, the reading may be somebody else's already: whatever follows it in
    // the same packet breaks the protocol.
    if (worker->reader == Reader::kNobody) {
      violation = fmt::format("{} after the answer", wire::to_string(message.type));
    } else if (message.type == wire::Type::kResult || message.type == wire::Type::kError ||
               message.type == wire::Type::kEnd) {
      if (!take_answer(*worker, message, self, effects)) violation = "an answer to no call of its";
      if (violation.empty()) {
        if (&message != &messages.back()) violation = "more after the answer";
        break;
      }
    } else if (message.type == wire::Type::kItem) {
      CallRecord* record = find(CallId{message.call});
      if (worker->running.value != message.call) {
        violation = "an item of no call of its";
      } else if (record != nullptr && !record->streaming) {
        violation = "an item for a caller that takes none";
      } else if (record != nullptr && !record->told) {
        for_loop(Item{record, std::move(message.body)}, effects);
        step(core::StreamMoved{worker->id, CallId{message.call}}, self, effects);
      }
    } else if (message.type == wire::Type::kSnapshot) {
      if (!take_snapshot(worker, message, self, effects)) violation = "a SNAPSHOT nobody asked for";
    } else if (message.type == wire::Type::kChecked) {
      if (!take_checked(*worker, message, self, effects)) violation = "a CHECKED nobody asked for";
    } else if (self != nullptr || !take_start(worker, message, effects)) {
      violation = fmt::format("{} at the wrong time", wire::to_string(message.type));
    }
  }
  if (received == Channel::Received::kViolation) violation = worker->channel.violation();
  if (violation.empty() && received != Channel::Received::kEnd) return;
  const bool ours = self != nullptr ? self->reading == worker : worker->reader == Reader::kLoop;
  if (ours) release_reading(*worker, self);
  if (received == Channel::Received::kEnd) worker->drained = true;
  for_loop(Drained{worker, std::move(violation)}, effects);
}

bool HostImpl::take_answer(WorkerProcess& worker, WorkerMessage& message, CallRecord* self,
                           Effects& effects) {
  const CallId call{message.call};
  if (!call || worker.running != call) return false;
  worker.running = {};
  release_reading(worker, self);
  core::ReplyKind kind = reply_kind(message);
  if (kind == core::ReplyKind::kOk) worker.last_ok = call.value;
  std::uint64_t held_bytes = 0;
  core::Snapshot snapshot = core::Snapshot::kNone;
  if (message.state != nullptr) {
    const bool taken = message.state->format != wire::StateFormat::kNone;
    snapshot = taken ? core::Snapshot::kTaken : core::Snapshot::kFailed;
    if (taken) {
      worker.parked.push_back({call, 0, message.state->format, std::move(message.state->bytes)});
    }
  }
  if (CallRecord* record = find(call)) {  // else its outcome was due before
    if (message.type == wire::Type::kError) {
      record->python = std::move(message.error);
      held_bytes = bytes_of(record->python);
    } else if (message.body.size() > payload_max_) {
      kind = core::ReplyKind::kError;
      record->python =
          PythonError{.type = "keelback.ResultTooLarge",
                      .message = fmt::format("the result has {} bytes; calls.payload_max allows {}",
                                             message.body.size(), payload_max_)};
    } else if (message.attachment_bytes > attached_max_) {
      kind = core::ReplyKind::kError;
      record->python =
          PythonError{.type = "keelback.ResultTooLarge",
                      .message = fmt::format(
                          "the result's attachments have {} bytes; attachments.max allows {}",
                          message.attachment_bytes, attached_max_)};
    } else {
      held_bytes = message.body.size() + message.attachment_bytes;
      record->result_attachments = std::move(message.attachments);
      record->result = std::move(message.body);
    }
    record->reply = kind;
  }
  step(
      core::WorkerReplied{
          worker.id, call, kind, !message.unclean, message.interrupted, held_bytes, snapshot,
          message.state ? std::string_view{message.state->bytes} : std::string_view{},
          message.retire_reason},
      self, effects);
  if (snapshot == core::Snapshot::kTaken) {
    static_cast<void>(worker.take_parked(call, 0));  // nobody wanted it
  }
  return true;
}

bool HostImpl::take_start(const WorkerPtr& worker, WorkerMessage& message, Effects& effects) {
  using Step = WorkerProcess::Step;
  if (message.type == wire::Type::kConnect && worker->said == Step::kFork) {
    worker->said = Step::kConnect;
  } else if (message.type == wire::Type::kHello && worker->said == Step::kConnect) {
    worker->said = Step::kHello;
    for_loop(Hello{worker, std::move(message.body)}, effects);
  } else if (message.type == wire::Type::kReady && worker->said == Step::kHello) {
    worker->said = Step::kReady;
    release_reading(*worker, nullptr);
    for_loop(Ready{worker}, effects);
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

void HostImpl::settle(Effects& effects) {
  const auto next = pool_.next_deadline();
  if (!next || *next >= timer_at_) return;
  timer_at_ = *next;
  timer_wanted_ = true;
  if (!std::exchange(poked_, true)) effects.poke = true;
}

void HostImpl::perform(Effects& effects) {
  for (const WorkerPtr& worker : effects.flush) {
    const Channel::Flushed flushed = worker->channel.flush();
    if (flushed == Channel::Flushed::kAll) continue;
    if (flushed == Channel::Flushed::kBroken) {
      boost::asio::post(loop_, alive_.guard([this, worker] { kill_if_it_lives(worker); }));
      continue;
    }
    const Locked lock(lock_);
    if (worker->reader != Reader::kCaller) for_loop(Blocked{worker}, effects);
  }
  for (const WorkerPtr& worker : effects.arm) arm(worker, true, false);
  for (const std::atomic<std::uint32_t>* word : effects.wake) os::futex_wake(word);
  if (effects.poke) boost::asio::post(loop_, alive_.guard([this] { empty_inbox(); }));
  effects.flush.clear();
  effects.arm.clear();
  effects.wake.clear();
  effects.poke = false;
}

void HostImpl::announce(const std::string& hello_json) {
  const auto application = application_of_hello(hello_json);
  if (!application) return log(core::Notice::Level::kError, "a HELLO that says nothing");
  {
    const Locked lock(lock_);
    application_ = {true, hello_json};
  }
  feed(*application);
}

}  // namespace keelback::host
