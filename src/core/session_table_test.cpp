#include "core/session_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Verdict = SessionTable::Verdict;

Session& open_idle(SessionTable& table, Time now, std::string_view id) {
  Session& session = table.open(now, id, Affinity::kStrictQueue, 1);
  session.established = true;
  table.leave(session, now);
  return session;
}

// Goal: a session lives exactly idle_ttl after its last touch - not a tick less, not a tick more -
// by the limits of now, not of then.
TEST(SessionTable, IdleTtlCountsFromTheLastTouchUnderTheLimitsOfNow) {
  SessionTable table({.idle_ttl = 10s, .max_age = 1h}, 1);
  Session& ann = open_idle(table, at(0s), "ann");
  table.touch(ann, at(5s));
  EXPECT_EQ(table.judge(ann, at(15s) - 1ns), Verdict::kLive);
  EXPECT_EQ(table.judge(ann, at(15s)), Verdict::kIdleOver);
  EXPECT_EQ(table.next_deadline(at(5s)), at(15s));
  table.set_limits({.idle_ttl = 1s, .max_age = 1h});
  EXPECT_EQ(table.judge(ann, at(6s)), Verdict::kIdleOver);
  EXPECT_EQ(table.next_due(at(6s) - 1ns), nullptr);
  EXPECT_EQ(table.next_due(at(6s)), &ann);
  table.set_limits({.idle_ttl = 1min, .max_age = 20s});
  EXPECT_EQ(table.judge(ann, at(20s) - 1ns), Verdict::kLive);
  EXPECT_EQ(table.judge(ann, at(20s)), Verdict::kAgeOver);
}

// Goal: nothing expires of idleness while a call runs or waits; max_age spares nobody.
TEST(SessionTable, ABusySessionIsNeverIdle) {
  SessionTable table({.idle_ttl = 10s, .max_age = 1h}, 1);
  Session& ann = open_idle(table, at(0s), "ann");
  Call call;
  table.enter(ann);
  ann.lane->running = &call;
  EXPECT_EQ(table.judge(ann, at(59min)), Verdict::kLive);
  EXPECT_EQ(table.judge(ann, at(1h)), Verdict::kAgeOver);
  ann.lane->running = nullptr;
  table.leave(ann, at(59min));
  EXPECT_EQ(table.judge(ann, at(59min)), Verdict::kLive);
}

// Goal: a dead home loses its established sessions in one step and gives them out one by one; the
// readers count them as gone from that step on.
TEST(SessionTable, ADeadHomeLosesItsSessionsAtOnce) {
  SessionTable table({.idle_ttl = 10s, .max_age = 1h}, 1);
  Home& home = table.make_home(WorkerId{1, 1}, nullptr);
  Home& other = table.make_home(WorkerId{2, 2}, nullptr);
  for (int i = 0; i < 100; ++i) table.bind(open_idle(table, at(0s), std::to_string(i)), home);
  table.bind(open_idle(table, at(0s), "safe"), other);
  table.kill_home(home, std::make_shared<const Death>());
  EXPECT_EQ(table.live(at(1s)), 1u);
  EXPECT_EQ(table.backlog(), 100u);
  EXPECT_EQ(table.next_deadline(at(1s)), at(1s)) << "there is work now";
  EXPECT_EQ(table.judge(*table.find("7"), at(1s)), Verdict::kLost);
  table.check_invariants(at(1s));
  int swept = 0;
  while (Session* session = table.next_due(at(1s))) {
    table.erase(*session);
    ++swept;
  }
  EXPECT_EQ(swept, 100);
  EXPECT_TRUE(table.find("safe"));
  table.check_invariants(at(1s));
  table.kill_home(other, nullptr);
}

// Goal: a detached session is out of every list and count, and its id is free, while its call runs.
TEST(SessionTable, ADetachedSessionFreesItsId) {
  SessionTable table({.idle_ttl = 10s, .max_age = 1h}, 1);
  Session& old = table.open(at(0s), "ann", Affinity::kStrictQueue, 1);
  Call call;
  old.established = true;
  old.lane->running = &call;
  table.detach(old);
  EXPECT_FALSE(table.find("ann"));
  EXPECT_EQ(table.live(at(0s)), 0u);
  Session& fresh = open_idle(table, at(1s), "ann");
  EXPECT_EQ(table.find("ann"), &fresh);
  old.lane->running = nullptr;
  table.erase(old);
  EXPECT_EQ(table.find("ann"), &fresh);
  table.check_invariants(at(1s));
}

