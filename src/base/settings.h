// Every setting with its type and its default. Core, host and server share this struct; each reads
// its own sections. The schema (settings_schema.h) gives each field its key, unit, scope and
// sentence. A field without a row in the schema does not compile.
//
// Scopes: *existing* (a change applies to what exists), *new calls*, *next generation* (worker
// settings: the next worker started), *restart*.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/time.h"
#include "keelback/call.h"

namespace keelback {

struct Bytes {
  std::uint64_t count = 0;
  auto operator<=>(const Bytes&) const = default;
};
constexpr Bytes operator""_KiB(unsigned long long n) { return {n << 10}; }
constexpr Bytes operator""_MiB(unsigned long long n) { return {n << 20}; }
// Texts by name.
using TextTable = std::map<std::string, std::string>;

enum class Backend : std::uint8_t { kPython, kFake, kSim };
enum class ZygoteMode : std::uint8_t { kAuto, kForce, kOff };
// Whether each worker lives in a control group of the kernel.
enum class CgroupMode : std::uint8_t { kAuto, kOff, kRequire };
enum class SnapshotMode : std::uint8_t { kOff, kOnDrain, kEachCall };
// When the caller of a running call gets `timeout`: at the deadline, or when the call has ended or
// its worker was given up.
enum class AnswerAt : std::uint8_t { kDeadline, kEnd };
// Whether a worker is replaced after one of its functions was interrupted at an arbitrary line.
// kReplaceCancelled: it is replaced also if a coroutine ended because it was cancelled.
enum class AfterInterrupt : std::uint8_t { kReplace, kKeep, kReplaceCancelled };
enum class DisconnectPolicy : std::uint8_t { kStateless, kAlways, kNever };
enum class Switch : std::uint8_t { kOff, kOn };
enum class YesNo : std::uint8_t { kNo, kYes };
enum class LogLevel : std::uint8_t { kTrace, kDebug, kInfo, kWarn, kError, kOff };
enum class LogFormat : std::uint8_t { kText, kJson };

struct Settings {
  struct PoolSection {
    std::uint32_t workers = 2;      // existing: resizes a running pool
    std::uint32_t workers_max = 0;  // existing: the pool grows up to this; 0 = its size is fixed
    Duration scale_up_delay = std::chrono::milliseconds(20);  // existing: a pool grows above it
    Duration scale_down_after = std::chrono::minutes(1);      // existing: unneeded for so long
    std::uint32_t min_ready = 1;         // existing: /readyz says ready from this many on
    Backend backend = Backend::kPython;  // restart
    std::uint32_t queue_max = 1024;      // existing: calls waiting in the whole pool
    Duration queue_delay_max{0};         // existing: shed above this queue delay; 0 = off

