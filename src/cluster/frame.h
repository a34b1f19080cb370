// What all parts of a node share for the length of one event: the time, the actions, chance, what
// was asked of the database, what is counted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>

#include "base/prng.h"
#include "base/time.h"
#include "cluster/action.h"
#include "cluster/event.h"
#include "cluster/status.h"

namespace keelback::cluster {

struct Config {
  std::string name;    // cluster.node
  std::string url;     // cluster.advertise
  std::string digest;  // of the application
  Duration lease = std::chrono::seconds(3);
  std::uint32_t restores_at_once = 16;
  std::string settings;  // of sessions, as this node has them configured
  Rules rules;           // … until ObeySettings says otherwise

  Duration beat_every() const { return lease / 10; }
  Duration beat_patience() const { return lease / 3; }
  // Calls of owned sessions stop to start this long before the lease ends.
  Duration margin() const { return lease / 4; }
  // Of every other request; and how long a commit is tried.
  Duration patience() const { return lease; }
};

// Why the database was asked; it comes back with the reply.
struct ForMember {
  Time sent;
};
struct ForOthers {};  // whatever the reply is, it changes nothing here
struct ForSession {
  std::string session;
  std::uint64_t serial = 0;  // of its entry
};
struct ForCommit {
  CommitId commit = 0;
  std::string session;
  std::uint64_t serial = 0;
  Token token = 0;
  std::uint64_t number = 0;
  bool exposed = false;
};
struct ForOrphan {  // the owner of a session that this node has lost
  CommitId commit = 0;
};
struct ForFetch {
  FetchId fetch = 0;
  Token token = 0;
};
struct ForLookup {  // the key of a session's call
  TicketId ticket = 0;
};
struct ForCompare {
  std::string after;
  std::uint64_t round = 0;
};
struct ForKey {
  std::string key;
  std::uint64_t serial = 0;
};
struct ForSettings {
  std::string text;
};
using Purpose = std::variant<ForMember, ForOthers, ForSession, ForCommit, ForOrphan, ForFetch,
                             ForLookup, ForCompare, ForKey, ForSettings>;

struct Frame {
  Frame(Config settings, std::uint64_t seed)
      : config(std::move(settings)), rules(config.rules), prng(seed) {}

  void emit(Action action) { out->push_back(std::move(action)); }
  void notice(Notice::Level level, std::string text) { emit(Notice{level, std::move(text)}); }
  void ask(Request request, Duration patience, Purpose purpose) {
    const AskId id = ++last_ask;
    asked.emplace(id, std::move(purpose));
    emit(Ask{id, std::move(request), patience});
  }
  void ask(Request request, Purpose purpose) {
    ask(std::move(request), config.patience(), std::move(purpose));
  }
  std::uint64_t draw() { return std::max<std::uint64_t>(prng.next(), 1); }
  Time soon() const { return now + config.beat_every(); }  // when to try again

  const Config config;
  Rules rules;
  Prng prng;
  Time now{};
  Actions* out = nullptr;  // of the event that is being handled
  std::map<AskId, Purpose> asked;
  AskId last_ask = 0;
  std::uint64_t last_serial = 0;
  Counters counters;
};

}  // namespace keelback::cluster
