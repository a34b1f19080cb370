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
#include "chaos/bad_disk.h"
#include "chaos/channel_order.h"
#include "chaos/history.h"
#include "chaos/holdings.h"
#include "chaos/processors.h"
#include "host/driver.h"

namespace keelback::chaos {

struct Ended {
  std::uint64_t index = 0;  // as given to submit()
  Duration at{0};
  Outcome outcome;
};

// Orders to workers that start while they stand: the control file's lines.
struct StartOrder {
  std::string fault;  // its id: workers write it into the ledger when they obey
  std::string words;  // "fail", "exit 1", "sleep 300", "hang", "wire version"
};

class World {
 public:
  virtual ~World() = default;

  virtual Duration now() = 0;  // from the start of the run
  // Lets time pass until `when`, or until something has ended (then earlier, if `or_ended`).
  virtual void wait_until(Duration when, bool or_ended) = 0;

  virtual std::uint64_t submit(Call call, std::uint64_t index) = 0;  // the pool's call id
  virtual bool cancel(std::uint64_t call) = 0;
  virtual std::vector<Ended> take_ended() = 0;

  virtual host::PoolInfo info() = 0;
  virtual std::vector<host::WorkerInfo> workers() = 0;
  virtual std::string hello() = 0;  // the application's HELLO object; empty: not yet
  virtual bool end_session(const std::string& session) = 0;  // false: there is none
  virtual bool recycle(std::uint32_t slot) = 0;
  virtual void reload() = 0;
  virtual void configure(const Settings& settings) = 0;
  // Drains and takes the pool down; false: it did not end within `limit`.
  virtual bool shut_down(Duration limit) = 0;

  // ---- injecting; each returns the raw evidence or why there is none
  using Evidence = std::expected<std::string, std::string>;
  // A signal to each of these workers at once: they must die of it, or (`harmless`) take it and
  // live on.
  virtual Evidence send_signal(const std::vector<host::WorkerInfo>& workers, int signal,
                               bool harmless) = 0;
  // Undo is SIGCONT.
  virtual Evidence stop(const host::WorkerInfo& worker, Duration at_most) = 0;
  virtual Evidence resume(const host::WorkerInfo& worker) = 0;
  virtual Evidence signal_zygote(int signal, bool harmless) = 0;
  virtual Evidence stop_zygote(Duration at_most) = 0;
  virtual Evidence resume_zygote() = 0;
  // Soft limit of a living worker: "as" bytes above what it has, "nofile" descriptors above.
  virtual Evidence limit(const host::WorkerInfo& worker, const std::string& what,
                         std::uint64_t room) = 0;
  virtual Evidence unlimit(const host::WorkerInfo& worker, const std::string& what) = 0;
  // The worker gets one processor, and shares it with so many who never rest.
  virtual Evidence starve(const host::WorkerInfo& worker, std::uint32_t competitors,
                          Duration at_most) = 0;
  virtual Evidence feed(const host::WorkerInfo& worker) = 0;
  // A place where functions may leave shared memory behind; taken back, nothing is left of it.
  virtual Evidence lend_shared(Duration at_most) = 0;
  virtual Evidence take_back_shared() = 0;
  // What the kernel says of a worker; nullopt: it is gone, or there is no kernel.
  virtual std::optional<Holdings> holdings(const host::WorkerInfo&) { return std::nullopt; }
  virtual std::optional<ProcessorTime> processor_time(const host::WorkerInfo&) {
    return std::nullopt;
  }
  // What starting workers are told from now on; all orders in force, none: all is well.
  virtual Evidence order_starts(const std::vector<StartOrder>& orders) = 0;
  // The interpreter that workers and zygotes are started with is not there any more.
  virtual Evidence hide_interpreter(Duration at_most) = 0;
  virtual Evidence restore_interpreter() = 0;
  // A daemon of our own with the same application, started beside the pool to be killed, or to be
  // pestered by so many bad clients. Takes seconds, on a thread of its own; the result once it is
  // there, waited for if asked.
  virtual void try_daemon(const std::string& fault, std::uint32_t pester) = 0;
  virtual std::optional<Evidence> daemon_seen(const std::string& fault, bool wait) = 0;
  // From now on the session store's writes go wrong, or come late.
  virtual Evidence spoil_disk(const DiskFault& fault) = 0;
  virtual Evidence mend_disk(const std::string& fault) = 0;
  // From now on the answers of this worker go wrong on their way.
  virtual Evidence misbehave(const host::WorkerInfo& worker, const ChannelOrder& order) = 0;
  virtual Evidence behave(const std::string& fault) = 0;
  // How often workers wrote that they obeyed the fault's order, and answers and writes it has hit.
  virtual std::uint64_t obeyed(const std::string& fault) = 0;

  // ---- the ledgers
  virtual std::vector<EffectEvent> effects() = 0;  // all that were written, at the end
  virtual bool effects_known() const = 0;
  virtual bool links_known() const = 0;
  virtual Census census(std::string when) = 0;
  // What is left of the machine; nullopt: the run takes nothing from it.
  virtual std::optional<MachineSample> machine() { return std::nullopt; }
  virtual std::uint64_t trace_hash() const { return 0; }
  // The function that offers a word of the laboratory.
  virtual std::string function_of(const std::string& word) const = 0;
};

struct WorldOptions {
  Settings settings;  // pool.backend chooses
  std::string app;
  std::string directory;  // the run's own, for the ledger and the control file
  std::uint64_t seed = 1;
  bool interpose = false;        // somebody stands between workers and the pool
  bool spoil_disk = false;       // … and between the session store and the kernel
  bool own_interpreter = false;  // workers.python is a script of the run, which can be taken away
};
[[nodiscard]] std::expected<std::unique_ptr<World>, std::string> make_world(
    const WorldOptions& options);
std::unique_ptr<World> make_sim_world(const WorldOptions& options);
[[nodiscard]] std::expected<std::unique_ptr<World>, std::string> make_real_world(
    const WorldOptions& options);

// Waits until every worker is up; false: `limit` passed, interrupted, or none is up and the pool
// has tried so often meanwhile that waiting is in vain.
[[nodiscard]] bool wait_until_whole(World& world, std::uint32_t workers, Duration limit,
                                    const std::function<bool()>& interrupted);

}  // namespace keelback::chaos
