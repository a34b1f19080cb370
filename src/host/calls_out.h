// What running calls ask for, and how they hear of its end: functions of the application (nested
// calls) and functions that the program provides (host requests).
//
// A nested call is a call like any other: its record's `done` tells its parent. The core decides
// when it is refused or cancelled because of its parent. Host requests are unknown to the core:
// they end with their parent's attempt, or when the parent is to stop.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/call_record.h"
#include "host/host_lock.h"
#include "host/provider.h"
#include "host/providers.h"
#include "host/worker_ask.h"

namespace keelback::host {

class Engine;

class CallsOut {
 public:
  explicit CallsOut(Engine& engine) : engine_(engine) {}

  // ---- any thread, without the lock
  // What needs no lock of an ask that take() gets.
  void prepare(const CrewWorker& worker, CallId parent, WorkerAsk& ask);
  ProviderId provide(const std::vector<std::string>& names, std::shared_ptr<Provider> provider)
      EXCLUDES(host_state);
  void withdraw(ProviderId provider) EXCLUDES(host_state);
  bool answer(std::uint64_t request, HostReply reply) EXCLUDES(host_state);

  // See SessionPort::route_nested().
  void route_sessions(std::shared_ptr<Provider> provider) EXCLUDES(host_state);

  // ---- under the lock: what workers say. Requires: the worker runs the call.
  void take(const CrewWorker& worker, CallId parent, WorkerAsk& ask, CallRecord* self,
            Effects& effects) REQUIRES(host_state);
  void cancel(const CrewWorker& worker, CallId parent, std::uint64_t request, CallRecord* self,
              Effects& effects) REQUIRES(host_state);

  // ---- under the lock: what becomes of the parents
  void stops(CallId parent, Effects& effects) REQUIRES(host_state);  // it is cancelled, or late
  void ended(CallId parent, Effects& effects) REQUIRES(host_state) {
    if (providers_.open() > 0) providers_.cancel_call(parent, effects.news);
  }
  void ended(WorkerId worker, Effects& effects) REQUIRES(host_state) {
    if (providers_.open() > 0) providers_.cancel_worker(worker, effects.news);
  }

 private:
  using Asker = Providers::Asker;
  void ask_host(const Asker& asker, WorkerAsk& ask, const CallRecord* parent, Effects& effects)
      REQUIRES(host_state);
  void child_ended(const Asker& asker, Outcome&& outcome) EXCLUDES(host_state);
  void refuse(const Asker& asker, std::string_view outcome, std::string_view message,
              Effects& effects) REQUIRES(host_state);

  Engine& engine_;
  std::atomic<bool> routes_sessions_ = false;
  Providers providers_ GUARDED_BY(host_state);
  // The nested calls that have not ended, by their parent and the worker's number.
  std::map<std::pair<CallId, std::uint64_t>, CallId> children_ GUARDED_BY(host_state);
};

}  // namespace keelback::host
