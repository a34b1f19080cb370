#include "core/snapshots.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "core/calls.h"
#include "core/keys.h"
#include "core/sessions.h"
#include "core/waiting.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

// Sessions whose state a draining worker is asked for before it has answered.
constexpr std::uint32_t kSavesAtOnce = 64;

}  // namespace

bool Snapshots::save_first(Call& call, const WorkerReplied& event, bool broken_off) {
  Session& session = *call.session;
  if (event.snapshot == Snapshot::kNone && !book_.knows(session.birth)) return false;
  if (session.detached) return false;  // it ends with this call
  // The state that an interrupt left is not acknowledged: the last acknowledged one moves.
  if (broken_off && session.saved && event.snapshot != Snapshot::kNone) return false;
  const std::uint64_t number = book_.begin(session.birth);
  sessions_.table().set_saved(session, false);
  if (event.snapshot == Snapshot::kTaken) {
    sessions_.table().set_asking(session, Asking::kNot);
    keep(session, event.worker, call.id, number);
  } else {
    if (event.snapshot == Snapshot::kFailed) note_unsavable(session, event.snapshot_error);
    frame_.emit(DropSnapshot{call.id, session.id, session.birth, number});
  }
  return true;
}

void Snapshots::hold(Call& call, const WorkerReplied& event) {
  call.state = Call::Saving{{event.kind, event.result_bytes, event.started}};
  call.session->lane->running = &call;
  frame_.timers.arm(call, call.told ? frame_.now + store_patience() : call.deadline);
}

void Snapshots::end_saving(Call& call, Ending&& ending) {
  Session* session = call.session;
  frame_.timers.disarm(call);
  session->lane->running = nullptr;
  calls_.resolve(call, std::move(ending), std::get<Call::Saving>(call.state).reply.bytes);
  sessions_.settle_homeless(*session);
}

void Snapshots::due(Call& call) {
  const bool tell_now = !call.told && frame_.settings.calls.answer_at == AnswerAt::kDeadline;
  const bool done = std::get<Call::Saving>(call.state).reply.kind != ReplyKind::kCancelled;
  Ending ending = calls_.timeout_ending(call, tell_now || !done ? Effect::kMaybe : Effect::kDone);
  ending.breaker = Breaker::Result::kNeutral;
  ending.message =
      fmt::format("The call was {}, but the deadline passed before its session's state was stored.",
                  done ? "done" : "cancelled while it ran");
  if (!tell_now) return end_saving(call, std::move(ending));
  calls_.tell(call, std::move(ending));
  frame_.timers.arm(call, frame_.now + store_patience());
}

// How long a call that nobody waits for any more waits for the store.
Duration Snapshots::store_patience() const {
  return std::max<Duration>(frame_.settings.calls.grace, std::chrono::seconds(1));
}

void Snapshots::on(const SnapshotSettled& event) {
  Session* session = sessions_.table().find(event.session);
  if (session && session->birth != event.birth) session = nullptr;
  SessionTable& table = sessions_.table();
  const bool latest = book_.settle(event.birth, event.number, event.kept);
  if (event.kept) ++frame_.counters.snapshots_kept;
  if (event.failed) ++frame_.counters.snapshots_failed;
  if (latest && session && table.judge(*session, frame_.now) != SessionTable::Verdict::kLost) {
    table.set_saved(*session, event.kept);
  }
  Call* found = calls_.find(event.call);
  if (const auto* saving = found ? found->in<Call::Saving>() : nullptr) {
    Call& call = *found;
    Worker* home = call.session->home ? call.session->home->owner : nullptr;
    end_saving(call, calls_.reply_ending(call, saving->reply, call.told));
    if (home) workers_.go_on(*home);
  }
  if (Worker* worker = workers_.table().find(event.worker)) {
    if (session && latest)
      table.set_asking(*session, event.kept ? Asking::kNot : Asking::kUnsavable);
    if (worker->saves > 0) --worker->saves;
    workers_.go_on(*worker);
  }
}

void Snapshots::on(const SessionSaved& event) {
  Worker* worker = workers_.table().find(event.worker);
  if (!worker) return;
  Session* session = sessions_.table().find(event.session);
  const bool here = session && session->birth == event.birth && session->asking == Asking::kAsked &&
                    session->home && session->home->owner == worker;
  if (here && session->saved) {  // what its last call had left behind has arrived meanwhile
    sessions_.table().set_asking(*session, Asking::kNot);
  } else if (here && event.taken) {
    keep(*session, worker->id, CallId{}, book_.begin(session->birth));
    return;  // the worker takes no call of it before it is stored
  }
  if (here && !session->saved) note_unsavable(*session, event.error);
  if (worker->saves > 0) --worker->saves;
  workers_.go_on(*worker);
}

