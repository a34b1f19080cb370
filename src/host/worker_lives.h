// The life of worker processes: start, first words, death; and reloads, whose new code one more
// worker tries first. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/engine.h"
#include "host/host.h"
#include "host/launcher.h"
#include "host/oom_witness.h"
#include "host/roster.h"
#include "host/worker_reading.h"
#include "host/worker_watch.h"

namespace keelback::host {

class WorkerLives {
 public:
  WorkerLives(Engine& engine, Roster& roster, WorkerReading& reading, WorkerWatch& watch,
              Interpose interpose)
      : engine_(engine),
        roster_(roster),
        reading_(reading),
        watch_(watch),
        interpose_(std::move(interpose)) {}

  [[nodiscard]] os::Result<void> start(Launcher::Program program);
  void configure(const Settings& settings) { launcher_->configure(settings); }
  void look();  // once a second
  // Kills every worker; puts Engine::crew_gone when none is left.
  void stop();
  void leave_loop();

  void start_worker(WorkerId id) { start_worker(id, /*probe=*/false, /*again=*/false); }
  void kill(const WorkerPtr& worker);
  // It has said HELLO, READY.
  void said_hello(const WorkerPtr& worker, std::string json);
  void said_ready(const WorkerPtr& worker);
  // Nobody reads its socket any more.
  void reading_ended(const WorkerPtr& worker, const std::string& violation);
  // A dying process closes its socket a moment before its pidfd tells of the death. A process that
  // does not die is of no use without a socket, unless it is on its way out on our order.
  void kill_if_it_lives(const WorkerPtr& worker);

  void reload(std::move_only_function<void(std::string error)> done);
  void reloaded(const std::string& error);

 private:
  Launcher::Handlers launcher_handlers();
  void start_worker(WorkerId id, bool probe, bool again);
  void start_again(const WorkerPtr& worker, bool again);
  void launched(const WorkerPtr& worker, LaunchAnswer answer);
  void never_started(const WorkerPtr& worker, const StartFailure& failure);
  void process_started(const WorkerPtr& worker, const Launched& process);
  void process_dead(const WorkerPtr& worker);
  std::vector<core::StartedCall> started_calls(WorkerProcess& worker);
  CallId culprit(const WorkerProcess& worker, const Death& death) REQUIRES(host_state);
  bool read_to_the_end(const WorkerPtr& worker);
  void finish_death(const WorkerPtr& worker);
  Death describe_death(WorkerProcess& worker);
  void close_worker(const WorkerPtr& worker);
  void probe_ended(const std::string& error);
  void reload_ended(const std::string& error);

  Engine& engine_;
  Roster& roster_;
  WorkerReading& reading_;
  WorkerWatch& watch_;
  const Interpose interpose_;
  std::unique_ptr<Launcher> launcher_;
  OomWitness oom_witness_;
  std::uint32_t probes_ = 0;
  WorkerPtr probe_;
  std::string probe_hello_;
  std::move_only_function<void(std::string)> reload_done_;
  bool reload_committed_ = false;  // the probe is over, and its answer waits for core::Reloaded
  bool stopping_ = false;
};

}  // namespace keelback::host
