// Where session snapshots are kept. There is one row for each session: its state, the number that
// the pool gave to that state, and the answer of the call that led to it, if that call had an
// idempotency key.
//
// Nothing here blocks. If the store cannot answer at once, it answers later from its own thread.
// Requests about one session take effect in the order in which they were made. A store that cannot
// do what it was asked says so and goes on. It never gives back a state that is out of date.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::store {

// Same values as wire::StateFormat; kNone is never stored.
enum class Format : std::uint8_t { kNone, kJson, kBytes };

struct Snapshot {
  Format format = Format::kJson;
  std::shared_ptr<const std::string> state;  // shared with the frame that carries it to a worker
};

// The answer of the call that led to this state, for a caller who asks again.
struct Answer {
  std::string key;  // empty: there is none
  std::uint64_t fingerprint = 0;
  OutcomeKind kind = OutcomeKind::kOk;
  std::string payload;
  std::string type, message, traceback;  // of an error
};

struct Record {
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t number = 0;
  Affinity mode = Affinity::kStrictQueue;
  std::int64_t opened_ms = 0;  // Unix time: it must mean the same in the next process
  std::int64_t used_ms = 0;
  Snapshot snapshot;  // of what an earlier run has left: without the state
  Answer answer;
};

// What is counted against sessions.store_max.
std::uint64_t bytes_of(const Record& record);

struct Fetched {
  bool gone = false;                 // there is no such snapshot (any more), or it is damaged
  std::optional<Snapshot> snapshot;  // nullopt and not gone: it cannot be read now
};

struct Status {
  std::string name;  // as configured: "memory", "sqlite:PATH"
  bool up = true;
  std::string error;  // why it is not, or the last thing that went wrong
  std::uint64_t sessions = 0;
  std::uint64_t bytes = 0;
  std::uint64_t failed = 0;     // requests that it could not do
  std::uint64_t set_aside = 0;  // damaged rows and files, since the start
};

class Store {
 public:
  using Done = std::move_only_function<void(bool done)>;
  using OnFetched = std::move_only_function<void(Fetched fetched)>;
  // Tells operators something. Any thread.
  using Notice = std::function<void(bool warn, const std::string& text)>;

  virtual ~Store() = default;

  // Replaces what is stored of the session. False: it was not stored, and no older one is left.
  // nullopt: the answer comes through `done`.
  virtual std::optional<bool> keep(Record record, Done done) = 0;
  // Drops what is stored of this birth. False: the store has failed, so that it may come back after
  // a crash.
  virtual std::optional<bool> drop(std::string session, std::uint64_t birth, Done done) = 0;
  // The snapshot of exactly this number.
  virtual std::optional<Fetched> fetch(const std::string& session, std::uint64_t birth,
                                       std::uint64_t number, OnFetched done) = 0;
  // The sessions that an earlier run has left. Call it once, before anything else.
  virtual std::vector<Record> take_found() { return {}; }
  // Sessions of an earlier run of which no row is proven to be the latest. Each name comes once.
  virtual std::vector<std::string> take_lost() { return {}; }
  // Blocks until all requests are answered. Later ones are refused.
  virtual void close() {}
  virtual void set_bytes_max(std::uint64_t bytes) = 0;
  virtual Status status() const = 0;
};

}  // namespace keelback::store
