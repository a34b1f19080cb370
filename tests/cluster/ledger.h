// What must be true of a cluster, whatever its nodes believe: kept by somebody who sees all of it.
// The state of a session is the list of the calls that have changed it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "cluster/database.h"
#include "keelback/outcome.h"

namespace keelback::cluster {

using CallNumber = std::uint64_t;
using Calls = std::vector<CallNumber>;

Calls calls_of(const State& state);
State state_of(const Calls& calls);
std::string text_of(const Calls& calls);

struct Heard {
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kNone;
  Calls state;          // ok, of a session's call: with this call at its end
  CallNumber answer{};  // ok, of a call with a key: which run of it that was
};

class Ledger {
 public:
  // Calls that change states are told about it before their callers hear anything.
  bool losses_allowed = true;  // false: every acknowledged state is stored
  std::function<bool(const Owner&)> lives;
  bool went_back = false;  // the database has lost something: only what is not its fault counts

  // ---- at the database, after a request took effect
  void claimed(const Claim& request, const SessionRow& row);
  void committed(const Commit& request);

  // ---- at a node
  void ran(CallNumber call, const std::string& key, bool idempotent);
  // A node lets a caller hear that the call is done, without a commit: with this claim.
  void vouched(const std::string& session, std::uint64_t birth, std::uint32_t epoch,
               const Calls& state);
  // … after a commit.
  void kept(const std::string& session, std::uint64_t birth, const Calls& state);
  // A caller is told that the session is over.
  void told(const std::string& session, const Owner& by);

  // ---- at a client
  bool is_open(CallNumber call) const { return open_.contains(call); }
  void submitted(CallNumber call) { open_.insert(call); }
  void heard(CallNumber call, const std::string& key, bool idempotent, const Heard& heard);
  // All have been answered.
  void finish();

  std::vector<std::string> wrongs;
  std::string last_heard;                     // in words
  std::map<std::string, std::uint64_t> seen;  // how often what happened: a plan that meets nothing
                                              // proves nothing
 private:
  struct Life {  // of a session, from one birth on
    std::uint64_t birth = 0;
    std::uint32_t epoch = 0;  // of the last claim
    Token token = 0;
    Calls committed;
    std::set<CallNumber> acknowledged;
    std::optional<Owner> told_by;
  };
  void wrong(std::string what);
  Life* life(const std::string& session, std::uint64_t birth);
  void must_hold(const std::string& what, const std::string& session,
                 const std::set<CallNumber>& acknowledged, const Calls& state);

  std::map<std::string, Life> lives_;  // the latest of each session
  std::map<std::pair<std::string, std::uint64_t>, std::set<std::uint32_t>> epochs_;
  std::set<CallNumber> open_;
  std::map<CallNumber, std::uint64_t> runs_;
  std::map<CallNumber, Heard> heard_;
  std::map<std::string, std::uint64_t> key_runs_;
  std::map<std::string, CallNumber> key_answers_;
};

}  // namespace keelback::cluster
