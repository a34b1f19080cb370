#include "core/session_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace keelback::core {

SessionTable::SessionTable(Limits limits, std::uint64_t seed) : limits_(limits), index_(seed) {}

SessionTable::~SessionTable() {
  while (!by_age_.empty()) {
    Session& session = by_age_.front();
    if (session.lane) {
      session.lane->waiting.clear();
      session.lane->running = nullptr;
    }
    erase(session);
  }
  drop_empty_homes();  // the owner has killed every home
  CHECK(detached_ == 0);
}

SessionTable::Verdict SessionTable::judge(const Session& session, Time now) const {
  if (session.home && !session.home->alive && session.established) return Verdict::kLost;
  if (now - session.opened_at >= limits_.max_age) return Verdict::kAgeOver;
  if (!session.lane && now - session.idle_since >= limits_.idle_ttl) return Verdict::kIdleOver;
  return Verdict::kLive;
}

Session& SessionTable::open(Time now, std::string_view id, Affinity mode, std::uint64_t birth) {
  Session& session = *slab_.make();
  session.id = id;
  session.opened_at = now;
  session.idle_since = now;
  session.birth = birth;
  session.mode = mode;
  session.lane = lanes_.make();
  index_.insert(session);
  by_age_.push_back(session);
  return session;
}

void SessionTable::enter(Session& session) {
  if (session.lane) return;
  session.lane = lanes_.make();
  by_idle_.erase(by_idle_.iterator_to(session));
  if (session.home) {
    session.home->idle.erase(session.home->idle.iterator_to(session));
    session.home->active.push_back(session);
  }
}

void SessionTable::leave(Session& session, Time now) {
  CHECK(session.lane && session.lane->empty() && session.established && !session.detached);
  lanes_.free(session.lane);
  session.lane = nullptr;
  session.idle_since = now;
  by_idle_.push_back(session);
  if (session.home) {
    session.home->active.erase(session.home->active.iterator_to(session));
    session.home->idle.push_back(session);
  }
}

void SessionTable::touch(Session& session, Time now) {
  CHECK(!session.lane);
  session.idle_since = now;
  by_idle_.splice(by_idle_.end(), by_idle_, by_idle_.iterator_to(session));
}

void SessionTable::bind(Session& session, Home& home) {
  CHECK(!session.home && home.alive);
  session.home = &home;
  (session.lane ? home.active : home.idle).push_back(session);
}

void SessionTable::unbind(Session& session) {
  leave_home(session);
  drop_empty_homes();
}

void SessionTable::leave_home(Session& session) {
  Home* home = std::exchange(session.home, nullptr);
  if (!home) return;
  auto& list = session.lane ? home->active : home->idle;
  list.erase(list.iterator_to(session));
  if (!home->alive && !session.lane) --backlog_;
}

void SessionTable::detach(Session& session) {
  CHECK(session.lane && session.lane->running && !session.detached);
  session.detached = true;
  ++detached_;
  index_.erase(session);
  by_age_.erase(by_age_.iterator_to(session));
}

void SessionTable::erase(Session& session) {
  CHECK(!session.lane || session.lane->empty());
  leave_home(session);
  if (session.detached) {
    --detached_;
  } else {
    index_.erase(session);
    by_age_.erase(by_age_.iterator_to(session));
  }
  if (session.lane) {
    lanes_.free(session.lane);
  } else {
    by_idle_.erase(by_idle_.iterator_to(session));
  }
  slab_.free(&session);
  drop_empty_homes();
}

Home& SessionTable::make_home(WorkerId worker, Worker* owner) {
  Home& home = *homes_.make();
  home.worker = worker;
  home.owner = owner;
  return home;
}

void SessionTable::kill_home(Home& home, std::shared_ptr<const Death> death) {
  CHECK(home.alive);
  home.alive = false;
  home.owner = nullptr;
  home.death = std::move(death);
  backlog_ += home.idle.size();
  dead_homes_.push_back(home);
  drop_empty_homes();
}

void SessionTable::drop_empty_homes() {
  // Only the front: a home behind it waits its turn, which costs nothing but its own record.
  while (!dead_homes_.empty() && dead_homes_.front().sessions() == 0) {
    Home& home = dead_homes_.front();
    dead_homes_.pop_front();
    homes_.free(&home);
  }
}

Session* SessionTable::next_due(Time now) {
  for (Home& home : dead_homes_) {
    if (!home.idle.empty()) return &home.idle.front();
    if (!home.active.empty()) break;  // the caller is just emptying it
  }
  if (!by_idle_.empty() && judge(by_idle_.front(), now) != Verdict::kLive) return &by_idle_.front();
  if (!by_age_.empty() && judge(by_age_.front(), now) != Verdict::kLive) return &by_age_.front();
  return nullptr;
}

std::optional<Time> SessionTable::next_deadline(Time now) const {
  if (backlog_ > 0) return now;
  std::optional<Time> next;
  if (!by_idle_.empty()) next = by_idle_.front().idle_since + limits_.idle_ttl;
  if (!by_age_.empty()) {
    const Time due = by_age_.front().opened_at + limits_.max_age;
    next = next ? std::min(*next, due) : due;
  }
  return next;
}

std::uint64_t SessionTable::count_due(Time now) const {
  std::uint64_t due = backlog_;
  for (const Session& session : by_idle_) {
    if (now - session.idle_since < limits_.idle_ttl) break;
    const Verdict verdict = judge(session, now);
    if (verdict == Verdict::kIdleOver || verdict == Verdict::kAgeOver) ++due;
  }
  for (const Session& session : by_age_) {
    const bool idle_over = !session.lane && now - session.idle_since >= limits_.idle_ttl;
    const Verdict verdict = judge(session, now);
    if (now - session.opened_at < limits_.max_age) break;
    if (verdict == Verdict::kAgeOver && !idle_over) ++due;
  }
  return due;
}

void SessionTable::check_invariants(Time now) const {
  std::size_t attached = 0;
  std::uint64_t lost = 0;
  Time last{Duration::min()};
  for (const Session& session : by_age_) {
    ++attached;
    CHECK(session.opened_at >= last);
    last = session.opened_at;
    CHECK(!session.detached && index_.find(session.id) == &session);
    CHECK(session.idle_hook.is_linked() == (session.lane == nullptr));
    CHECK(session.lane ? !session.lane->empty() : session.established);
    CHECK((session.home != nullptr) == session.home_hook.is_linked());
    if (session.home && !session.home->alive) {
      CHECK(!session.lane);
      ++lost;
    }
  }
  CHECK(attached == index_.size());
  CHECK(lost == backlog_);
  CHECK(attached + detached_ == slab_.live());
  last = Time{Duration::min()};
  std::size_t idle = 0;
  for (const Session& session : by_idle_) {
    ++idle;
    CHECK(session.idle_since >= last && session.idle_since <= now);
    last = session.idle_since;
  }
  CHECK(idle + lanes_.live() == attached + detached_);
}

}  // namespace keelback::core
