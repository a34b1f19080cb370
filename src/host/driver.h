// What a driver of the core offers to the faces (C++ API, HTTP, CLI, laboratories). host::Host runs
// real processes, simdriver::SimDriver runs the simulator; nobody above can tell, and there is no
// is_simulated().
//
// Threads: every method may be called from any thread, unless it says otherwise. Callbacks run on
// the thread of the loop that the driver was given, and must not block. A driver outlives every
// call it was given; its destructor kills what is left.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/application.h"
#include "base/id.h"
#include "base/loop_lag.h"
#include "base/reasons.h"
#include "base/settings.h"
#include "base/time.h"
#include "core/event.h"
#include "core/pool.h"
#include "host/cluster_info.h"
#include "host/provider.h"
#include "keelback/call.h"
#include "keelback/outcome.h"
#include "store/store.h"

namespace keelback::host {

class SessionPort;

using OnOutcome = std::move_only_function<void(Outcome&&)>;
using OnItem = std::move_only_function<void(std::string&& item)>;

// How workers are made at the moment, for people.
struct StartPath {
  std::string mode;     // "zygote", "exec", "fake", "sim"
  std::string state;    // "starting", "up", "down", "fallback"
  std::string reason;   // of a fall-back or a failure; names the module where one is to blame
  double import_s = 0;  // what the application's import took, once
  std::int64_t zygote_pid = 0;  // 0: none
};

struct WorkerInfo : core::WorkerView {
  std::int64_t pid = 0;  // 0: not yet, or simulated
  std::uint64_t rss_bytes = 0;
  std::uint64_t log_dropped_lines = 0;
};

// What a process of ours holds. Other processes of the same user cannot look: docs/security.md.
struct OwnUse {
  std::uint64_t open_fds = 0;
  std::uint64_t resident_bytes = 0;
};

struct PoolInfo {
  PoolStats stats;
  StartPath start;
  store::Status store;  // of session snapshots
  // Lines, and pieces of long lines, that workers and zygotes wrote and the log did not take.
  std::uint64_t log_dropped_workers = 0;
  std::uint64_t log_dropped_zygotes = 0;
  // Both as of the last second or two; zeros: not known yet, or there is no guard.
  OwnUse supervisor;
  OwnUse guard;
  // How long event loops had not turned, as every look while shared calls ran there has seen it;
  // without time in which a worker had no processor.
  LoopLag loop_lag;
};

// What the caller of Driver::end_session() hears.
inline Outcome session_end(bool found, const std::string& session) {
  Outcome outcome;
  outcome.kind = found ? OutcomeKind::kOk : OutcomeKind::kBadRequest;
  outcome.effect = found ? Effect::kDone : Effect::kNone;
  if (found) return outcome;
  outcome.reason = kNoSession;
  outcome.message = "There is no session \"" + session + "\".";
  return outcome;
}

class Driver {
 public:
  virtual ~Driver() = default;

  // Blocks until the call has its outcome; the calling thread does its own worker's I/O where it
  // can.
  virtual Outcome call(Call call) = 0;
  // `done` is called exactly once, also for refusals, never from within submit().
  virtual CallId submit(Call call, OnOutcome done) = 0;
  // A stream: items in order, then `done`. The first 16 items come unasked; grant() allows more.
  // A function that does not stream ends with its payload in the outcome and no item.
  virtual CallId stream(Call call, OnItem item, OnOutcome done) = 0;
  // A call that another node of the cluster has sent here (docs/http.md, Between nodes). Without
  // `item` it is as submit(), with it as stream(). A driver that sends calls to other nodes never
  // sends such a call on: if this node does not own its session, the outcome is kNotReady, effect
  // none, with reason kNotOwner (base/reasons.h). A driver that is alone owns every session.
  virtual CallId take_hop(std::string_view /*sender*/, Call call, OnItem item, OnOutcome done) {
    return item ? stream(std::move(call), std::move(item), std::move(done))
                : submit(std::move(call), std::move(done));
  }
  virtual void grant(CallId call, std::uint32_t items) = 0;
  // The caller cancels or has left. False: no such call is in flight.
  virtual bool cancel(CallId call) = 0;
  // The stacks of a call whose caller heard at its deadline, before they were taken; kept as
  // core::LateDumps says. nullopt: none was taken, not yet, or it is gone.
  virtual std::optional<std::string> dump(CallId call) = 0;

  virtual PoolInfo info() = 0;
  virtual std::vector<WorkerInfo> workers() = 0;
  virtual SessionList sessions(std::string_view after, std::size_t limit) = 0;
  // As its last HELLO describes it; null: no worker has said HELLO. Shared by the driver and its
  // readers, because another HELLO may come while one of them reads.
  virtual std::shared_ptr<const Application> application() = 0;
  virtual std::vector<QuarantinedRequest> quarantine() = 0;

  // Gives the core an operator's event. False: what it names is not there (core::Pool::knows), and
  // nothing was done.
  virtual bool apply(const core::Event& event) = 0;
  bool end_session_here(std::string_view session) { return apply(core::SessionEnded{session}); }
  bool release(std::uint64_t fingerprint) { return apply(core::QuarantineReleased{fingerprint}); }
  bool recycle(std::uint32_t slot) { return apply(core::RecycleRequested{slot}); }
  // The laboratory is about to end this worker: no request is to blame for that death.
  void order_death(WorkerId worker) { static_cast<void>(apply(core::DeathOrdered{worker})); }

  // Ends a session, wherever it is. Does not block. `done` is called exactly once, maybe from
  // within, else on the loop. kOk: the session has ended; a call of it that runs goes on.
  // kBadRequest with reason kNoSession (base/reasons.h): there is none. Else why it could not be
  // ended; effect kMaybe: it may have ended, and may be ended again.
  virtual void end_session(std::string session, OnOutcome done) {
    done(session_end(end_session_here(session), session));
  }
  // Another node of the cluster asks for that; as with take_hop(), it is not sent on.
  virtual void take_hop_end(std::string_view /*sender*/, std::string session, OnOutcome done) {
    end_session(std::move(session), std::move(done));
  }

  virtual void configure(const Settings& settings) = 0;
  // New code: probe a new zygote aside, then replace workers rolling. `done` gets an empty string,
  // or why the old code still serves.
  virtual void reload(std::move_only_function<void(std::string error)> done) = 0;
  // Refuse new calls, finish accepted ones for at most `limit`, stop the workers; then `done`.
  virtual void drain(Duration limit, std::move_only_function<void()> done) = 0;

  // ---- functions that this program provides to Python code (provider.h)

  // From now on `provider` is asked for these names. Several may provide a name: the one with the
  // fewest open requests is asked. Shared with its requests that are under way.
  virtual ProviderId provide(std::vector<std::string> names,
                             std::shared_ptr<Provider> provider) = 0;
  // Its open requests fail, and it is asked no more; a request that is on its way to it may still
  // come, and answering it says false. Unknown: nothing happens.
  virtual void withdraw(ProviderId provider) = 0;
  // False: nobody waits for this request any more, or there never was such a request.
  virtual bool answer(std::uint64_t request, HostReply reply) = 0;

  // How its sessions are shared with other pools (session_port.h); null: they are not.
  virtual SessionPort* session_port() { return nullptr; }
  // The cluster that this driver is a node of; nullopt: it is none. On the loop's thread at once,
  // elsewhere it blocks for a turn of the loop.
  virtual std::optional<ClusterInfo> cluster() { return std::nullopt; }

  // The driver's clock: real on the host, virtual in the simulator.
  virtual Time now() const = 0;
};

}  // namespace keelback::host
