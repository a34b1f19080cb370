// The processes of a crew, and what holds for all of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/settings.h"
#include "host/driver.h"
#include "host/host_lock.h"
#include "host/worker_process.h"

namespace keelback::host {

using WorkerPtr = std::shared_ptr<WorkerProcess>;

struct Roster {
  explicit Roster(const Settings& first);

  // ---- under the host's lock
  std::unordered_map<WorkerId, WorkerPtr> workers GUARDED_BY(host_state);
  StartPath path GUARDED_BY(host_state);
  OwnUse supervisor_use GUARDED_BY(host_state);
  OwnUse guard_use GUARDED_BY(host_state);
  bool loops_watched GUARDED_BY(host_state) = false;  // see LoopWatch
  std::uint32_t frame_bytes_max GUARDED_BY(host_state) = 0;
  std::uint64_t payload_max GUARDED_BY(host_state) = 0;
  std::uint64_t snapshot_max GUARDED_BY(host_state) = 0;
  std::uint64_t attached_max GUARDED_BY(host_state) = 0;

  WorkerPtr find(WorkerId id) REQUIRES(host_state) {
    const auto found = workers.find(id);
    return found == workers.end() ? nullptr : found->second;
  }
  // The sizes that the settings allow, for workers that are there and those to come.
  void limit(const Settings& now) REQUIRES(host_state);
  // Tells the worker the sizes.
  void limit(WorkerProcess& worker) REQUIRES(host_state);
  std::vector<WorkerPtr> all() REQUIRES(host_state);

  // ---- any thread
  const std::shared_ptr<SlabBudget> slab_budget;  // shared with the workers
  std::atomic<std::uint64_t> log_dropped_workers = 0;
  std::atomic<std::uint64_t> log_dropped_zygotes = 0;

  // ---- loop thread
  Settings settings;
};

}  // namespace keelback::host
