// What a worker finds in its environment, and how what a dead supervisor has left is recognised.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/id.h"
#include "base/settings.h"
#include "os/user.h"

namespace keelback::host {

// `own` with `extra` over it, PYTHONPATH beginning with `python_directory` (unless empty), and
// KEELBACK_OWNER.
std::vector<std::string> worker_environment(std::vector<std::string> own,
                                            const std::vector<std::string>& extra,
                                            const std::string& python_directory,
                                            const std::string& owner);

// Adds what the user has not set: how many threads numeric libraries may start (0: adds nothing),
// and the seed of Python's hashes. Both must stand before the application is imported, and be the
// same for all workers of a pool, forked or not: sets of texts then have one order in all of them.
void add_python_defaults(std::vector<std::string>& environment, std::uint32_t blas_threads,
                         std::uint32_t hash_seed);

// What turns one environment into another: variables with their values, or without one to go.
using EnvironmentChanges = std::map<std::string, std::optional<std::string>>;
EnvironmentChanges changes_between(const std::vector<std::string>& from,
                                   const std::vector<std::string>& to);

// The environment of the processes that run the application. Made anew for each of them: a setting
// may have changed.
class WorkerEnvironment {
 public:
  struct Parts {
    std::vector<std::string> inherited;  // "NAME=value"
    std::vector<std::string> given;      // by the embedding program; over the settings
    std::string python_directory;        // empty: none is needed
    std::string owner;
    std::optional<std::uint32_t> hash_seed;  // of Python
    os::User user;                           // none: ours
  };
  WorkerEnvironment() = default;
  explicit WorkerEnvironment(Parts parts) : parts_(std::move(parts)) {}

  // workers.devices would overwrite this variable, which is given; empty: no such one.
  std::string taken_device_variable() const;
  // What the import finds: of workers.env the values that are the same for all workers.
  std::vector<std::string> of_zygote(const Settings& settings) const;
  // `{slot}` is the slot's number, 0 in a worker that only tries new code.
  std::vector<std::string> of_worker(const Settings& settings, WorkerId worker) const;

 private:
  std::vector<std::string> with(const Settings& settings, std::vector<std::string> entries) const;

  Parts parts_;
};

// The slot of the worker that tries new code: no pool has it.
inline constexpr std::uint32_t kProbeSlot = UINT32_MAX;

// "PID.START.NAMESPACE": pid and start time of this process, which name it for ever, in the pid
// namespace where they mean that. Everything it starts carries it as KEELBACK_OWNER.
std::string owner_of_this_process();

// False also of an owner of another pid namespace, and of a text that names none.
bool owner_is_dead(const std::string& owner);

// Kills every process of this user whose KEELBACK_OWNER is of our namespace and names a process
// that is no more: what is left when supervisor and guard were both killed. Returns how many.
int sweep_orphans(const std::string& own_owner);

// The longest frame a worker may send when payloads may have `payload_max` bytes. A worker refuses
// a larger result itself (its marks say how large); one that does not is received up to here and
// refused as an error of the call, so that a lowered limit kills nobody.
std::uint32_t frame_bytes_for(std::uint64_t payload_max);

}  // namespace keelback::host
