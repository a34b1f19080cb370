// What is watched about living workers: their health checks, their event loops, their memory, their
// slabs and their log. Loop thread, but for the part under the lock.
#pragma once

#include <string>
#include <vector>

#include "host/engine.h"
#include "host/loop_watch.h"
#include "host/roster.h"
#include "host/worker_reading.h"

namespace keelback::host {

class WorkerWatch {
 public:
  WorkerWatch(Engine& engine, Roster& roster, WorkerReading& reading)
      : engine_(engine), roster_(roster), reading_(reading), loops_(engine, roster) {}

  LoopWatch& loops() { return loops_; }

  // ---- health: the question goes to the worker between two calls, the loop reads the answer, and
  // a timer sees that it comes in time
  void check_health(WorkerId id);

  // ---- memory
  void limit_memory(WorkerProcess& worker);
  // True: workers.memory_limit leaves it so little that it might not even be able to say what it
  // lacks. It is to be killed, and that is why its start has failed.
  bool refuse_limit(WorkerProcess& worker);
  void is_ready(WorkerProcess& worker);  // its memory now is what growth is counted from
  // Once a second: memory that grew, slabs that nobody uses, lines that the log did not take.
  void look();

  // ---- log
  void read_log(WorkerProcess& worker);
  void mark_dropped(WorkerProcess& worker);

 private:
  void watch_check(const WorkerPtr& worker, Duration wait);
  void check_due(const WorkerPtr& worker);
  void sample_memory();
  void shrink_slabs();
  void log_lines(const WorkerProcess& worker, const std::vector<std::string>& lines);

  Engine& engine_;
  Roster& roster_;
  WorkerReading& reading_;
  LoopWatch loops_;
};

}  // namespace keelback::host
