// What can be read off a pool: its counts, workers, sessions, and quarantined requests. The core
// fills these types, and every face shows them.
#pragma once

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keelback/outcome.h"
#include "keelback/worker.h"

namespace keelback {

// How large the batches of one function were, from the start of the pool on.
struct BatchSizes {
  static constexpr std::size_t kBounds = 11;  // of 1, 2, 4, … 1024 calls
  std::uint64_t counts[kBounds] = {};         // batches up to the bound, and above the one before
  std::uint64_t batches = 0;
  std::uint64_t calls = 0;

  void add(std::uint32_t size) {
    const std::size_t bound = size <= 1 ? 0 : static_cast<std::size_t>(std::bit_width(size - 1));
    ++counts[bound < kBounds ? bound : kBounds - 1];
    ++batches;
    calls += size;
  }
  double mean() const {
    return batches == 0 ? 0 : static_cast<double>(calls) / static_cast<double>(batches);
  }
};
struct FunctionBatches {
  std::string function;
  BatchSizes sizes;
};

// One consistent picture of one moment.
struct PoolStats {
  bool ready = false;
  std::vector<std::string> reasons;  // why it is not; empty when it is
  // Ready, but not whole: why slots stay empty. Empty when no start has failed since the last good
  // one.
  std::string failing;
  // The first load has failed: every worker's start did, and none has ever been ready. Null: no.
  std::shared_ptr<const Death> load_failure;
  struct {
    std::uint32_t starting = 0, ready = 0, busy = 0, suspect = 0, draining = 0;
  } workers;
  struct {
    std::uint64_t total = 0;  // calls that the workers may run at once
    std::uint64_t used = 0;   // that they run
  } capacity;
  struct {
    std::uint32_t wanted = 0;  // workers
    std::string why;           // a sentence without its full stop
  } scaling;
  std::uint32_t queue_depth = 0;
  std::chrono::nanoseconds queue_delay{0};     // how long the oldest waiting call has waited
  std::uint64_t accepted = 0;                  // every call seen, refusals included
  std::uint64_t in_flight = 0;                 // queued + running + backing off
  std::uint64_t late = 0;                      // still running after their caller got `timeout`
  std::uint64_t outcomes[kOutcomeKinds] = {};  // by OutcomeKind; accepted = in_flight + their sum
  struct {
    std::uint64_t active = 0, opened = 0, expired = 0, lost = 0, restored = 0, ended = 0, moved = 0;
    std::uint64_t evicted = 0;  // left by an earlier run, and sessions.max had no room for them
  } sessions;
  struct {
    std::uint64_t kept = 0, failed = 0;  // failed: not written down by its worker, or not stored
  } snapshots;
  struct {
    std::uint64_t carried_bytes = 0;  // of unfinished calls
    std::uint64_t slab_bytes = 0;     // shared memory of all workers; the driver adds it
  } attachments;
  std::vector<FunctionBatches> batches;  // of each function that takes batches
  std::uint64_t restarts = 0;            // workers started to replace one that died
  std::uint64_t retries = 0;
  std::uint64_t quarantined = 0;  // requests held now
  std::uint64_t abandoned = 0;    // workers that a kill did not end
  std::uint64_t loop_blocks = 0;  // turns of event loops that took 100 ms or loop_lag_warn
  struct {
    std::uint64_t failed = 0;   // checks
    std::uint64_t retired = 0;  // workers that a function has given up
  } health;
  bool draining = false;
  // Workers that have been replaced and serve only the sessions that they hold.
  struct {
    std::uint32_t workers = 0;
    std::uint64_t sessions = 0;
    std::chrono::nanoseconds until{0};  // then the last of them ends
  } leaving;

  std::uint64_t count(OutcomeKind kind) const { return outcomes[static_cast<std::size_t>(kind)]; }
};

struct WorkerStatus {
  WorkerRef worker;
  std::string state;  // "starting", "ready", "busy", "suspect", "draining"
  std::int64_t pid = 0;
  std::uint64_t calls = 0;     // given to this generation
  std::uint32_t sessions = 0;  // bound to it
  std::uint64_t rss_bytes = 0;
  std::chrono::nanoseconds age{0};
  std::string function;  // it runs now; empty: none
  std::string sick;      // why it is to be replaced; empty: it is well
  std::uint64_t log_dropped_lines = 0;
};

struct SessionStatus {
  std::string id;
  WorkerRef worker;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::chrono::nanoseconds idle{0};
  std::chrono::nanoseconds age{0};
  std::string state;  // "idle", "queued", "running"
};

struct SessionList {
  std::uint64_t total = 0;  // all live ones
  std::vector<SessionStatus> items;
  std::optional<std::string> next;  // pass as `after` for the next page
};

// A request that killed workers before. The pool refuses it (kQuarantined) until `remaining` is
// over, or until it is released.
struct QuarantinedRequest {
  std::uint64_t fingerprint = 0;  // of function, session and payload
  std::string function;
  std::string session;       // empty: stateless
  std::uint32_t deaths = 0;  // started attempts that killed their worker, in a row
  std::chrono::nanoseconds remaining{0};
};

}  // namespace keelback
