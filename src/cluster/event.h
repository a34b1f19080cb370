// Everything that can happen to a node of a cluster. Every event is legal in every state: what has
// become meaningless is ignored, and a question that cannot be answered any more is refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "base/time.h"
#include "cluster/database.h"
#include "keelback/call.h"

namespace keelback::cluster {

// All chosen by the driver and never used again, except AskId, which the node chooses.
using TicketId = std::uint64_t;  // of a call that came to this node
using CommitId = std::uint64_t;  // of an answer that waits to be acknowledged
using FetchId = std::uint64_t;
using AskId = std::uint64_t;

// What the node needs of the settings of sessions, which are the same for all nodes.
struct Rules {
  bool commits_each_call = false;  // sessions.snapshot = each_call
  Duration idle_ttl = std::chrono::minutes(30);
  Duration max_age = std::chrono::hours(24);
  Duration tombstone_ttl = std::chrono::hours(1);
  Duration key_ttl = std::chrono::minutes(10);  // calls.idempotency_ttl
  bool restore_other_digest = true;
  friend bool operator==(const Rules&, const Rules&) = default;
};

// ---- calls

// A call of a session, before the pool has seen it.
struct CallCame {
  TicketId ticket = 0;
  std::string session;
  Affinity mode = Affinity::kStrictQueue;  // of the session, if the call opens it
  SessionOpen open = SessionOpen::kAny;
  bool hop = false;  // another node has sent it
  // It ends the session and runs nothing. It goes to where a call would run. A session that no
  // living node owns ends in the database, and nobody claims it for that. `open` means nothing.
  bool ends = false;
  std::string key;  // its idempotency key; empty: none
  std::uint64_t fingerprint = 0;
};
// A call without a session, but with an idempotency key. (A call without both is no affair of the
// cluster.)
struct KeyedCallCame {
  TicketId ticket = 0;
  std::string key;
  std::uint64_t fingerprint = 0;
  bool idempotent = false;  // it may run again
  bool hop = false;
};
// Its caller has left or its deadline has passed; or its hop has brought an outcome.
struct TicketGone {
  TicketId ticket = 0;
};
enum class HopEnd : std::uint8_t {
  kNotOwner,      // 421: the other node does not own it
  kNotConnected,  // nothing of the call was sent
  kBroken,        // it was sent, at least in part, and no whole answer came
};
struct HopFailed {
  TicketId ticket = 0;
  HopEnd end = HopEnd::kBroken;
  std::string reason;  // one sentence
};

// ---- the local pool

// The answer of a call, or a save without a call, waits until this state is committed. Without a
// state: what is stored is out of date, and nothing better can be had.
struct CommitWanted {
  CommitId commit = 0;
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;  // at which the call ran: the claim's, or a later one
  std::optional<State> state;
  // Whether calls will be acknowledged without a commit from now on.
  bool exposed = false;
  Duration idle{0};  // since the session's last call
  Answer answer;     // of the call, if it has an idempotency key
};
// A call of a session has run, and its state is not committed. May its caller hear the answer?
struct VouchWanted {
  CommitId commit = 0;
  std::string session;
  std::uint64_t birth = 0;
};
// The pool needs the last committed state of a session that this node owns.
struct FetchWanted {
  FetchId fetch = 0;
  std::string session;
  std::uint64_t birth = 0;
};
// A call that was admitted with a key and no session has ended. Without an answer: nothing ran.
struct KeyedCallEnded {
  CommitId commit = 0;
  std::string key;
  std::optional<Answer> answer;
};
// The pool has made the session from the state that came with Admit, or could not.
struct SessionOpened {
  std::string session;
  std::uint64_t birth = 0;
};
enum class Over : std::uint8_t {
  kEnded,    // by request, or its end was told to a caller
  kExpired,  // no caller knows yet
  kLost,     // its worker died with the state; no caller knows yet
  kMoved,    // its state is committed, or cannot be; another node may have it
};
// The pool holds nothing of the session any more. No answer of it waits for a Settle.
struct SessionOver {
  std::string session;
  std::uint64_t birth = 0;
  Over how = Over::kEnded;
};

// ---- the node

// The answer to an Ask.
struct Replied {
  AskId ask = 0;
  Reply reply;
};
// The settings of sessions: those of ObeySettings, as the driver has read them.
struct RulesChanged {
  Rules rules;
};
// An operator has changed the settings of sessions at this node; all nodes get them.
struct SettingsChanged {
  std::string text;
};
// No new sessions from now on. The pool saves what it holds: CommitWanted and then SessionOver
// with kMoved for each session.
struct DrainRequested {};
// The pool is empty. What it could not save is released as it is; then the node leaves.
struct Drained {};
// Time has passed.
struct Tick {};

using Event = std::variant<CallCame, KeyedCallCame, TicketGone, HopFailed, CommitWanted,
                           VouchWanted, FetchWanted, KeyedCallEnded, SessionOpened, SessionOver,
                           Replied, RulesChanged, SettingsChanged, DrainRequested, Drained, Tick>;

}  // namespace keelback::cluster
