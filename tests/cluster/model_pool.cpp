#include "cluster/model_pool.h"

#include <chrono>
#include <memory>
#include <utility>

namespace keelback::cluster {

using namespace std::chrono_literals;

Duration ModelPool::draw(Duration least, Duration most) {
  return least + Duration(prng_.below(static_cast<std::uint64_t>((most - least).count()) + 1));
}

void ModelPool::after(Duration delay, std::function<void()> what) {
  time_.after(delay, [alive = alive_, what = std::move(what)] {
    if (*alive) what();
  });
}

ModelPool::Session* ModelPool::find(const std::string& session, std::uint64_t birth,
                                    std::uint32_t claim) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return nullptr;
  const bool same = found->second.birth == birth && found->second.claim == claim;
  return same ? &found->second : nullptr;
}

void ModelPool::adopt(const Adopt& action) {
  Session session;
  session.id = action.session;
  session.birth = action.birth;
  session.claim = session.epoch = action.epoch;
  session.restoring = action.state.has_value();
  if (action.state) session.state = calls_of(*action.state);
  session.established = !session.state.empty();
  const bool restoring = session.restoring;
  sessions_[action.session] = std::move(session);
  if (!restoring) return;
  after(draw(5ms, 50ms), [this, id = action.session, birth = action.birth, claim = action.epoch] {
    Session* found = find(id, birth, claim);
    if (!found) return;
    found->restoring = false;
    seams_.tell(SessionOpened{id, birth});
    go_on(*found);
  });
}

bool ModelPool::admit(const ClientCall& call, const Admit& action) {
  const auto found = sessions_.find(action.session);
  if (found == sessions_.end() || found->second.birth != action.birth) return false;
  if (draining_) {
    seams_.answer(call, {OutcomeKind::kShuttingDown, Effect::kNone, {}, 0});
    return true;
  }
  found->second.lane.push_back(call);
  go_on(found->second);
  return true;
}

void ModelPool::go_on(Session& session) {
  if (session.restoring || session.saving || session.run != 0 || session.settling) return;
  if (session.lane.empty()) {
    if (draining_) save(session);
    return;
  }
  const ClientCall call = session.lane.front();
  session.lane.pop_front();
  session.run = ++last_run_;
  running_[session.run] = call;
  Waiting done;
  done.call = call;
  done.session = session.id;
  done.birth = session.birth;
  done.claim = session.claim;
  done.state = session.state;
  done.state.push_back(call.number);
  const Duration takes = prng_.chance(0.03) ? draw(1s, 5s) : draw(1ms, 80ms);
  ledger_.ran(call.number, {}, false);
  after(takes, [this, done, run = session.run] { ended(done, run); });
}

// The worker has the new state, whether or not its node still has the session.
void ModelPool::ended(const Waiting& done, std::uint64_t run) {
  if (running_.erase(run) == 0) return;  // its worker died
  Waiting waiting = done;
  Session* session = find(done.session, done.birth, done.claim);
  std::uint32_t epoch = done.claim;
  if (session) {
    session->run = 0;
    session->settling = true;
    session->state = done.state;
    epoch = session->epoch;
  }
  const bool savable = !prng_.chance(plan_.unsavable);
  const CommitId commit = seams_.next_id();
  waiting.committed = plan_.commits_each_call && savable;
  waiting_[commit] = waiting;
  if (plan_.commits_each_call) {
    CommitWanted event;
    event.commit = commit;
    event.session = done.session;
    event.birth = done.birth;
    event.epoch = epoch;
    if (savable) event.state = state_of(done.state);
    seams_.tell(std::move(event));
  } else if (plan_.asks_nobody) {
    settle({commit, Settle::How::kKept, {}});
  } else {
    seams_.tell(VouchWanted{commit, done.session, done.birth});
  }
}

void ModelPool::settle(const Settle& action) {
  if (const auto keyed = keyed_waiting_.find(action.commit); keyed != keyed_waiting_.end()) {
    const std::string key = keyed->second;
    keyed_waiting_.erase(keyed);
    for (const ClientCall& call : std::exchange(keyed_[key], {})) {
      seams_.answer(call, {OutcomeKind::kOk, Effect::kDone, {}, keyed_done_.at(key)});
    }
    return;
  }
  const auto found = waiting_.find(action.commit);
  if (found == waiting_.end()) {
    ledger_.wrongs.push_back("settled: a commit that nobody waits for");
    return;
  }
  const Waiting waiting = found->second;
  waiting_.erase(found);
  Session* session = find(waiting.session, waiting.birth, waiting.claim);
  if (waiting.call.number == 0) {  // it was saved
    if (session && action.how == Settle::How::kKept) drop(*session, Over::kMoved);
    return;
  }
  acknowledge(waiting, action.how);
  if (!session) return;
  session->settling = false;
  session->established = true;
  go_on(*session);
}

