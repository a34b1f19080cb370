// What the nodes of a cluster ask of the database that they share. One asynchronous request, one
// reply. The model database of the tests and PostgreSQL implement these conditions, both exactly
// as they are written here; one suite of tests runs over both.
//
// A reply can be lost after its request took effect (NoReply::kUnknown). A request whose reply was
// lost may even take effect later, after other requests of the same node. No order is promised
// between requests that are under way at the same time. So every write is conditional, and its
// condition names a token or an incarnation, which are random and never used again.
//
// No machine's clock is stored or compared. Times in the tables are the database's own; ages in a
// reply are durations at the moment of the reply.
//
// Words:
//   an owner (name, incarnation) *lives* if there is a row of this name and incarnation that is not
//   retired. Without a row it does not live.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/time.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::cluster {

using Token = std::uint64_t;        // of one claim; random, never 0
using Incarnation = std::uint64_t;  // of one start of a node; random, never 0

// The version of the tables and of the meaning of their rows that this code knows. It works with
// tables and rows of kSchema - 1, kSchema and kSchema + 1: changes from one to the next only add.
inline constexpr std::uint32_t kSchema = 1;

struct Owner {
  std::string node;
  Incarnation incarnation = 0;
  friend bool operator==(const Owner&, const Owner&) = default;
};

struct NodeRow {
  std::string name;
  Incarnation incarnation = 0;
  std::uint64_t beat = 0;    // only ever rises, while the incarnation is the same
  std::string url;           // where other nodes reach it
  std::string digest;        // of its application
  std::uint32_t schema = 0;  // its kSchema
  bool draining = false;
  bool retired = false;  // no beat of this incarnation succeeds any more
};

// A session's state, as its worker wrote it.
struct State {
  std::uint8_t format = 0;                   // store::Format; never 0 in a row
  std::shared_ptr<const std::string> bytes;  // shared with the frame that carries it to a worker
};

// The answer of a call with an idempotency key, for a caller who asks again.
struct Answer {
  std::string key;  // empty: there is none
  std::uint64_t fingerprint = 0;
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kDone;
  std::string payload;
  std::string message;
  std::string type, error, traceback;  // of a Python error; type empty: there is none
};

// How a session has ended, where nobody has told a caller yet.
enum class Fate : std::uint8_t { kAlive, kExpired, kLost };
std::string_view to_string(Fate fate);  // "alive", …; static storage

struct SessionRow {
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t number = 0;    // of the last commit; 0: none
  std::optional<Owner> owner;  // nullopt: it was released
  Token token = 0;             // of the last claim; a release keeps it
  Affinity mode = Affinity::kStrictQueue;
  // Calls may have been acknowledged whose state is not stored. If the owner goes, it is lost.
  bool exposed = false;
  Fate fate = Fate::kAlive;
  Duration age{0};             // since the row was made
  Duration idle{0};            // since the session was used, as far as the database was told
  std::string digest;          // of the application that wrote the state
  std::uint32_t schema = 0;    // kSchema of the node that wrote the row last
  std::optional<State> state;  // only where the request says that it comes along
  Answer answer;               // of the last commit; comes along with the state
};

struct KeyRow {
  std::string key;
  std::uint64_t fingerprint = 0;
  std::string session;  // of whose call it is; empty: of a stateless one
  Owner owner;          // who runs the call, or ran it
  Token token = 0;
  std::optional<Answer> answer;  // nullopt: the call runs, or its owner has gone
};

// What an operator has set in the database, and what it may lose.
struct ServerFacts {
  std::string version;  // "15.14"
  // Another text after each start of the server, and on another server (a promoted replica).
  std::string started;
  bool fsync = true;
  bool full_page_writes = true;
  std::string synchronous_commit = "on";
  std::uint32_t standbys = 0;              // replicas that are attached now
  std::uint32_t synchronous_standbys = 0;  // … of which commits wait for these
  bool in_recovery = false;                // it is a replica: writes fail
};

// The settings of sessions, which are the same for all nodes. The text is the nodes' affair.
struct SharedSettings {
  std::uint64_t version = 0;  // 0: nobody has written any
  std::string text;
};

// ---- nodes

// The name's row becomes this one, with beat 0, whatever stood there: an older incarnation is
// retired by that. Exception: if the row has this very incarnation, nothing changes. If there are
// no settings, these become version 1. -> Joined
struct Join {
  NodeRow node;
  std::string settings;
};
struct Joined {
  bool done = false;         // false: this incarnation is retired already
  std::uint32_t tables = 0;  // the version of the tables
  ServerFacts server;
  SharedSettings settings;
  std::vector<NodeRow> nodes;  // as in Beaten
};

// If name and incarnation match and it is not retired: beat = max(beat, this one), and draining.
// Reads all nodes in any case. Made on a connection of its own, which waits for no other request.
// -> Beaten
struct Beat {
  Owner node;
  std::uint64_t beat = 0;
  bool draining = false;
};
struct Beaten {
  bool done = false;
  std::uint64_t was = 0;  // done: the row's beat before; lower than the last one that was
                          // confirmed: the database went back
  std::string started;    // ServerFacts::started
  SharedSettings settings;
  std::vector<NodeRow> nodes;  // all rows, after the write, by name; retired ones too
};

// Retired, if incarnation and beat are still these. -> Written
struct Retire {
  Owner node;
  std::uint64_t beat = 0;
};
// The row goes, if the incarnation is still this one. -> Written
struct Leave {
  Owner node;
};

