// Where session snapshots are kept. One row a session: its state, the number by which the pool
// knows it, and the answer of the call that made it, if that had an idempotency key.
//
// Nothing here blocks: what cannot be answered at once is answered later, from the store's own
// thread. What is asked of one session takes effect in the order in which it was asked. A store
// that cannot do what it is asked says so and goes on; nothing out of date is ever found in it
// again.
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

// The answer of the call after which the state was as it is, for a caller who asks again.
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
  std::uint64_t failed = 0;     // what was asked of it and could not be done
  std::uint64_t set_aside = 0;  // damaged rows and files, since the start
};

class Store {
 public:
  using Done = std::move_only_function<void(bool done)>;
  using OnFetched = std::move_only_function<void(Fetched fetched)>;
  // Something that an operator wants to read; any thread.
  using Notice = std::function<void(bool warn, const std::string& text)>;

  virtual ~Store() = default;

  // In place of what there is of the session. False: it is not stored, and neither is an older one.
  // nullopt: `done` will say.
  virtual std::optional<bool> keep(Record record, Done done) = 0;
  // Whatever there is of this birth. False: it may come back after a crash, the store having
  // failed.
  virtual std::optional<bool> drop(std::string session, std::uint64_t birth, Done done) = 0;
  // The snapshot of exactly this number.
  virtual std::optional<Fetched> fetch(const std::string& session, std::uint64_t birth,
                                       std::uint64_t number, OnFetched done) = 0;
  // What an earlier run has left; once, before anything else is asked.
  virtual std::vector<Record> take_found() { return {}; }
  // Sessions that it has left with nothing that is proven to be their latest. Likewise; one name is
  // told once.
  virtual std::vector<std::string> take_lost() { return {}; }
  // Blocks until everything that was asked is answered; what is asked later is refused.
  virtual void close() {}
  virtual void set_bytes_max(std::uint64_t bytes) = 0;
  virtual Status status() const = 0;
};

}  // namespace keelback::store
