#include "core/session_table.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace keelback::core {
namespace {

// Puts the last `count` of a list, whose others are in order, where they belong.
template <class List, class Before>
void sort_last(List& list, std::size_t count, Before before) {
  List added;
  while (count-- > 0) added.splice(added.begin(), list, std::prev(list.end()));
  added.sort(before);
  auto place = list.end();
  while (!added.empty()) {
    const auto last = std::prev(added.end());
    while (place != list.begin() && before(*last, *std::prev(place))) --place;
    list.splice(place, added, last);
    place = last;
  }
}

}  // namespace

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
  CHECK(dead_homes_.empty());  // the owner has killed every home
  CHECK(detached_ == 0);
}

SessionTable::Verdict SessionTable::judge(const Session& session, Time now) const {
  if (session.home && !session.home->alive && session.established && !session.saved) {
    return Verdict::kLost;
  }
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
  if (session.home) {
    Home::List& list = list_of(session);
    list.erase(list.iterator_to(session));
    session.home->active.push_back(session);
  }
  session.lane = lanes_.make();
  by_idle_.erase(by_idle_.iterator_to(session));
}

void SessionTable::leave(Session& session, Time now) {
  CHECK(session.lane && session.lane->empty() && !session.detached);
  CHECK(session.established || session.saved);
  if (session.home) session.home->active.erase(session.home->active.iterator_to(session));
  lanes_.free(session.lane);
  session.lane = nullptr;
  session.idle_since = now;
  by_idle_.push_back(session);
  if (session.home) list_of(session).push_back(session);
}

void SessionTable::touch(Session& session, Time now) {
  CHECK(!session.lane);
  session.idle_since = now;
  by_idle_.splice(by_idle_.end(), by_idle_, by_idle_.iterator_to(session));
}

void SessionTable::bind(Session& session, Home& home) {
  CHECK(!session.home && home.alive);
  session.home = &home;
  list_of(session).push_back(session);
}

void SessionTable::unbind(Session& session) { leave_home(session); }

Home::List& SessionTable::list_of(const Session& session) const {
  Home& home = *session.home;
  if (session.lane) return home.active;
  if (session.saved) return home.safe;
  return home.alive && session.asking != Asking::kNot ? home.tried : home.idle;
}

void SessionTable::leave_home(Session& session) {
  if (!session.home) return;
  Home& home = *session.home;
  Home::List& list = list_of(session);
  list.erase(list.iterator_to(session));
  if (&list == &home.idle && !home.alive) --backlog_;
  session.home = nullptr;
  drop_if_empty(home);
}

void SessionTable::set_saved(Session& session, bool saved) {
  if (session.saved == saved) return;
  Home* home = session.home;
  Home::List* before = home ? &list_of(session) : nullptr;
  session.saved = saved;
  Home::List* after = home ? &list_of(session) : nullptr;
  if (before == after) return;
  before->erase(before->iterator_to(session));
  after->push_back(session);
  if (!home->alive) saved ? --backlog_ : ++backlog_;
}

void SessionTable::set_asking(Session& session, Asking asking) {
  Home::List* before = session.home ? &list_of(session) : nullptr;
  session.asking = asking;
  Home::List* after = session.home ? &list_of(session) : nullptr;
  if (before == after) return;
  before->erase(before->iterator_to(session));
  after->push_back(session);
}

Session& SessionTable::adopt(std::string_view id, Affinity mode, std::uint64_t birth,
                             Time opened_at, Time idle_since) {
  Session& session = *slab_.make();
  session.id = id;
  session.opened_at = opened_at;
  session.idle_since = idle_since;
  session.birth = birth;
  session.mode = mode;
  session.saved = true;
  index_.insert(session);
  by_age_.push_back(session);
  by_idle_.push_back(session);
  return session;
}

void SessionTable::settle_adopted(std::size_t count) {
  sort_last(by_age_, count,
            [](const Session& a, const Session& b) { return a.opened_at < b.opened_at; });
  sort_last(by_idle_, count,
            [](const Session& a, const Session& b) { return a.idle_since < b.idle_since; });
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
  home.idle.splice(home.idle.end(), home.tried);
  backlog_ += home.idle.size();
  dead_homes_.push_back(home);
  drop_if_empty(home);
}

void SessionTable::drop_if_empty(Home& home) {
  if (home.alive || home.sessions() > 0) return;
  dead_homes_.erase(dead_homes_.iterator_to(home));
  homes_.free(&home);
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
    CHECK(session.lane ? !session.lane->empty() : session.established || session.saved);
    CHECK((session.home != nullptr) == session.home_hook.is_linked());
    if (session.home && !session.home->alive) {
      CHECK(!session.lane);
      if (!session.saved) ++lost;
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