void ModelPool::acknowledge(const Waiting& waiting, Settle::How how) {
  if (how == Settle::How::kKept) {
    if (waiting.committed) {
      ledger_.kept(waiting.session, waiting.birth, waiting.state);
    } else {
      ledger_.vouched(waiting.session, waiting.birth, waiting.claim, waiting.state);
    }
    return seams_.answer(waiting.call, {OutcomeKind::kOk, Effect::kDone, waiting.state, 0});
  }
  const bool lost = how == Settle::How::kLost;
  seams_.answer(waiting.call, {lost ? OutcomeKind::kSessionLost : OutcomeKind::kWorkerDied,
                               lost ? Effect::kDone : Effect::kMaybe,
                               {},
                               0});
}

void ModelPool::hand_in_again(std::deque<ClientCall> lane) {
  for (const ClientCall& call : lane) seams_.hand_in_again(call);
}

void ModelPool::drop(Session& session, Over how) {
  const std::string id = session.id;
  const std::uint64_t birth = session.birth;
  std::deque<ClientCall> lane = std::move(session.lane);
  sessions_.erase(id);
  seams_.tell(SessionOver{id, birth, how});
  hand_in_again(std::move(lane));
  if (draining_) drain();
}

void ModelPool::forget(const ForgetSession& action) {
  const auto found = sessions_.find(action.session);
  if (found == sessions_.end() || found->second.birth != action.birth) return;
  std::deque<ClientCall> lane = std::move(found->second.lane);
  sessions_.erase(found);
  hand_in_again(std::move(lane));
  if (draining_) drain();
}

// ---- workers that die

void ModelPool::kill_a_worker() {
  if (sessions_.empty()) return;
  auto at = sessions_.begin();
  std::advance(at, prng_.below(sessions_.size()));
  Session& session = at->second;
  if (session.settling || session.saving || session.restoring) return;
  if (session.run != 0) {
    const ClientCall call = running_.at(session.run);
    running_.erase(session.run);
    session.run = 0;
    seams_.answer(call, {OutcomeKind::kWorkerDied, Effect::kMaybe, {}, 0});
  }
  ++session.epoch;
  if (!plan_.commits_each_call) {
    return drop(session, session.established ? Over::kLost : Over::kMoved);
  }
  session.restoring = true;
  fetch(session);
}

void ModelPool::fetch(Session& session) {
  const FetchId id = seams_.next_id();
  fetching_[id] = {session.id, session.birth};
  seams_.tell(FetchWanted{id, session.id, session.birth});
}

void ModelPool::fetched(const Fetched& action) {
  const auto asked = fetching_.find(action.fetch);
  if (asked == fetching_.end()) return;
  const auto [id, birth] = asked->second;
  fetching_.erase(asked);
  const auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second.birth != birth) return;
  Session& session = found->second;
  if (action.state) {
    session.state = calls_of(*action.state);
  } else if (!action.gone) {
    after(200ms, [this, id, birth] {
      const auto again = sessions_.find(id);
      if (again != sessions_.end() && again->second.birth == birth) fetch(again->second);
    });
    return;
  } else if (session.established) {
    return drop(session, Over::kLost);
  } else {
    session.state.clear();
  }
  session.restoring = false;
  go_on(session);
}

std::vector<ClientCall> ModelPool::kill() {
  *alive_ = false;
  std::vector<ClientCall> had;
  for (auto& [id, session] : sessions_) {
    had.insert(had.end(), session.lane.begin(), session.lane.end());
  }
  for (const auto& [run, call] : running_) had.push_back(call);
  for (const auto& [commit, waiting] : waiting_) {
    if (waiting.call.number != 0) had.push_back(waiting.call);
  }
  for (const auto& [key, calls] : keyed_) had.insert(had.end(), calls.begin(), calls.end());
  return had;
}

// ---- drain

void ModelPool::save(Session& session) {
  session.saving = true;
  if (!session.established) return drop(session, Over::kMoved);
  const CommitId commit = seams_.next_id();
  Waiting waiting;
  waiting.session = session.id;
  waiting.birth = session.birth;
  waiting.claim = session.claim;
  waiting_[commit] = waiting;
  CommitWanted event;
  event.commit = commit;
  event.session = session.id;
  event.birth = session.birth;
  event.epoch = session.epoch;
  event.state = state_of(session.state);
  seams_.tell(std::move(event));
}

void ModelPool::drain() {
  draining_ = true;
  if (sessions_.empty() && !std::exchange(told_drained_, true)) return seams_.tell(Drained{});
  std::vector<std::string> idle;
  for (const auto& [id, session] : sessions_) idle.push_back(id);
  for (const std::string& id : idle) {
    const auto found = sessions_.find(id);
    if (found != sessions_.end()) go_on(found->second);
  }
}

// ---- calls with a key and no session

void ModelPool::admit_keyed(const ClientCall& call) {
  std::vector<ClientCall>& calls = keyed_[call.key];
  calls.push_back(call);
  if (calls.size() > 1) return;
  ledger_.ran(call.number, call.key, call.idempotent);
  after(draw(1ms, 300ms), [this, call] {
    keyed_done_[call.key] = call.number;
    const CommitId commit = seams_.next_id();
    keyed_waiting_[commit] = call.key;
    Answer answer;
    answer.key = call.key;
    answer.fingerprint = 1;
    answer.payload = std::to_string(call.number);
    seams_.tell(KeyedCallEnded{commit, call.key, answer});
  });
}

}  // namespace keelback::cluster