    // Its size follows the load, from `workers` to `workers_max`.
    bool scales() const { return workers_max > workers; }
    std::uint32_t size_max() const { return std::max(workers, workers_max); }
    // How many workers must serve before the pool is ready; 0: the application must be loaded.
    std::uint32_t ready_from() const { return std::min(min_ready, workers); }
    friend bool operator==(const PoolSection&, const PoolSection&) = default;
  } pool;
  struct CallsSection {
    Duration deadline = std::chrono::seconds(60);   // new calls
    Duration deadline_max = std::chrono::hours(1);  // new calls
    Duration grace = std::chrono::seconds(2);       // existing: the kill ladder's whole length
    AnswerAt answer_at = AnswerAt::kDeadline;       // existing
    AfterInterrupt after_interrupt = AfterInterrupt::kReplace;  // existing
    std::uint32_t retries = 1;                            // new calls: beyond the first attempt
    double retry_budget = 0.2;                            // existing: retries as a share of traffic
    Bytes payload_max = 16_MiB;                           // existing: arguments and results
    Duration idempotency_ttl = std::chrono::minutes(10);  // existing
    Duration stream_idle = std::chrono::seconds(30);  // existing: the longest silence; 0 = no limit
    friend bool operator==(const CallsSection&, const CallsSection&) = default;
  } calls;
  struct AttachmentsSection {
    Bytes max = 64_MiB;      // existing: of one call together, and of one result
    Bytes budget = 256_MiB;  // existing: of all unfinished calls; of all slabs
    // existing: a slab that nobody uses for so long is given back
    Duration keep = std::chrono::seconds(10);
    friend bool operator==(const AttachmentsSection&, const AttachmentsSection&) = default;
  } attachments;
  struct SessionsSection {
    Affinity mode = Affinity::kStrictQueue;          // new sessions
    Duration idle_ttl = std::chrono::minutes(30);    // existing
    Duration max_age = std::chrono::hours(24);       // existing
    std::uint32_t max = 100'000;                     // existing: a smaller table refuses newcomers
    std::uint32_t queue_max = 128;                   // existing: calls waiting in one session
    Duration tombstone_ttl = std::chrono::hours(1);  // existing
    SnapshotMode snapshot = SnapshotMode::kOnDrain;  // existing
    std::string store = "memory";                    // restart: "memory" or "sqlite:PATH"
    Bytes snapshot_max = 1_MiB;                      // existing: of one session
    Bytes store_max = 256_MiB;                       // existing: of all snapshots together
    YesNo restore_other_digest = YesNo::kYes;        // existing: a state of other code
    friend bool operator==(const SessionsSection&, const SessionsSection&) = default;
  } sessions;
  struct WorkersSection {
    std::string python = "python3";         // restart
    std::string user;                       // restart: empty = the daemon's
    ZygoteMode zygote = ZygoteMode::kAuto;  // next generation
    std::uint32_t blas_threads = 1;         // restart: 0 = leave the environment alone
    TextTable env;                          // next generation: variables, over what workers inherit
    std::vector<std::string> devices;  // next generation: slot n gets the (n - 1) modulo count-th
    // existing: a worker from fork to ready, imports included for exec
    Duration start_timeout = std::chrono::seconds(60);
    std::uint32_t concurrency =
        0;  // existing: calls that one worker may run; 0 = as its functions say
    // existing: a loop that does not turn for so long, while shared calls run there, is noticed;
    // 0 = no notice
    Duration loop_lag_warn = std::chrono::milliseconds(100);
    std::uint64_t max_calls = 0;  // next generation: recycle after so many calls; 0 = never
    Duration max_age{0};          // next generation: recycle; 0 = never
    Bytes max_rss = {0};  // next generation: recycle when private memory grew by this; 0 = never
    Bytes memory_limit = {0};              // next generation: RLIMIT_DATA of a worker; 0 = none
    CgroupMode cgroup = CgroupMode::kOff;  // restart
    Bytes memory_max = {0};                // next generation: of all its processes; 0 = none
    std::uint32_t processes_max = 0;       // next generation: with threads; 0 = none
    Duration drain_timeout = std::chrono::seconds(30);  // existing
    // existing: how long a killed process may take to die
    Duration kill_timeout = std::chrono::seconds(10);
    // existing: between two runs of the health functions; 0 = never
    Duration health_every = std::chrono::seconds(10);
    // existing: of processor time that a check could have had
    Duration health_timeout = std::chrono::seconds(1);
    friend bool operator==(const WorkersSection&, const WorkersSection&) = default;
  } workers;
  struct BreakerSection {
    std::uint32_t failures = 5;                   // existing: among the calls it looks at; 0 = off
    double ratio = 0.5;                           // existing: failures as a share of those calls
    Duration window = std::chrono::seconds(10);   // existing
    Duration open_for = std::chrono::seconds(5);  // existing
    friend bool operator==(const BreakerSection&, const BreakerSection&) = default;
  } breaker;
  struct QuarantineSection {
    std::uint32_t deaths = 2;                 // existing: 0 = off
    Duration ttl = std::chrono::minutes(10);  // existing
    friend bool operator==(const QuarantineSection&, const QuarantineSection&) = default;
  } quarantine;
  struct ServerSection {
    std::vector<std::string> listen = {"127.0.0.1:8080"};                  // restart
    std::vector<std::string> admin_listen;                                 // restart
    std::string unix_mode = "0600";                                        // restart
    Switch unix_token = Switch::kOff;                                      // existing
    std::string token;                                                     // existing; a secret
    std::vector<std::string> allowed_hosts;                                // existing
    std::vector<std::string> trusted_proxies;                              // existing
    DisconnectPolicy cancel_on_disconnect = DisconnectPolicy::kStateless;  // existing
    Duration drain_timeout = std::chrono::seconds(30);                     // existing
    friend bool operator==(const ServerSection&, const ServerSection&) = default;
  } server;
  // Several daemons that share one database.
  struct ClusterSection {
    std::string store;                         // restart: empty = this daemon is alone; a secret
    std::string node;                          // restart: empty = the host name
    std::string advertise;                     // restart: where other nodes reach this one
    std::string token;                         // restart; a secret
    Duration lease = std::chrono::seconds(3);  // restart

    friend bool operator==(const ClusterSection&, const ClusterSection&) = default;
  } cluster;
  struct LogSection {
    LogLevel level = LogLevel::kInfo;     // existing
    LogFormat format = LogFormat::kText;  // existing
    friend bool operator==(const LogSection&, const LogSection&) = default;
  } log;
  friend bool operator==(const Settings&, const Settings&) = default;
};

}  // namespace keelback
