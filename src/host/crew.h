// A crew of workers, as the engine knows it: what it orders, and what it asks. ProcessCrew runs
// Linux processes. What the workers do and say, a crew reports to the engine (engine.h): their
// answers, items and snapshots under the lock, their readiness and their ends as events of the
// core.
//
// What a crew owes is what the core's driver owes (core/pool.h): an answer comes once for each
// dispatched call, and a worker's exit comes after everything that it said.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/settings.h"
#include "core/action.h"
#include "host/call_record.h"
#include "host/driver.h"
#include "host/host_lock.h"
#include "store/store.h"

namespace keelback::host {

struct StartError {
  std::string message;  // one sentence
};

// What a crew has put into the inbox and gets back on the loop, in the order of the core's actions.
struct CrewNews {
  std::shared_ptr<CrewWorker> worker;
  std::uint8_t kind = 0;  // the crew's own
  std::string text;
};

// A session's state that a worker has sent, until the core says what is to be done with it.
struct ParkedState {
  CallId call;  // it came with the answer of this call; 0: without a call
  std::uint64_t birth = 0;
  store::Format format{};
  std::string state;
};

class Crew {
 public:
  virtual ~Crew() = default;

  // ---- the loop thread
  [[nodiscard]] virtual std::expected<void, StartError> start() = 0;
  // StartWorker, KillWorker, a rung of the ladder, CheckWorker, a Notice that wants a stack. The
  // worker may be gone by now.
  virtual void perform(core::Action& action) = 0;
  virtual void heard(CrewNews& news) = 0;
  virtual void configure(const Settings& settings) = 0;
  // Loads new code, then hands core::ReloadRequested in. `done` gets an empty string, or why the
  // old code still serves.
  virtual void reload(std::move_only_function<void(std::string error)> done) = 0;
  virtual void reloaded(const std::string& error) = 0;  // core::Reloaded
  // Kills every worker; puts Engine::crew_gone when none is left.
  virtual void stop() = 0;
  // After this nothing of the crew waits on the loop. May block it for a while.
  virtual void leave_loop() = 0;

  // ---- under the lock
  // Sends the call to the worker, and makes its blocked caller the reader, if it can.
  virtual void dispatch(const core::Dispatch& action, CallRecord& record, CallRecord* self,
                        Effects& effects) REQUIRES(host_state) = 0;
  virtual void stop_worker(const core::StopWorker& action, Effects& effects)
      REQUIRES(host_state) = 0;
  virtual void end_session(const core::EndSession& action, Effects& effects)
      REQUIRES(host_state) = 0;
  virtual void save_session(const core::SaveSession& action, Effects& effects)
      REQUIRES(host_state) = 0;
  virtual std::optional<ParkedState> take_parked(WorkerId worker, CallId call, std::uint64_t birth)
      REQUIRES(host_state) = 0;
  // The stream of the record has so much more credit.
  virtual void grant(const CallRecord& record, std::uint32_t items, Effects& effects)
      REQUIRES(host_state) = 0;
  // How what a call on a worker has asked for has ended: `json` is the result, or says why there is
  // none. Does nothing if the call does not run there any more.
  virtual void tell_outcome(const Providers::Asker& asker, bool ok, std::string json,
                            Effects& effects) REQUIRES(host_state) = 0;
  // The call has ended before its answer: its caller, which reads, must find the end.
  virtual void end_reading(CallRecord& record) REQUIRES(host_state) = 0;
  // From now on the call does not start, if it has not. The rung itself is climbed on the loop.
  virtual void mark_cancelled(const core::CancelCall& action) REQUIRES(host_state) = 0;
  // True: the call, which is marked so, has not started and never will. False: it may have.
  virtual bool never_starts(const CallRecord& record) REQUIRES(host_state) = 0;
  // Adds what the worker's silence and its stacks tell of a call that has ended.
  virtual void add_evidence(const CallRecord& record, Outcome& outcome) REQUIRES(host_state) = 0;
  virtual void limit(const Settings& settings) REQUIRES(host_state) = 0;  // sizes, from now on

  // ---- any thread, without the lock
  virtual void perform(Effects& effects) EXCLUDES(host_state) = 0;  // flush and arm
  // A blocked caller has seen kRead: does its worker's I/O until that bit is gone.
  virtual void read_for(CallRecord& record) EXCLUDES(host_state) = 0;
  virtual void describe(PoolInfo& info) EXCLUDES(host_state) = 0;
  virtual void describe(std::vector<WorkerInfo>& workers) EXCLUDES(host_state) = 0;
};

}  // namespace keelback::host
