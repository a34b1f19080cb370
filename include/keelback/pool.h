// A pool of Python workers. Pool::start() makes processes and one thread; the destructor ends them
// all. The library changes nothing else in your process: no signal handlers, no waitpid(-1).
//
// Threads: every method may be called from any thread at once, except moving and destroying.
// Callbacks run on the library's loop thread: they must not block, so they must not use the
// blocking methods here (call, stream reading, drain, reload, wait_ready), and must not throw.
// Errors: nothing here throws; a call ends as Reply or Failure, exactly once.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keelback/call.h"
#include "keelback/config.h"
#include "keelback/function.h"
#include "keelback/host_call.h"
#include "keelback/outcome.h"
#include "keelback/result.h"
#include "keelback/session.h"
#include "keelback/status.h"
#include "keelback/stream.h"

namespace keelback {

// Names a submitted call, to cancel it or to grant it items.
struct CallHandle {
  std::uint64_t id = 0;
};

// Names a function that is provided, to withdraw it.
struct ProviderHandle {
  std::uint64_t id = 0;
};

struct Submission {
  CallHandle handle;
  std::future<Result> result;
};

class Pool {
 public:
  using Done = std::move_only_function<void(Result)>;
  using OnItem = std::move_only_function<void(std::string item)>;

  // Returns as soon as the workers are being started: calls queue until the first one is ready.
  // An error is about this installation or the system (a program of ours that is missing); what is
  // wrong with the application shows in wait_ready(), in stats().reasons and in calls (not_ready).
  [[nodiscard]] static std::expected<Pool, Error> start(Config config);
  // Ends every call in flight, then kills the workers. Call drain() first to let calls finish.
  ~Pool();
  Pool(Pool&&) noexcept;
  Pool& operator=(Pool&&) noexcept;

  // Blocks until at least pool.min_ready workers are ready. If that takes longer than `timeout`: an
  // error with the reasons.
  [[nodiscard]] std::expected<void, Error> wait_ready(std::chrono::nanoseconds timeout);

  // ---- calls

  // Blocks until the call has its outcome, at most until its deadline. If the function still runs
  // then, the caller gets `timeout`, and the function is stopped afterwards. With calls.answer_at =
  // end the caller waits until the function was stopped, at most calls.grace longer.
  Result call(Call call);
  Result call(std::string function, std::string payload = "[]");
  // Returns at once; the future gets its value on the library's thread.
  Submission submit(Call call);
  // `done` runs exactly once, never from within submit().
  CallHandle submit(Call call, Done done);
  // False: no such call is in flight. A queued call ends at once; a running one is asked to stop.
  bool cancel(CallHandle call);
  // The stacks of all Python threads of a call that ran past its deadline (Outcome::call). They are
  // taken while the call is being stopped, after its caller got `timeout`. They are kept for ten
  // minutes, at most 256 of them and 16 MiB. nullopt: there are none, not yet, or no longer.
  std::optional<std::string> dump(CallHandle call);

  // A stream whose items the caller pulls.
  Stream stream(Call call);
  // A stream that calls `item` for each item, then `done`. kAutomatic: each return of `item` allows
  // one more item, so at most 16 are under way. kGranted: after the first 16 items only as many
  // come as grant() allows.
  enum class Flow : std::uint8_t { kAutomatic, kGranted };
  CallHandle stream(Call call, OnItem item, Done done, Flow flow = Flow::kAutomatic);
  void grant(CallHandle call, std::uint32_t items);

  // ---- sessions
  Session session(std::string id);
  SessionList sessions(std::string_view after = {}, std::size_t limit = 100);

  // ---- functions for the Python code

  // From now on Python code that calls keelback.host.NAME(…) gets what `function` answers. Several
  // functions may have one name: the one with the fewest open requests is asked. Several requests
  // may run at once, so `function` may be called by several threads at once.
  ProviderHandle provide(std::string name, HostFunction function);
  // Its open requests raise keelback.HostGone, and it is asked no more; a request that is on its
  // way to it may still come. Does nothing if there is no such function.
  void withdraw(ProviderHandle provider);

  // ---- readers; each one is a consistent picture of one moment
  PoolStats stats();
  std::vector<WorkerStatus> workers();
  // What the application offers; empty until its first worker has said so.
  std::vector<FunctionInfo> functions();
  // The one whose last death is the oldest comes first; at most 4096.
  std::vector<QuarantinedRequest> quarantine();

  // ---- operators

  // Changes settings of the running pool; docs/configuration.md says from when each one applies. A
  // bad key or value, or a setting that takes a restart, is an error and changes nothing.
  [[nodiscard]] std::expected<void, Error> configure(std::string_view key, std::string_view value);
  // All of them, or an error and none.
  [[nodiscard]] std::expected<void, Error> configure(const std::vector<KeyValue>& values);
  // The value in effect.
  [[nodiscard]] std::expected<std::string, Error> setting(std::string_view key);
  // Refuses new calls from now on. Lets accepted calls finish for at most `limit`, then stops the
  // workers. Blocks until all of that is done.
  void drain(std::chrono::nanoseconds limit);
  // Loads the new code while the old code serves, then replaces all workers. Blocks until stateless
  // calls and new sessions go only to the new code. Old workers still serve the sessions that
  // cannot move, for at most workers.drain_timeout. After an error the old code still serves.
  [[nodiscard]] std::expected<void, Error> reload();
  // Replaces the slot's worker: the new one starts, then the old one finishes and stops. False:
  // there is no such slot.
  bool recycle(std::uint32_t slot);
  // Lets a quarantined request run again. False: no request of that fingerprint is quarantined.
  bool release(std::uint64_t fingerprint);

 private:
  explicit Pool(std::unique_ptr<PoolImpl> impl);
  std::unique_ptr<PoolImpl> impl_;
};

}  // namespace keelback
