// One worker process: its descriptors, and which thread may touch what.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/id.h"
#include "base/time.h"
#include "host/channel.h"
#include "host/crew.h"
#include "host/environment.h"
#include "host/host_lock.h"
#include "host/log_lines.h"
#include "host/loop_io.h"
#include "host/shared_calls.h"
#include "host/turn_watch.h"
#include "os/cgroup.h"
#include "os/memory.h"
#include "os/process.h"

namespace keelback::host {

// Who reads the data socket now. Changes under the host's lock only.
enum class Reader : std::uint8_t {
  kNobody,  // the worker is idle: it has nothing to say (its death, its pidfd says)
  kLoop,    // the loop, by the nested epoll
  kCaller,  // the thread that blocks in Driver::call() for the call it runs
};

// The ends that the worker gets.
struct WorkerEnds {
  os::Fd data;
  os::Fd control;
  os::Fd marks;
  os::Fd log;
  std::uint64_t kin = 0;  // os::draw_kin
  os::CgroupPlace place;
  EnvironmentChanges environment;  // against that of the zygote that forks it
};

// A CALL that waits for its session's snapshot to be read.
struct UnsentCall {
  std::string frame;
  std::shared_ptr<const std::string> payload;  // shared with the call, as in Channel
  std::shared_ptr<const Attachments> attachments;
  bool shared = false;
};

// What is known of a worker's event loop. See LoopWatch.
struct LoopRecord {
  TurnWatch turns;
  Duration told{0};  // the core has heard that a turn is so long; 0: of none that is not over
  Time told_turn;
  Time asked;                // the worker was asked whose code runs in this turn
  std::uint64_t answer = 0;  // … and this is the token of its last answer
  CallId runs;               // … and what it said
  bool stack_wanted = false;
};

// Shared (shared_ptr) by the host's table, the threads that are writing to it or reading from it,
// and the calls it runs: whoever is last closes the descriptors.
struct WorkerProcess final : CrewWorker {
  WorkerProcess(WorkerId worker, os::Fd data, std::uint32_t frame_bytes_max,
                std::shared_ptr<SlabBudget> slab_budget, os::Marks shared_marks)
      : CrewWorker(worker),
        budget(std::move(slab_budget)),
        channel(std::move(data), frame_bytes_max, *budget),
        marks(std::move(shared_marks)) {}

  // ---- any thread
  const std::shared_ptr<SlabBudget> budget;  // shared by the host and its workers
  Channel channel;
  os::Marks marks;
  std::atomic<std::uint64_t> log_dropped_lines = 0;
  std::atomic<std::uint64_t> pinged = 0;  // the late call for whose sake it was asked for life
  std::atomic<std::uint64_t> ponged = 0;  // and the last one for which it answered
  std::atomic<pid_t> pid = 0;             // 0: none yet; set once, by the loop
  std::uint64_t kin = 0;                  // os::draw_kin; constant once it is made

  // ---- under the host's lock
  Reader reader GUARDED_BY(host_state) = Reader::kNobody;
  // Dispatched and not yet answered: the call that runs alone (0: none), or those that do not.
  CallId running GUARDED_BY(host_state);
  SharedCalls shared GUARDED_BY(host_state);
  // The first call of the batch that `shared` is; 0: it is none. The batch is known by it.
  CallId batch GUARDED_BY(host_state);
  // Its last call that ran alone and was answered with a result, or its last batch; 0: none.
  std::uint64_t last_ok GUARDED_BY(host_state) = 0;
  // The call that runs alone has asked for something. What it is told may come from any thread, so
  // the loop sends on what the socket does not take, although the call's caller reads.
  bool asks GUARDED_BY(host_state) = false;
  bool drained GUARDED_BY(host_state) = false;      // its socket has been read to the end
  bool stop_wanted GUARDED_BY(host_state) = false;  // SHUTDOWN was sent
  // SAVEs not yet answered; only while no call runs alone.
  std::uint32_t saves GUARDED_BY(host_state) = 0;
  bool checking GUARDED_BY(host_state) = false;  // CHECK not yet answered; as `saves`
  std::vector<ParkedState> parked GUARDED_BY(host_state);
  std::map<CallId, UnsentCall> unsent GUARDED_BY(host_state);  // of those that it runs
  bool runs(CallId call) const REQUIRES(host_state) {
    return call && (running == call || shared.row_of(call) != 0);
  }
  bool idle() const REQUIRES(host_state) { return !running && shared.empty(); }
  // It runs calls beside each other, on its event loop or in threads.
  bool shares() const REQUIRES(host_state) { return !batch && !shared.empty(); }
  // By its marks; see host/started_mark.h.
  bool may_have_begun(CallId call) const REQUIRES(host_state);
  // It runs the call no more; false: it does not run it. The row that it had is free.
  bool end(CallId call) REQUIRES(host_state);
  // The state that came with the call's answer or, without a call, for the session of that birth.
  std::optional<ParkedState> take_parked(CallId call, std::uint64_t birth) REQUIRES(host_state);

  // ---- loop thread
  enum class Step : std::uint8_t { kFork, kConnect, kHello, kReady };
  Step said = Step::kFork;   // the last of CONNECT, HELLO, READY that came; kFork: none
  bool probe = false;        // of a reload: the core does not know it
  bool again = false;        // its second try: the first zygote died before it had forked it
  std::uint64_t zygote = 0;  // which one forked it; 0: the guard spawned it
  os::Pidfd pidfd;
  bool ready_said = false;   // READY has come
  bool refused = false;      // its start has failed because of what we have seen of it
  bool kill_wanted = false;  // we have killed it, or will as soon as its pid is known
  bool dead = false;         // its pidfd has said so
  bool finished = false;     // WorkerExited has been handed in
  std::string fault;         // why we killed it, if the protocol or a start step is to blame
  std::string start_error;   // START_FAILED: "ImportError: no module named x"
  std::string start_step;
  std::string traceback;
  std::optional<Death> death;            // once it has been described
  std::uint64_t own_bytes_at_ready = 0;  // private memory, for workers.max_rss
  bool recycle_asked = false;
  // Of the health check that runs: when it was asked for, and what the worker had had of the
  // processors by then, and by the last look at a check that seems late.
  Time check_began;
  os::ProcessorUse check_use;
  std::optional<os::ProcessorUse> check_seen;
  std::unique_ptr<boost::asio::steady_timer> check_timer;
  LoopRecord loop;
  os::Fd log;
  LogLines lines;
  std::unique_ptr<FdWatch> log_watch;
  std::unique_ptr<FdWatch> death_watch;
  std::unique_ptr<PacketLink> control;
  // Destroys what waits on the loop. Not from within its handlers.
  void leave_loop();
};

// A worker that is not started yet: both ends of everything. The caller launches a process with
// `ends`.
struct NewWorker {
  std::shared_ptr<WorkerProcess> worker;
  os::Fd control;  // our end
  WorkerEnds ends;
};
os::Result<NewWorker> make_worker(WorkerId id, std::uint32_t frame_bytes_max,
                                  std::shared_ptr<SlabBudget> slab_budget);

}  // namespace keelback::host
