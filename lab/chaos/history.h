// What happened in a run, as it was recorded: three ledgers (what clients saw, what the pool said,
// what workers did) and what the laboratory did, one JSON object a line in events.jsonl. Judging
// needs nothing else, so old runs can be judged again.
//
// All times are from the start of the run, of one clock: CLOCK_MONOTONIC, or virtual time.
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "chaos/machine.h"
#include "keelback/outcome.h"

namespace keelback::chaos {

// The client ledger: one record a call.
struct CallEvent {
  std::uint64_t index = 0;
  std::string
      origin;  // "trial", "load", "probe", "verify", or the id of the fault that it belongs to
  std::string function;
  std::string session;
  std::uint64_t token = 0;
  bool own = false;  // of the application, not of the laboratory
  bool idempotent = false;
  bool left = false;  // its client did not wait for the end
  Duration planned{0}, sent{0}, done{0}, deadline{0};
  std::uint64_t call = 0;      // the pool's id; 0: never sent
  std::uint32_t outcomes = 0;  // how often its callback ran
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kNone;
  WorkerRef worker;
  std::uint32_t attempts = 0;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  Duration queued{0}, ran{0};
  std::string error_type;   // Python's
  std::string death_cause;  // of worker_died
  int death_signal = 0;
  int death_code = -1;
  std::string death_role;      // what the call was to it: "culprit", "bystander", "suspect"
  std::string death_detail;    // bounded; to a bystander it names the culprit
  std::string message;         // bounded
  bool mine = true;            // an ok reply of echo, chain or gather carries this call's own token
  bool intact = true;          // … and reads as it should
  std::uint64_t position = 0;  // of chain: how many steps the session has had, from its reply
  std::uint64_t link = 0;      // … and the chain's value, if the worker computes one
  std::uint64_t items = 0;     // of a stream: how many came …
  std::uint64_t items_due = 0;  // … of how many
  std::uint64_t number = 0;     // of a batch's call: its first argument, which is its answer
  std::uint64_t request = 0;    // hash of function, session and arguments

