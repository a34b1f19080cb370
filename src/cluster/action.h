// Everything a node of a cluster asks of its driver. Plain structs, performed in order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "cluster/database.h"
#include "cluster/event.h"
#include "keelback/outcome.h"

namespace keelback::cluster {

// Put this request to the database. Answered by one Replied, at the latest after `patience`.
struct Ask {
  AskId ask = 0;
  Request request;
  Duration patience{0};
};

// ---- the last word on a ticket, each of them except Forward and GiveUpHop

// Give the call to the local pool, or end the session there.
struct Admit {
  TicketId ticket = 0;
  std::string session;      // empty: a call with a key
  std::uint64_t birth = 0;  // of the session
};
// Send the call to this node, with the mark of a hop. Answered by HopFailed or TicketGone.
struct Forward {
  TicketId ticket = 0;
  Owner to;
  std::string url;
};
// The node that this ticket was forwarded to was retired: nothing comes from it that counts. The
// driver ends the hop, and says so with HopFailed, unless it has ended by itself. May come again.
struct GiveUpHop {
  TicketId ticket = 0;
};
// A call with this key has ended so.
struct Replay {
  TicketId ticket = 0;
  Answer answer;
};
struct Refuse {
  TicketId ticket = 0;
  OutcomeKind kind = OutcomeKind::kNotReady;
  Effect effect = Effect::kNone;
  std::string message;
  std::optional<Duration> retry_after;
  bool key_reused = false;
};
// A ticket that ends a session: the session has ended (`found`), or there is none. One that has
// ended already without a caller's knowledge is none: its next caller hears how it ended.
struct Ended {
  TicketId ticket = 0;
  bool found = false;
};
// It came from another node, and this one does not own its session or key: 421.
struct Misdirected {
  TicketId ticket = 0;
};

// ---- the local pool

// This node has just claimed the session: the pool takes it in, and whatever it remembers of its
// name is out of date. Answered by SessionOpened, if there is a state, or by SessionOver.
struct Adopt {
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;  // of its home here
  Affinity mode = Affinity::kStrictQueue;
  Duration age{0}, idle{0};
  std::optional<State> state;  // nullopt: the session is new
  Answer answer;               // of the call that led to the state, if it had a key
};
// The answer to CommitWanted, VouchWanted and KeyedCallEnded.
struct Settle {
  enum class How : std::uint8_t {
    kKept,     // the caller may hear the answer
    kLost,     // the session is another node's: session_lost, with the effect as it is
    kUnknown,  // it may be committed or not: `timeout`, effect maybe, whatever the answer was
  };
  CommitId commit = 0;
  How how = How::kKept;
  std::string owner;  // kLost: the node that owns the session now; empty: none, or not known
};
// The answer to FetchWanted. Without a state: gone says that there is none, and never will be; else
// the database did not answer.
struct Fetched {
  FetchId fetch = 0;
  bool gone = false;
  std::optional<State> state;
};
// The pool gives the session no further call and drops its state, without telling a caller. A call
// of it that runs goes on; its answer is settled like any other.
struct ForgetSession {
  std::string session;
  std::uint64_t birth = 0;
  std::string reason;
  // An answer of it that waits to be settled may be committed: its Settle says kUnknown.
  bool may_be_kept = false;
};

// ---- the node

// These settings of sessions are in force. The driver reads them and answers with RulesChanged.
struct ObeySettings {
  SharedSettings settings;
};
// The node has left the cluster. The driver may end.
struct Left {};
// Something an operator wants to read.
struct Notice {
  enum class Level : std::uint8_t { kInfo, kWarn, kError } level = Level::kInfo;
  std::string text;
};

using Action =
    std::variant<Ask, Adopt, Admit, Forward, GiveUpHop, Replay, Refuse, Ended, Misdirected, Settle,
                 Fetched, ForgetSession, ObeySettings, Left, Notice>;
using Actions = std::vector<Action>;

}  // namespace keelback::cluster
