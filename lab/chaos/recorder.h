// Sends calls and keeps the ledger of the clients. Samples the pool and follows its workers.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/id.h"
#include "chaos/conductor.h"
#include "chaos/history.h"
#include "chaos/plan.h"
#include "chaos/world.h"

namespace keelback::chaos {

// What a call's outcome says, into its record: all but the reply's meaning and the times.
void take_outcome(CallEvent& call, const Outcome& outcome);

class Recorder {
 public:
  // Both must outlive the recorder.
  Recorder(World& world, const Plan& plan) : world_(world), plan_(plan) {}

  void begin(Duration origin) { origin_ = origin; }
  // Returns the call's index in the history.
  std::uint64_t send(const PlannedCall& call, const std::string& origin, Duration planned);
  void cancel(std::uint64_t index);
  void collect();  // what has ended since
  void sample(Duration at);
  void final_counts();

  std::uint64_t waiting() const { return waiting_; }
  // (ended, ok) of the load whose outcome came at or after `since`.
  std::pair<std::uint64_t, std::uint64_t> ended_since(Duration since) const;
  std::uint64_t ended_in_faults() const { return ended_in_faults_; }
  // Of the last sample.
  const std::vector<host::WorkerInfo>& workers() const { return workers_; }
  // The n-th session whose last ok reply came from this worker; empty: there are not so many.
  std::string session_at(WorkerId worker, std::size_t n = 0) const;
  // Where the session with the most ok replies lives.
  std::optional<WorkerId> busiest_home() const;
  Progress progress() const;
  bool cancelled_known(std::uint64_t index) const;

  History& history() { return history_; }
  Duration now() { return world_.now() - origin_; }

 private:
  void fill(CallEvent& call, const Ended& ended);
  void read_reply(CallEvent& call, const Outcome& outcome);
  bool declared_idempotent(const std::string& function);
  void note_crowds(Duration at);
  struct SessionHome {
    WorkerId worker;
    std::uint64_t replies = 0;
  };

  World& world_;
  const Plan& plan_;
  History history_;
  Duration origin_{0};
  std::uint64_t waiting_ = 0;
  std::uint64_t ended_in_faults_ = 0;
  std::uint64_t ok_ = 0, failed_ = 0;
  std::vector<std::pair<Duration, bool>> ended_;  // of the load: when, ok
  std::vector<host::WorkerInfo> workers_;
  std::map<std::uint32_t, std::string> known_;  // generation: its last known state
  std::map<std::uint32_t, WorkerRef> refs_;
  std::map<WorkerId, std::uint32_t> crowds_;  // how many calls each ran at the last sample
  std::map<std::string, SessionHome> homes_;
  std::map<std::uint64_t, bool> cancelled_;
  std::optional<std::set<std::string>> idempotent_;  // functions that say so; from HELLO
};

}  // namespace keelback::chaos
