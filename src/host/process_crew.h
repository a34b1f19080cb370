// The crew of Linux processes: workers behind a zygote or by exec, watched by a guard. It sends
// what the core orders to their sockets, and does the rungs of the kill ladder. Its parts: Roster
// (who there is), WorkerReading (what they say), WorkerLives (start, death, reloads), WorkerWatch
// (health, memory, logs).
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <vector>

#include "host/crew.h"
#include "host/engine.h"
#include "host/host.h"
#include "host/roster.h"
#include "host/worker_lives.h"
#include "host/worker_reading.h"
#include "host/worker_watch.h"

namespace keelback::host {

class ProcessCrew final : public Crew {
 public:
  // `engine` must outlive the crew.
  ProcessCrew(Engine& engine, const HostConfig& config);

  std::expected<void, StartError> start() override;
  void perform(core::Action& action) override;
  void heard(CrewNews& news) override;
  void configure(const Settings& settings) override;
  void reload(std::move_only_function<void(std::string error)> done) override;
  void reloaded(const std::string& error) override { lives_.reloaded(error); }
  void stop() override;
  void leave_loop() override;

  void dispatch(const core::Dispatch& action, CallRecord& record, CallRecord* self,
                Effects& effects) REQUIRES(host_state) override;
  void stop_worker(const core::StopWorker& action, Effects& effects) REQUIRES(host_state) override;
  void end_session(const core::EndSession& action, Effects& effects) REQUIRES(host_state) override;
  void save_session(const core::SaveSession& action, Effects& effects)
      REQUIRES(host_state) override;
  std::optional<ParkedState> take_parked(WorkerId worker, CallId call, std::uint64_t birth)
      REQUIRES(host_state) override;
  void grant(const CallRecord& record, std::uint32_t items, Effects& effects)
      REQUIRES(host_state) override;
  void tell_outcome(const Providers::Asker& asker, bool ok, std::string json, Effects& effects)
      REQUIRES(host_state) override;
  void end_reading(CallRecord& record) REQUIRES(host_state) override;
  void mark_cancelled(const core::CancelCall& action) REQUIRES(host_state) override;
  bool never_starts(const CallRecord& record) REQUIRES(host_state) override;
  void add_evidence(const CallRecord& record, Outcome& outcome) REQUIRES(host_state) override;
  void limit(const Settings& settings) REQUIRES(host_state) override { roster_.limit(settings); }

  void perform(Effects& effects) override { reading_.perform(effects); }
  void read_for(CallRecord& record) override { reading_.read_for(record); }
  void describe(PoolInfo& info) override;
  void describe(std::vector<WorkerInfo>& workers) override;

 private:
  std::expected<Launcher::Program, StartError> find_programs() const;
  void every_second();
  // The frame of a call, all of it but a large payload and attachments.
  static void encode(const CallRecord& record, const core::Dispatch& dispatch, std::uint16_t row,
                     std::string& frame);
  void restore(const core::Dispatch& action, std::uint16_t row, const WorkerPtr& worker,
               const CallRecord& record, Effects& effects) REQUIRES(host_state);
  void send_restored(const WorkerPtr& worker, CallId call, const store::Fetched& fetched,
                     Effects& effects) REQUIRES(host_state);
  void give_up_restore(WorkerProcess& worker, CallId call, bool gone) REQUIRES(host_state);
  void climb(const core::Action& rung, WorkerId id, CallId call);
  void cancel(const core::CancelCall& action, const WorkerPtr& worker, bool loop, bool streaming);
  void dump(WorkerProcess& worker, CallId call);

  Engine& engine_;
  const HostConfig config_;
  Roster roster_;
  WorkerReading reading_;
  WorkerWatch watch_;
  WorkerLives lives_;
  boost::asio::steady_timer second_;
};

}  // namespace keelback::host
