// Between the core, which decides what snapshots of sessions are kept, and the store. What the
// store answers at once follows in the same step (Engine::owe); what it answers later is fed in
// from its own thread.
#pragma once

#include <cstdint>

#include "core/action.h"
#include "core/event.h"
#include "host/crew.h"
#include "host/host_lock.h"
#include "store/store.h"

namespace keelback::host {

class Engine;

class SnapshotKeeper {
 public:
  explicit SnapshotKeeper(Engine& engine) : engine_(engine) {}

  void take_found_sessions() EXCLUDES(host_state);
  // A session that another pool has given up: see SessionPort::adopt().
  [[nodiscard]] bool adopt(store::Record record) EXCLUDES(host_state);
  // The state is parked with the crew that has just reported it.
  void keep(const core::KeepSnapshot& action, Crew& crew) REQUIRES(host_state);
  void drop(const core::DropSnapshot& action) REQUIRES(host_state);

 private:
  core::FoundSession found(store::Record& record, std::int64_t now_ms) REQUIRES(host_state);

  Engine& engine_;
};

}  // namespace keelback::host
