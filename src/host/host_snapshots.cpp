// Between the core, which decides about snapshots, the workers, who make them, and the store.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "host/environment.h"
#include "host/host_impl.h"
#include "store/memory_store.h"

namespace keelback::host {
namespace {

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// A clock that was set back in between makes nothing younger than new.
Duration since(std::int64_t then_ms, std::int64_t now_ms) {
  return std::chrono::milliseconds(std::max<std::int64_t>(now_ms - then_ms, 0));
}

}  // namespace

std::shared_ptr<store::Store> HostImpl::make_store() {
  if (config_.store) return config_.store;
  return std::make_shared<store::MemoryStore>(
      config_.settings.sessions.store_max.count,
      [logger = logger_](bool warn, const std::string& text) {
        logger->log(warn ? spdlog::level::warn : spdlog::level::info, "{}", text);
      });
}

// Before the loop runs: the sessions that an earlier run has left come before every call.
void HostImpl::take_found_sessions() {
  std::vector<store::Record> records = store_->take_found();
  std::vector<std::string> lost = store_->take_lost();
  if (records.empty() && lost.empty()) return;
  const std::int64_t now_ms = unix_ms();
  Effects& effects = effects_of_thread();
  core::SessionsFound found;
  found.lost = std::move(lost);
  {
    const Locked lock(lock_);
    for (store::Record& record : records) {
      core::FoundSession session;
      session.id = std::move(record.session);
      session.birth = record.birth;
      session.epoch = record.epoch;
      session.number = record.number;
      session.mode = record.mode;
      session.age = since(record.opened_ms, now_ms);
      session.idle = since(record.used_ms, now_ms);
      if (store::Answer& answer = record.answer; !answer.key.empty()) {
        session.key = std::move(answer.key);
        session.fingerprint = answer.fingerprint;
        session.answered = CallId{++last_call_};
        session.kind = answer.kind;
        session.answer_bytes = answer.payload.size() + answer.type.size() + answer.message.size() +
                               answer.traceback.size();
        Outcome& outcome = retained_[session.answered.value];
        outcome.kind = answer.kind;
        outcome.effect = Effect::kDone;
        outcome.birth = record.birth;
        outcome.epoch = record.epoch;
        outcome.payload = std::move(answer.payload);
        if (!outcome.ok()) {
          outcome.message = answer.type + ": " + answer.message;
          outcome.python = PythonError{std::move(answer.type), std::move(answer.message),
                                       std::move(answer.traceback)};
        }
      }
      found.sessions.push_back(std::move(session));
    }
    step(found, nullptr, effects);
    settle(effects);
  }
  perform(effects);
}

// ---- what the core asks for

void HostImpl::save_session(const core::SaveSession& action, Effects& effects) {
  const WorkerPtr worker = find(action.worker);
  if (UNEXPECTED(worker == nullptr)) return;
  std::string frame;
  CHECK(wire::append_save(frame, {action.birth, action.epoch, action.session}));
  worker->channel.push(std::move(frame));
  effects.flush.push_back(worker);
  ++worker->saves;
  read_between_calls(worker, effects);
}

// The loop reads what an idle worker has to say.
void HostImpl::read_between_calls(const WorkerPtr& worker, Effects& effects) {
  // Somebody reads already; of one that is dead, to its end.
  if (worker->reader != Reader::kNobody) return;
  worker->reader = Reader::kLoop;
  effects.arm.push_back(worker);
}

void HostImpl::keep_snapshot(const core::KeepSnapshot& action) {
  core::SnapshotSettled settled{.worker = action.call ? WorkerId{} : action.worker,
                                .call = action.call,
                                .session = action.session,
                                .birth = action.birth,
                                .number = action.number};
  const WorkerPtr worker = find(action.worker);
  std::optional<ParkedState> parked;
  if (worker != nullptr) parked = worker->take_parked(action.call, action.birth);
  if (UNEXPECTED(!parked)) {
    settled.failed = true;
    follow_ups_.emplace_back(std::move(settled));
    return;
  }
  store::Record record;
  record.session = action.session;
  record.birth = action.birth;
  record.epoch = action.epoch;
  record.number = action.number;
  record.mode = action.mode;
  record.used_ms = unix_ms();
  record.opened_ms =
      record.used_ms - std::chrono::duration_cast<std::chrono::milliseconds>(action.age).count();
  record.snapshot.format = static_cast<store::Format>(parked->format);
  record.snapshot.state = std::make_shared<const std::string>(std::move(parked->state));
  if (CallRecord* call = find(action.call);
      call != nullptr && !call->call.idempotency_key.empty()) {
    const bool failed = call->reply == core::ReplyKind::kError;
    const bool answered = failed || call->reply == core::ReplyKind::kOk;
    if (answered) record.answer.key = call->call.idempotency_key;
    record.answer.fingerprint = call->fingerprint;
    record.answer.kind = failed ? OutcomeKind::kError : OutcomeKind::kOk;
    record.answer.payload = call->result;
    if (call->python) {
      record.answer.type = call->python->type;
      record.answer.message = call->python->message;
      record.answer.traceback = call->python->traceback;
    }
    // Attachments are not written down. Who asks again after a restart hears that it has run: no
    // half of an answer, and not the work twice.
    if (!call->result_attachments.empty()) {
      record.answer.kind = OutcomeKind::kError;
      record.answer.payload.clear();
      record.answer.type = "keelback.AnswerNotKept";
      record.answer.message =
          "the call was answered before the supervisor restarted, with attachments, which the "
          "store does not keep";
    }
  }
  const auto kept = store_->keep(std::move(record), [this, settled](bool done) mutable {
    settled.kept = done;
    settled.failed = !done;
    feed(settled);
  });
  if (!kept) return;
  settled.kept = *kept;
  settled.failed = !*kept;
  follow_ups_.emplace_back(std::move(settled));
}

void HostImpl::drop_snapshot(const core::DropSnapshot& action) {
  core::SnapshotSettled settled{.call = action.call,
                                .session = action.session,
                                .birth = action.birth,
                                .number = action.number};
  const bool awaited = action.number != 0;
  const auto dropped =
      store_->drop(action.session, action.birth, [this, settled, awaited](bool done) mutable {
        if (!awaited) return;
        settled.failed = !done;
        feed(settled);
      });
  if (!dropped || !awaited) return;
  settled.failed = !*dropped;
  follow_ups_.emplace_back(std::move(settled));
}

// A call whose session is restored first: it is sent behind its state, when that is there.
void HostImpl::restore(const core::Dispatch& action, const WorkerPtr& worker,
                       const CallRecord& record, Effects& effects) {
  const core::SessionTicket& ticket = *action.session;
  std::string frame;
  encode(record, action, frame);
  worker->unsent = std::make_unique<UnsentCall>(
      UnsentCall{std::move(frame), record.large_payload, record.attachments});
  auto fetched = store_->fetch(ticket.id, ticket.birth, ticket.restore,
                               [this, worker, call = action.call](store::Fetched later) {
                                 Effects& own = effects_of_thread();
                                 {
                                   const Locked lock(lock_);
                                   send_restored(worker, call, later, own);
                                   follow_up(nullptr, own);
                                   settle(own);
                                 }
                                 perform(own);
                               });
  if (fetched) send_restored(worker, action.call, *fetched, effects);
}

void HostImpl::send_restored(const WorkerPtr& worker, CallId call, const store::Fetched& fetched,
                             Effects& effects) {
  if (worker->running != call || worker->unsent == nullptr) return;  // given up meanwhile
  if (find(worker->id) != worker) return;                            // or its worker has died
  if (!fetched.snapshot) return give_up_restore(*worker, call, fetched.gone);
  const auto unsent = std::move(worker->unsent);
  std::string head;
  wire::append_restore_head(head, call.value,
                            static_cast<wire::StateFormat>(fetched.snapshot->format),
                            fetched.snapshot->state->size());
  worker->channel.push(std::move(head), fetched.snapshot->state);
  worker->channel.push(call.value, std::move(unsent->frame), std::move(unsent->payload),
                       std::move(unsent->attachments));
  if (const CallRecord* record = find(call); record != nullptr && record->granted > 0) {
    std::string frame;
    wire::append_credit(frame, call.value, record->granted);
    worker->channel.push(std::move(frame));
  }
  effects.flush.push_back(worker);
}

// The worker has heard nothing of the call.
void HostImpl::give_up_restore(WorkerProcess& worker, CallId call, bool gone) {
  worker.unsent.reset();
  worker.running = {};
  worker.reader = Reader::kNobody;
  follow_ups_.emplace_back(core::RestoreFailed{worker.id, call, gone});
}

// ---- what the workers say

void HostImpl::end_reading_between_calls(WorkerProcess& worker, CallRecord* self) {
  if (worker.saves == 0 && !worker.checking) release_reading(worker, self);
}

bool HostImpl::take_snapshot(const WorkerPtr& worker, WorkerMessage& message, CallRecord* self,
                             Effects& effects) {
  if (worker->saves == 0) return false;
  WorkerState& state = *message.state;
  const bool taken = state.format != wire::StateFormat::kNone;
  if (taken)
    worker->parked.push_back({CallId{}, state.birth, state.format, std::move(state.bytes)});
  --worker->saves;
  end_reading_between_calls(*worker, self);
  step(core::SessionSaved{worker->id, state.session, state.birth, taken,
                          taken ? std::string_view{} : std::string_view{state.bytes}},
       self, effects);
  static_cast<void>(worker->take_parked(CallId{}, state.birth));  // nobody wanted it
  return true;
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

}  // namespace keelback::host