// The clumsy judge: a map, no lists, everything recomputed.
struct Model {
  struct Entry {
    Time opened, idle_since;
    bool busy = false;
    std::optional<int> home;
    bool lost = false;
  };
  std::map<std::string, Entry> all;
  Duration idle_ttl = 50ns, max_age = 400ns;

  Verdict judge(const Entry& e, Time now) const {
    if (e.lost) return Verdict::kLost;
    if (now - e.opened >= max_age) return Verdict::kAgeOver;
    if (!e.busy && now - e.idle_since >= idle_ttl) return Verdict::kIdleOver;
    return Verdict::kLive;
  }
};

struct TableWithModel {
  SessionTable table{{50ns, 400ns}, 99};
  Model model;
  Home* homes[2] = {&table.make_home(WorkerId{1, 1}, nullptr),
                    &table.make_home(WorkerId{2, 2}, nullptr)};
  Call running;  // stands for any call
  Time now{};

  ~TableWithModel() {
    for (auto& [id, entry] : model.all) {
      if (entry.busy) table.find(id)->lane->running = nullptr;
    }
    for (Home* home : homes) table.kill_home(*home, nullptr);
  }
  void open(const std::string& id, int home) {
    if (table.find(id)) return;
    Session& session = table.open(now, id, Affinity::kHint, 1);
    session.established = true;
    session.lane->running = &running;
    table.bind(session, *homes[home]);
    model.all[id] = {now, now, true, home, false};
  }
  void toggle(const std::string& id) {
    Session* session = table.find(id);
    if (!session || table.judge(*session, now) != Verdict::kLive) return;
    Model::Entry& entry = model.all[id];
    entry.busy = !entry.busy;
    if (entry.busy) {
      table.enter(*session);
      session->lane->running = &running;
    } else {
      session->lane->running = nullptr;
      table.leave(*session, now);
      entry.idle_since = now;
    }
  }
  void kill(int home) {
    for (auto& [id, entry] : model.all) {
      if (entry.home != home) continue;
      if (entry.busy) toggle_off(id);  // its call ended with the worker
      entry.lost = true;
    }
    table.kill_home(*homes[home], nullptr);
    homes[home] = &table.make_home(WorkerId{1, 9}, nullptr);
  }
  void toggle_off(const std::string& id) {
    Session* session = table.find(id);
    session->lane->running = nullptr;
    table.leave(*session, now);
    model.all[id].busy = false;
    model.all[id].idle_since = now;
  }
  void sweep() {
    std::set<std::string> due;
    for (const auto& [id, entry] : model.all) {
      if (model.judge(entry, now) != Verdict::kLive) due.insert(id);
    }
    std::set<std::string> swept;
    while (Session* session = table.next_due(now)) {
      swept.insert(session->id);
      if (session->lane) {  // aged out while its call runs: here the call just ends
        session->lane->running = nullptr;
        model.all[session->id].busy = false;
      }
      model.all.erase(session->id);
      table.erase(*session);
    }
    RC_ASSERT(swept == due);
  }
  void compare() {
    std::uint64_t live = 0;
    for (const auto& [id, entry] : model.all) {
      const Session* session = table.find(id);
      RC_ASSERT(session != nullptr);
      RC_ASSERT(table.judge(*session, now) == model.judge(entry, now));
      live += model.judge(entry, now) == Verdict::kLive;
    }
    RC_ASSERT(table.attached() == model.all.size());
    RC_ASSERT(table.live(now) == live);
    std::uint64_t visited = 0;
    table.each_live(now, [&](const Session&) { ++visited; });
    RC_ASSERT(visited == live);
    table.check_invariants(now);
  }
};

// Goal: over random histories the clever table and the clumsy model say the same of every session.
RC_GTEST_PROP(SessionTable, AgreesWithAClumsyModel, (const std::vector<std::uint16_t>& steps)) {
  TableWithModel both;
  for (const std::uint16_t step : steps) {
    const std::string id = std::to_string(step / 8 % 12);
    switch (step % 8) {
      case 0:
      case 1:
        both.open(id, step / 96 % 2);
        break;
      case 2:
      case 3:
      case 4:
        both.toggle(id);
        break;
      case 5:
        both.now += Duration(step / 8 % 40);
        break;
      case 6:
        if (step % 5 == 0) {
          both.kill(step / 96 % 2);
        } else {
          both.sweep();
        }
        break;
      default:
        both.model.idle_ttl = Duration(1 + step / 8 % 90);
        both.model.max_age = Duration(100 + step / 8 % 500);
        both.table.set_limits({both.model.idle_ttl, both.model.max_age});
    }
    both.compare();
  }
}

}  // namespace
}  // namespace keelback::core
