#include "host/call_book.h"

#include <fmt/format.h>

#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "host/engine.h"

namespace keelback::host {

CallBook::CallBook(Engine& engine, const Settings& settings) : engine_(engine) {
  const Locked locked(engine.lock);
  limit(settings);
}

void CallBook::limit(const Settings& settings) {
  payload_max_ = settings.calls.payload_max.count;
  attached_max_ = settings.attachments.max.count;
}

// What the record holds of the answer, in bytes. An answer that is too large becomes an error.
std::uint64_t CallBook::take_answer(Reply& reply) {
  CallRecord* record = table_.find(reply.call);
  if (record == nullptr) return 0;  // its outcome was due before
  std::uint64_t held_bytes = 0;
  const auto too_large = [&](std::string text) {
    reply.answer = core::Answer{
        .kind = core::ReplyKind::kError,
        .python = PythonError{.type = "keelback.ResultTooLarge", .message = std::move(text)}};
  };
  const std::size_t bytes = reply.answer.result.size();
  if (reply.answer.python) {
    held_bytes = core::bytes_of(reply.answer.python);
  } else if (bytes > payload_max_) {
    too_large(
        fmt::format("the result has {} bytes; calls.payload_max allows {}", bytes, payload_max_));
  } else if (reply.attachment_bytes > attached_max_) {
    too_large(fmt::format("the result's attachments have {} bytes; attachments.max allows {}",
                          reply.attachment_bytes, attached_max_));
  } else {
    held_bytes = bytes + reply.attachment_bytes;
  }
  record->answer = std::move(reply.answer);
  reply.answer.kind = record->answer.kind;
  return held_bytes;
}

// ---- how calls end

void CallBook::resolve(core::Resolve& action, CallRecord* self, Effects& effects) {
  CallRecord* record = table_.take(action.call);
  if (record == nullptr) return;
  record->outcome = core::outcome_of(action, record->answer);
  if (record->worker != nullptr) engine_.crew().add_evidence(*record, record->outcome);
  if (action.retain) table_.retain(action.call, record->outcome);
  if (record->told) return end_told(*record, action, effects);
  complete(*record, self, effects);
}

// The caller hears at its deadline. What the call still needs moves to a record of its own, because
// the caller's may be gone at any moment from here on.
void CallBook::tell(core::TellCaller& action, CallRecord* self, Effects& effects) {
  CallRecord* record = table_.take(action.answer.call);
  if (record == nullptr) return;
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
  late->alone = record->alone;
  late->batched = record->batched;
  late->stopping = record->stopping;
  late->worker = std::move(record->worker);
  late->answer = std::move(record->answer);  // if that is there and waits for the store
  record->outcome = core::outcome_of(action.answer);
  if (!action.if_never_started.empty() && engine_.crew().never_starts(*late)) {
    record->outcome.effect = Effect::kNone;
    record->outcome.message = std::move(action.if_never_started);
  }
  table_.insert(*late.release());
  if (!record->blocking) {
    return engine_.for_loop(Engine::Completion{std::unique_ptr<CallRecord>(record)}, effects);
  }
  // A caller that reads wakes at its deadline too, and leaves the reading to the loop.
  if (record != self) effects.wake.push_back(&record->word);
  record->word.fetch_or(CallRecord::kDone, std::memory_order_release);
}

// The call of a caller who has heard is over.
void CallBook::end_told(CallRecord& record, core::Resolve& action, Effects& effects) {
  const std::unique_ptr<CallRecord> owned(&record);
  if (owned->outcome.dump.empty()) return;
  engine_.for_loop(
      core::Action(core::Notice{
          core::Notice::Level::kWarn,
          fmt::format("Call {} of function \"{}\" ran past its deadline; its stacks:\n{}",
                      action.call.value, owned->call.function, owned->outcome.dump)}),
      effects);
  table_.late_dumps.add(Engine::now(), action.call, std::move(owned->outcome.dump));
}

// A call that ends as an earlier one did: same idempotency key, same body.
void CallBook::replay(const core::ReplayOutcome& action, CallRecord* self, Effects& effects) {
  CallRecord* record = table_.take(action.call);
  if (record == nullptr) return;
  record->outcome = table_.replay(action);
  complete(*record, self, effects);
}

// The record's outcome is there and the call table has forgotten it.
void CallBook::complete(CallRecord& record, CallRecord* self, Effects& effects) {
  record.worker.reset();
  if (!record.blocking) {
    return engine_.for_loop(Engine::Completion{std::unique_ptr<CallRecord>(&record)}, effects);
  }
  if (record.reading != nullptr) engine_.crew().end_reading(record);
  if (&record != self) effects.wake.push_back(&record.word);
  record.word.fetch_or(CallRecord::kDone, std::memory_order_release);
}

// A worker that does not die may have kept calls from ending.
void CallBook::end_remaining() {
  std::vector<CallRecord*> left;
  {
    const Locked locked(engine_.lock);
    table_.each([&](CallRecord& record) { left.push_back(&record); });
    for (const CallRecord* record : left) table_.erase(*record);
  }
  for (CallRecord* record : left) {
    CHECK(!record->blocking);  // a driver outlives the calls it was given
    const std::unique_ptr<CallRecord> owned(record);
    {
      const Locked locked(engine_.lock);
      if (owned->told) continue;
      owned->outcome.effect = owned->worker ? Effect::kMaybe : Effect::kNone;
    }
    owned->outcome.kind = OutcomeKind::kShuttingDown;
    owned->outcome.message = "The pool was stopped.";
    owned->done(std::move(owned->outcome));
  }
}

// ---- requests that kill

std::uint64_t CallBook::print_of_victim(CallId call) {
  std::shared_ptr<const Attachments> attachments;
  std::uint64_t quick = 0;
  {
    const Locked locked(engine_.lock);
    const CallRecord* record = call ? table_.find(call) : nullptr;
    if (record == nullptr || record->attachments == nullptr) return 0;
    attachments = record->attachments;
    quick = record->quick_print;
    suspects_.add(quick);
  }
  return full_print(quick, *attachments);
}

}  // namespace keelback::host