// ---- sessions. A refused write says what stands there.

struct Standing {
  std::optional<SessionRow> row;
  std::optional<NodeRow> owner;  // the row of the session's owner, if it lives
};

// State and answer come along if the row's token is `with_state` (and that is not 0). -> Found
struct Find {
  std::string session;
  Token with_state = 0;
};
struct Found : Standing {};

// Without `seen`: a new row, if there is none: birth, epoch 1, number 0, exposed unless each call
// commits, alive, without a state.
// With `seen`: if birth and token of the row are these, and its owner is nullopt, does not live or
// is the claimer itself: epoch + 1, this owner and token; the fate becomes lost if it was alive and
// the row was exposed; exposed becomes true unless each call commits. Number, state and times stay.
// Done: the row after the write, with state and answer. -> Claimed
struct Claim {
  struct Seen {
    std::uint64_t birth = 0;
    Token token = 0;
  };
  std::string session;
  Owner owner;
  Token token = 0;
  std::uint64_t birth = 0;  // of a new row
  Affinity mode = Affinity::kStrictQueue;
  bool commits_each_call = false;
  std::optional<Seen> seen;
};
struct Claimed : Standing {
  bool done = false;
};

// If birth and token match, the row's epoch is not above `epoch` and its number is `after`: state,
// epoch, number, exposed, digest, answer, "used `idle` ago", alive. Without a state: what was
// stored goes. If the answer has a key, the key's row is written in the same transaction; a row
// of that key that another token wrote stays as it is. Condition and writes are one statement or
// one transaction: all or nothing. -> Written
struct Commit {
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  Token token = 0;
  std::uint64_t after = 0;
  std::uint64_t number = 0;  // > after
  std::optional<State> state;
  bool exposed = false;
  std::string digest;
  Duration idle{0};
  Owner owner;  // of the key's row
  Answer answer;
};
struct Written : Standing {
  bool done = false;
};

// If birth and token match: no owner any more. `fate` is written, unless the row's is not alive.
// -> Written
struct Release {
  std::string session;
  std::uint64_t birth = 0;
  Token token = 0;
  Fate fate = Fate::kAlive;
};
// If birth and token match: the row goes. The keys of its calls stay. -> Written
struct Drop {
  std::string session;
  std::uint64_t birth = 0;
  Token token = 0;
};

// Rows of this owner with ids after `after`, in id order (by bytes), at most `most`; without states
// and answers. -> OwnedRows
struct Owned {
  Owner owner;
  std::string after;
  std::uint32_t most = 1000;
};
struct OwnedRows {
  std::vector<SessionRow> rows;
};

// At most `most` rows of each kind go: sessions whose owner is nullopt or does not live and that
// are idle for longer than `idle` or older than `age`; keys older than `keys` that have an answer
// or whose owner does not live; rows of nodes that were retired longer than `nodes` ago. -> Swept
struct Sweep {
  Duration idle{0}, age{0}, keys{0}, nodes{0};
  std::uint32_t most = 1000;
};
struct Swept {
  std::uint64_t sessions = 0, keys = 0, nodes = 0;
};

// ---- idempotency keys

// A new row without an answer, if there is none, or only one older than `ttl` that has an answer or
// whose owner does not live. Or, with `seen`: taken over if the row has that token, no answer, and
// an owner that does not live: this fingerprint, owner and token, age 0. -> KeyOpened
struct KeyOpen {
  std::string key;
  std::uint64_t fingerprint = 0;
  Owner owner;
  Token token = 0;
  Duration ttl{0};
  std::optional<Token> seen;
};
// Reads the row; one that KeyOpen would not count is not there. -> KeyOpened, never done
struct KeyFind {
  std::string key;
  Duration ttl{0};
};
struct KeyOpened {
  bool done = false;
  std::optional<KeyRow> row;     // as it stands now
  std::optional<NodeRow> owner;  // of the row's owner, if it lives
};
// If the token matches, its owner lives and there is no answer yet. -> Written, without a row
struct KeyAnswer {
  std::string key;
  Token token = 0;
  Answer answer;
};
// Nothing of the call ran: the row goes, if the token matches and there is no answer. -> Written
struct KeyDrop {
  std::string key;
  Token token = 0;
};

// ---- settings

// Version + 1, if the version is still this one. -> SettingsWritten
struct WriteSettings {
  SharedSettings settings;
};
struct SettingsWritten {
  bool done = false;
  SharedSettings settings;  // as they stand now
};

// ---- what did not come

struct NoReply {
  // It surely took no effect and never will: it was not sent, or the server refused it.
  bool surely_none = false;
  std::string reason;  // one sentence for people
};

using Request = std::variant<Join, Beat, Retire, Leave, Find, Claim, Commit, Release, Drop, Owned,
                             Sweep, KeyOpen, KeyFind, KeyAnswer, KeyDrop, WriteSettings>;
using Reply = std::variant<NoReply, Joined, Beaten, Written, Found, Claimed, OwnedRows, Swept,
                           KeyOpened, SettingsWritten>;

// "join", "beat", …; static storage.
std::string_view name_of(const Request& request);

class Database {
 public:
  using OnReply = std::move_only_function<void(Reply reply)>;
  virtual ~Database() = default;
  // Does not block. `done` is called exactly once, not from within ask(), at the latest after
  // `patience` (then with NoReply). Thread: that of the driver, for both.
  virtual void ask(Request request, Duration patience, OnReply done) = 0;
};

}  // namespace keelback::cluster
