#include "host/snapshot_keeper.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "host/engine.h"
#include "os/clock.h"
#include "store/store.h"

namespace keelback::host {
namespace {

// A clock that was set back in between makes nothing younger than new.
Duration since(std::int64_t then_ms, std::int64_t now_ms) {
  return std::chrono::milliseconds(std::max<std::int64_t>(now_ms - then_ms, 0));
}

// The last answer of a session that an earlier run has left: the engine replays it.
Outcome outcome_of(store::Record& record) {
  store::Answer& answer = record.answer;
  Outcome outcome;
  outcome.kind = answer.kind;
  outcome.effect = Effect::kDone;
  outcome.birth = record.birth;
  outcome.epoch = record.epoch;
  outcome.payload = std::move(answer.payload);
  if (!outcome.ok()) {
    outcome.message = answer.type + ": " + answer.message;
    outcome.python =
        PythonError{std::move(answer.type), std::move(answer.message), std::move(answer.traceback)};
  }
  return outcome;
}

store::Answer answer_of(const CallRecord& call) REQUIRES(host_state) {
  store::Answer kept;
  const core::Answer& answer = call.answer;
  const bool failed = answer.kind == core::ReplyKind::kError;
  const bool answered = failed || answer.kind == core::ReplyKind::kOk;
  if (answered) kept.key = call.call.idempotency_key;
  kept.fingerprint = call.fingerprint;
  kept.kind = failed ? OutcomeKind::kError : OutcomeKind::kOk;
  kept.payload = answer.result;
  if (answer.python) {
    kept.type = answer.python->type;
    kept.message = answer.python->message;
    kept.traceback = answer.python->traceback;
  }
  // Attachments are not written down. Who asks again after a restart hears that it has run: no half
  // of an answer, and not the work twice.
  if (!answer.attachments.empty()) {
    kept.kind = OutcomeKind::kError;
    kept.payload.clear();
    kept.type = "keelback.AnswerNotKept";
    kept.message =
        "the call was answered before the supervisor restarted, with attachments, which the "
        "store does not keep";
  }
  return kept;
}

}  // namespace

// Before the first call: the sessions that an earlier run has left come before every call.
void SnapshotKeeper::take_found_sessions() {
  std::vector<store::Record> records = engine_.store().take_found();
  std::vector<std::string> lost = engine_.store().take_lost();
  if (records.empty() && lost.empty()) return;
  const std::int64_t now_ms = os::unix_ms();
  Effects& effects = effects_of_thread();
  core::SessionsFound event;
  event.lost = std::move(lost);
  {
    const Locked locked(engine_.lock);
    for (store::Record& record : records) event.sessions.push_back(found(record, now_ms));
    engine_.step(event, nullptr, effects);
    engine_.settle(effects);
  }
  engine_.perform(effects);
}

core::FoundSession SnapshotKeeper::found(store::Record& record, std::int64_t now_ms) {
  core::FoundSession session;
  session.id = std::move(record.session);
  session.birth = record.birth;
  session.epoch = record.epoch;
  session.number = record.number;
  session.mode = record.mode;
  session.age = since(record.opened_ms, now_ms);
  session.idle = since(record.used_ms, now_ms);
  store::Answer& answer = record.answer;
  if (answer.key.empty()) return session;
  session.key = std::move(answer.key);
  session.fingerprint = answer.fingerprint;
  session.answered = engine_.next_call();
  session.kind = answer.kind;
  session.answer_bytes =
      answer.payload.size() + answer.type.size() + answer.message.size() + answer.traceback.size();
  engine_.calls().table().retain(session.answered, outcome_of(record));
  return session;
}

bool SnapshotKeeper::adopt(store::Record record) {
  Effects& effects = effects_of_thread();
  bool adopted = false;
  {
    const Locked locked(engine_.lock);
    const std::uint64_t refused = engine_.pool().stats(Engine::now()).sessions.evicted;
    core::SessionsFound event;
    event.sessions.push_back(found(record, os::unix_ms()));
    event.sessions.back().watched = true;
    engine_.step(event, nullptr, effects);
    engine_.settle(effects);
    adopted = engine_.pool().stats(Engine::now()).sessions.evicted == refused;
  }
  engine_.perform(effects);
  return adopted;
}

void SnapshotKeeper::keep(const core::KeepSnapshot& action, Crew& crew) {
  core::SnapshotSettled settled{.worker = action.call ? WorkerId{} : action.worker,
                                .call = action.call,
                                .session = action.session,
                                .birth = action.birth,
                                .number = action.number};
  auto parked = crew.take_parked(action.worker, action.call, action.birth);
  if (UNEXPECTED(!parked)) {
    settled.failed = true;
    engine_.owe(std::move(settled));
    return;
  }
  store::Record record;
  record.session = action.session;
  record.birth = action.birth;
  record.epoch = action.epoch;
  record.number = action.number;
  record.mode = action.mode;
  record.used_ms = os::unix_ms();
  record.opened_ms =
      record.used_ms - std::chrono::duration_cast<std::chrono::milliseconds>(action.age).count();
  record.snapshot.format = parked->format;
  record.snapshot.state = std::make_shared<const std::string>(std::move(parked->state));
  const CallRecord* call = engine_.calls().find(action.call);
  if (call != nullptr && !call->call.idempotency_key.empty()) record.answer = answer_of(*call);
  const auto kept = engine_.store().keep(std::move(record), [this, settled](bool done) mutable {
    settled.kept = done;
    settled.failed = !done;
    engine_.feed(settled);
  });
  if (!kept) return;
  settled.kept = *kept;
  settled.failed = !*kept;
  engine_.owe(std::move(settled));
}

void SnapshotKeeper::drop(const core::DropSnapshot& action) {
  core::SnapshotSettled settled{.call = action.call,
                                .session = action.session,
                                .birth = action.birth,
                                .number = action.number};
  const bool awaited = action.number != 0;
  const auto dropped = engine_.store().drop(action.session, action.birth,
                                            [this, settled, awaited](bool done) mutable {
                                              if (!awaited) return;
                                              settled.failed = !done;
                                              engine_.feed(settled);
                                            });
  if (!dropped || !awaited) return;
  settled.failed = !*dropped;
  engine_.owe(std::move(settled));
}

}  // namespace keelback::host
