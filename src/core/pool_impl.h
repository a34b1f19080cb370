// The pool's insides. Pool::Impl takes an event, hands it to the part that it is for, and fires
// what is due; the parts decide. Each part is a class with a header that says its duty, what it
// owns and what it asks of others. What a part may ask is what its constructor is given.
//
//   Admission     whether a call comes in
//   Calls         the calls in flight, and how each ends for its caller
//   Nesting       calls that running calls make
//   Keys          idempotency keys: who leads, who joins, who gets a copy
//   Waiting       the calls that wait, which of them go together, and to which worker
//   Runs          the calls that run: dispatched, answered, pressed, settled after a death
//   Sessions      lanes, homes, ends
//   Snapshots     sessions that outlive their worker
//   Blocks        calls that block the event loop of their worker, and whom that excuses
//   Workers       the life of workers
//   Starts        when slots are filled
//   Replacements  workers that are replaced though they are well
//   Scaling       how many workers there are
//   Health        workers that live and are broken
//   Readiness     whether the pool can serve, and why not
//   Shutdown      the end of the pool
//   Views         what can be read
//
// A call's way: Admission → Waiting → Runs → Calls, with Sessions between Waiting and Runs and
// Snapshots between Runs and Calls. A worker's way: Starts → Workers → Starts.
//
// The parts stand on tables and small deciders with tests of their own (call_queue.h,
// session_table.h, worker_table.h, placement.h, breaker.h, retry.h, …), which know nothing of each
// other.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/admission.h"
#include "core/blocks.h"
#include "core/calls.h"
#include "core/frame.h"
#include "core/health.h"
#include "core/keys.h"
#include "core/nesting.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/readiness.h"
#include "core/replacements.h"
#include "core/runs.h"
#include "core/scaling.h"
#include "core/sessions.h"
#include "core/shutdown.h"
#include "core/snapshots.h"
#include "core/starts.h"
#include "core/views.h"
#include "core/waiting.h"
#include "core/workers.h"

namespace keelback::core {

class Pool::Impl {
 public:
  Impl(Settings settings, std::uint64_t seed);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void handle(Time now, const Event& event, Actions& out);
  std::optional<Time> next_deadline() const;
  const Settings& config() const { return frame_.settings; }
  const Views& views() const { return views_; }

 private:
  void advance();  // everything that is due
  void end_step();
  void call_due(Call& call);
  void route(const Event& event);
  void on(const ConfigChanged& event);
  void on(const FunctionsAnnounced& event);
  void announce(Call& waiting);
  void set_capacity(std::uint32_t cap);

  // Parts refer to each other; their order here is that of the seeds they draw.
  Frame frame_;
  Quarantine quarantine_;
  Calls calls_;
  Waiting waiting_;
  Runs runs_;
  Sessions sessions_;
  Snapshots snapshots_;
  Workers workers_;
  Blocks blocks_;
  Starts starts_;
  Replacements replacements_;
  Health health_;
  Readiness readiness_;
  Shutdown shutdown_;
  Keys keys_;
  Nesting nesting_;
  Admission admission_;
  Scaling scaling_;
  Views views_;
  std::vector<FunctionSpec> announced_;
  bool begun_ = false;
};

}  // namespace keelback::core