void Snapshots::keep(const Session& session, WorkerId worker, CallId call, std::uint64_t number) {
  KeepSnapshot action;
  action.worker = worker;
  action.call = call;
  action.session = session.id;
  action.birth = session.birth;
  action.epoch = session.epoch;
  action.number = number;
  action.mode = session.mode;
  action.age = frame_.now - session.opened_at;
  frame_.emit(std::move(action));
}

void Snapshots::note_unsavable(Session& session, std::string_view why) {
  ++frame_.counters.snapshots_failed;
  if (session.asking == Asking::kUnsavable) return;  // said once a session
  sessions_.table().set_asking(session, Asking::kUnsavable);
  frame_.notice(Notice::Level::kWarn,
                fmt::format("The state of session \"{}\" cannot be saved: {}", session.id, why));
}

bool Snapshots::may_save() const {
  if (frame_.settings.sessions.snapshot == SnapshotMode::kOff || frame_.phase == Phase::kOverdue)
    return false;
  const bool outlives_us =
      frame_.settings.sessions.store != "memory" || !frame_.settings.cluster.store.empty();
  return !frame_.draining() || outlives_us;
}

bool Snapshots::may_clear(const Worker& worker) const {
  const Home* home = worker.home;
  if (!home || worker.sessions() == home->safe.size()) return true;
  const bool saves = may_save();
  if (!home->tried.empty() || (!saves && !home->idle.empty())) return false;
  return std::ranges::none_of(home->active, [saves](const Session& session) {
    const bool unsaved = session.established && !session.saved && !session.detached;
    return unsaved && (!saves || session.asking == Asking::kUnsavable);
  });
}

void Snapshots::evacuate(Worker& worker) {
  if (!worker.draining() || worker.taken() || !worker.home) return;
  if (worker.spare && worker.slot->wanted) return;  // it stays, once what was asked for is stored
  if (worker.check == Worker::Check::kRuns) return;
  const bool may_ask = may_save();
  std::vector<Session*> moving;
  for (Session& session : worker.home->active) {
    if (session.lane->running || session.detached) continue;
    if (session.saved) {
      moving.push_back(&session);
    } else if (may_ask && session.established && session.asking == Asking::kNot &&
               worker.saves < kSavesAtOnce) {
      ask(worker, session);
    }
  }
  while (may_ask && worker.saves < kSavesAtOnce && !worker.home->idle.empty()) {
    ask(worker, worker.home->idle.front());
  }
  if (worker.saves > 0)
    waiting_.hold_heads(worker);  // a hinted session would move without its state
  for (Session* session : moving) {
    sessions_.move_out(*session);
    sessions_.settle(*session);
  }
}

void Snapshots::on(const SessionsFound& event) {
  SessionTable& table = sessions_.table();
  std::size_t adopted = 0;
  for (const FoundSession& found : event.sessions) {
    if (table.find(found.id) || table.attached() >= frame_.settings.sessions.max) {
      ++frame_.counters.evicted;
      frame_.emit(DropSnapshot{CallId{}, found.id, found.birth, 0});
      continue;
    }
    Session& session = table.adopt(found.id, found.mode, found.birth, frame_.now - found.age,
                                   frame_.now - found.idle);
    ++adopted;
    sessions_.tombstones().remove(found.id);
    session.epoch = found.epoch + 1;
    session.watched = found.watched;
    book_.find(found.birth, found.number);
    keys_.adopt(found);
  }
  for (const std::string& id : event.lost) {
    if (table.find(id)) continue;
    ++frame_.counters.lost;
    sessions_.tombstones().add(frame_.now, id, SessionOver::kLost, Duration{0}, nullptr);
  }
  table.settle_adopted(adopted);
}

void Snapshots::forget(const Session& session) {
  if (book_.forget(session.birth)) {
    frame_.emit(DropSnapshot{CallId{}, session.id, session.birth, 0});
  }
}

void Snapshots::ask(Worker& worker, Session& session) {
  sessions_.table().set_asking(session, Asking::kAsked);
  ++worker.saves;
  frame_.emit(SaveSession{worker.id, session.id, session.birth, session.epoch});
}

}  // namespace keelback::core
