// What a run happens to: a pool of one of the three backends, with what the conductor may do to it.
// The conductor cannot tell them apart, except by asking what can be injected.
//
// Threads: all methods from the conductor's thread. Outcomes arrive through take_ended(), in the
// order in which they came.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/settings.h"
#include "chaos/evidence.h"
#include "chaos/history.h"
#include "chaos/means.h"
#include "host/driver.h"
#include "os/fd.h"

namespace keelback::chaos {

class Nodes;      // nodes/nodes.h
class Processes;  // processes.h

// What came of a stream that numbers its items from 0.
struct Items {
  std::uint64_t n = 0;
  bool in_order = true;

  void take(std::string_view item) {
    in_order = in_order && item == std::to_string(n);
    ++n;
  }
};

struct Ended {
  std::uint64_t index = 0;  // as given to submit() or stream()
  Duration at{0};
  Outcome outcome;
  Items items = {};  // of a stream
};

// Orders to workers that start while they stand: the control file's lines.
struct StartOrder {
  std::string fault;  // its id: workers write it into the ledger when they obey
  std::string words;  // "fail", "exit 1", "sleep 300", "hang", "stay"
};

struct WorldOptions {
  Settings settings;      // pool.backend chooses
  std::string app;        // the user's; empty: the laboratory's functions alone
  std::string directory;  // the run's own, for the ledger and the control file
  std::uint64_t seed = 1;
  std::uint32_t nodes = 0;  // so many daemons share a database; 0: one pool in this process
  // What the scenario's faults set up before the pool starts: FaultClass::prepare.
  std::vector<std::expected<void, std::string> (*)(WorldOptions&)> prepare;

  // ---- set by those
  Means means;
  std::string interpreter;                                       // instead of workers.python
  std::vector<std::pair<std::string, std::string>> environment;  // of workers
  std::function<os::Fd(WorkerId worker, os::Fd theirs)> interpose;
};

class World {
 public:
  explicit World(WorldOptions options) : options_(std::move(options)) {}
  virtual ~World() = default;

  virtual Duration now() = 0;  // from the start of the run
  // Lets time pass until `when`, or until something has ended (then earlier, if `or_ended`).
  virtual void wait_until(Duration when, bool or_ended) = 0;

  virtual std::uint64_t submit(Call call, std::uint64_t index) = 0;  // the pool's call id
  virtual std::uint64_t stream(Call call, std::uint64_t index) = 0;  // its reader is never slow
  virtual bool cancel(std::uint64_t call) = 0;
  virtual std::vector<Ended> take_ended() = 0;

  virtual host::PoolInfo info() = 0;
  virtual std::vector<host::WorkerInfo> workers() = 0;
  // Null: no worker has said HELLO yet.
  virtual std::shared_ptr<const Application> application() = 0;
  virtual bool end_session(const std::string& session) = 0;  // false: there is none
  virtual bool recycle(std::uint32_t slot) = 0;
  virtual void reload() = 0;
  virtual void configure(const Settings& settings) = 0;
  // Drains and takes the pool down; false: it did not end within `limit`.
  virtual bool shut_down(Duration limit) = 0;

  // ---- faults' ways in; what else a fault needs it brings itself
  // A signal to each of these workers at once: they must die of it, or (`harmless`) take it and
  // live on.
  virtual Evidence send_signal(const std::vector<host::WorkerInfo>& workers, int signal,
                               bool harmless) = 0;
  virtual Evidence stop(const host::WorkerInfo& worker, Duration at_most) = 0;  // SIGSTOP
  virtual Evidence resume(const host::WorkerInfo& worker) = 0;
  // What workers are told that start from now on, until it is taken back.
  virtual Evidence order_start(const StartOrder& order) = 0;
  virtual Evidence lift_start(const std::string& fault) = 0;
  // How often starting workers have obeyed the fault's order.
  virtual std::uint64_t obeyed(const std::string& fault) = 0;
  // Null: there are none, this is the simulator.
  virtual Processes* processes() { return nullptr; }
  // Null: there are none.
  virtual Nodes* nodes() { return nullptr; }
  const WorldOptions& options() const { return options_; }

  // ---- the ledgers
  virtual std::vector<EffectEvent> effects() = 0;  // all that were written, at the end
  virtual bool effects_known() const = 0;
  // What was written of sessions; nullopt: nobody kept a journal.
  virtual std::optional<std::vector<CommitEvent>> commits() { return std::nullopt; }
  virtual bool links_known() const = 0;
  virtual Census census(std::string when) = 0;
  // What is left of the machine; nullopt: the run takes nothing from it.
  virtual std::optional<MachineSample> machine() { return std::nullopt; }
  virtual std::uint64_t trace_hash() const { return 0; }
  // The function that offers a word of the laboratory.
  virtual std::string function_of(const std::string& word) const = 0;

 protected:
  WorldOptions options_;  // with the means that faults have added
};

[[nodiscard]] std::expected<std::unique_ptr<World>, std::string> make_world(
    const WorldOptions& options);
std::unique_ptr<World> make_sim_world(const WorldOptions& options);
[[nodiscard]] std::expected<std::unique_ptr<World>, std::string> make_real_world(
    const WorldOptions& options);
[[nodiscard]] std::expected<std::unique_ptr<World>, std::string> make_nodes_world(
    const WorldOptions& options);

// Waits until every worker is up; false: `limit` passed, interrupted, or none is up and the pool
// has tried so often meanwhile that waiting is in vain.
[[nodiscard]] bool wait_until_whole(World& world, std::uint32_t workers, Duration limit,
                                    const std::function<bool()>& interrupted);

}  // namespace keelback::chaos