  bool finished() const { return outcomes > 0; }
  bool ok() const { return outcomes > 0 && kind == OutcomeKind::kOk; }
};

// The workers' ledger: one record each time a function's body began.
struct EffectEvent {
  std::uint64_t call = 0;
  WorkerRef worker;
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::string key;  // of several nodes: the call's first argument, as `call` says nothing there
};

// A change of a session's row in the database of a cluster, in the order in which they took effect.
struct CommitEvent {
  std::string what;  // "INSERT", "UPDATE", "DELETE"
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t number = 0;    // of commits
  std::uint64_t token = 0;     // of the last claim
  std::string owner;           // a node's name; empty: it was released
  std::string writer;          // the node that has changed the row
  std::uint64_t position = 0;  // of the chain that the state holds; 0: there is none
  bool lost = false;           // the row says that the session is over
};

// The pool's own words, asked again and again.
struct Sample {
  Duration at{0};
  bool ready = false;
  std::uint32_t up = 0;  // ready + busy
  std::uint32_t starting = 0, suspect = 0, draining = 0;
  std::uint32_t queue = 0;
  std::uint64_t accepted = 0, in_flight = 0, outcomes = 0;
  std::uint64_t restarts = 0, sessions = 0, opened = 0, lost = 0, quarantined = 0;
  std::uint64_t rss = 0;  // of our own process, bytes; 0: not known
  bool store_up = true;   // the session store takes what it is given
};

// A worker's life, as far as it was seen.
struct WorkerEvent {
  Duration at{0};
  WorkerRef worker;
  std::int64_t pid = 0;
  std::string what;  // "seen", "ready", "suspect", "draining", "gone"
};

// How many calls a worker runs at once, by the pool's own word, whenever that has changed.
struct CrowdEvent {
  Duration at{0};
  WorkerRef worker;
  std::uint32_t calls = 0;
};

struct FaultEvent {
  std::string id;
  std::uint32_t round = 0;
  std::string fault_class;
  Duration fired{0};
  std::vector<WorkerRef> targets;
  std::vector<std::int64_t> pids;
  bool placebo = false;
  bool bit = false;
  Duration bite{0};   // when the evidence was there
  std::string proof;  // the raw evidence, or why there is none
  bool undone = false;
  Duration undo{0};
  std::string harm;  // what its class rules out and it did all the same
};

// What the machine held of ours before and after.
struct Census {
  std::string when;  // "before", "after"
  bool known = false;
  std::uint64_t descriptors = 0, threads = 0;
  std::vector<std::string> processes;  // descendants and whatever carries the run's mark
  std::vector<std::string> files;      // in /dev/shm and the temporary directory
};

struct Note {
  Duration at{0};
  std::string text;
};

// What was learnt of one of the application's functions before the run; see application.h.
struct AppFunction {
  std::string name;
  std::string payload;      // the arguments that it was called with, JSON
  bool called = false;      // in the load
  std::string why_not;      // … or why not
  bool stateless = false;   // it answers without a session
  bool in_session = false;  // it answers in one
  bool idempotent = false;
  std::uint64_t tried = 0;
  Duration usual{0};  // median of its ok answers
  Duration first{0};  // median of the first answers of workers that had not served it
  std::uint64_t first_calls = 0;
  std::string isolation;  // "holds", "shared", "outlives", or why that is not known
  std::string isolation_witness;
  std::string stops;  // at its deadline: "stops", "killed", or why that is not known
  std::string stops_witness;
  std::string source_witness;      // "app.py:12: except:", where it swallows everything
  std::string held;                // "app.lock": locks that stayed held after an interrupt
  std::uint64_t growth_calls = 0;  // so many calls were measured; 0: none
  double bytes_per_call = 0;       // its worker's private memory
  double descriptors_per_call = 0, threads_per_call = 0;
};

// Facts about the run that judging needs.
struct RunFacts {
  std::string backend;
  bool effects_known = false;  // a worker ledger was kept
  bool links_known = false;    // chain replies carry the chain's value
  bool commits_known = false;  // a cluster's database kept a journal
  bool stopped = false;        // a stop condition, or the operator
  std::string stop_reason;
  Duration shutdown{0};
  bool shut_down = false;
  std::uint64_t accepted = 0;  // the pool's last word, when all was quiet
  std::map<std::string, std::uint64_t> outcomes;
  std::vector<std::string> not_ready;   // why it was not ready then; empty: it was
  std::uint64_t loop_blocks = 0;        // turns of event loops that took too long, by its word
  std::vector<std::uint64_t> loop_lag;  // looks at event loops, by base/loop_lag.h's bounds
  double import_s = 0;                  // what the application's import took, once
  std::string start_mode;               // "zygote", "exec", "fake", "sim"
  std::string start_reason;             // of a fall-back to exec: names the module
  MachineFacts machine;
  Duration generator_lag{0};           // how late the load was sent, p99
  std::string generator;               // why the load generator must not be trusted; empty: it may
  std::uint64_t trace_hash = 0;        // of the simulator
  std::uint64_t trace_hash_again = 0;  // of the same plan, run a second time; 0: it was not
};

struct History {
  RunFacts facts;
  std::vector<CallEvent> calls;  // by index
  std::vector<EffectEvent> effects;
  std::vector<CommitEvent> commits;
  std::vector<Sample> samples;
  std::vector<WorkerEvent> workers;
  std::vector<CrowdEvent> crowds;
  std::vector<FaultEvent> faults;
  std::vector<Census> census;
  std::vector<AppFunction> functions;  // of the application
  std::vector<Note> notes;
  std::vector<MachineSample> machine;  // a few times a second; none on the simulator

  const Census* census_of(std::string_view when) const;
};

std::string to_jsonl(const History& history);
[[nodiscard]] std::expected<History, std::string> history_from_jsonl(std::string_view text);

}  // namespace keelback::chaos
