// The host's insides; private to host*.cpp.
//
// Threads. The thread of the loop that the host was given has processes, logs, timers and the
// asynchronous calls' sockets. Any thread may block in call() and does its own worker's I/O
// meanwhile. Both meet in lock_, which guards the core, the call table and who reads which socket.
//
//   1  Under the lock the core is asked and its actions are booked (apply): no system call that may
//      block, no callback. Frames are pushed to their channel here, so they leave in the core's
//      order.
//   2  After the lock the thread performs what it booked (perform): flushes channels, wakes
//   callers,
//      arms the nested epoll. Any thread may do this for any channel.
//   3  What only the loop may do waits in the inbox, in the core's order: starts, kills,
//   completions.
//
// Reading (Reader in worker_process.h) has two policies. Exclusive: a dispatched call's socket is
// read by its blocked caller. Loop: the loop reads it. A caller gives its reading up when the
// answer or the end has come, or when its deadline has passed and it has heard so: then the loop
// reads on (leave_to_loop). WorkerExited is handed in only when no caller reads. So nobody ever
// takes a socket away from a thread in recv. Who must wake that thread (a death, an outcome before
// the answer) shuts the reading down and lets the thread find the end.
//
// A caller's record lies on its stack. Its word is the last thing that others touch, under the
// lock; after it they know the address only.
#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "core/id_index.h"
#include "core/late_dumps.h"
#include "core/pool.h"
#include "host/event_loop.h"
#include "host/host.h"
#include "host/host_lock.h"
#include "host/launcher.h"
#include "host/oom_witness.h"
#include "host/request_print.h"
#include "host/worker_process.h"
#include "os/clock.h"
#include "os/epoll.h"
#include "store/store.h"

namespace keelback::host {

// A call in flight, as the host knows it.
struct CallRecord {
  static constexpr std::uint32_t kRead = 1;  // `reading` is yours: receive
  static constexpr std::uint32_t kDone = 2;  // `outcome` is there

  CallRecord(CallId call_id, Call&& asked) : id(call_id), call(std::move(asked)) {}

  const CallId id;
  std::uint64_t fingerprint = 0;
  Call call;  // its payload is in large_payload, if that is set
  std::shared_ptr<const std::string> large_payload;  // shared with the channel that sends it
  std::shared_ptr<const Attachments> attachments;    // shared likewise; null: there are none
  std::uint64_t attachment_bytes = 0;
  std::string attachment_fault;
  std::uint64_t quick_print = 0;  // with attachments only: see request_print.h
  bool blocking = false;
  bool streaming = false;
  OnItem item;
  OnOutcome done;

  // It has the call now, or had it last.
  std::shared_ptr<WorkerProcess> worker GUARDED_BY(host_state);
  std::shared_ptr<WorkerProcess> reading GUARDED_BY(host_state);  // a blocked caller reads this one
  std::string result GUARDED_BY(host_state);
  Attachments result_attachments GUARDED_BY(host_state);
  std::optional<PythonError> python GUARDED_BY(host_state);
  core::ReplyKind reply GUARDED_BY(host_state){};  // of its answer, once there is one
  // Its caller heard at the deadline. This record took the place of the caller's and lies on the
  // heap; it stays until the call ends.
  bool told GUARDED_BY(host_state) = false;
  Time deadline GUARDED_BY(host_state) = Time::max();  // of a call that was dispatched
  bool dump_asked GUARDED_BY(host_state) = false;
  std::size_t dump_from GUARDED_BY(host_state) = 0;  // earlier dumps of that worker end here
  std::string dump_note GUARDED_BY(host_state);      // why there is none
  // All the credit that its stream was given. Each attempt gets it anew: one that follows another
  // has nothing of the stream behind it (the core runs no stream again that has spoken).
  std::uint32_t granted GUARDED_BY(host_state) = 0;

  // For its blocked caller, which has seen kRead: until it gives the reading up, nobody changes
  // these.
  std::pair<std::shared_ptr<WorkerProcess>, Time> to_read() const
      KEELBACK_TS(no_thread_safety_analysis) {
    return {reading, deadline};
  }

  Outcome outcome;
  std::atomic<std::uint32_t> word = 0;  // what a blocked caller sleeps on
};

// What a thread has booked under the lock and performs after it.
struct Effects {
  core::Actions actions;  // scratch
  std::string frame;      // scratch: of a call that is being dispatched
  std::vector<std::shared_ptr<WorkerProcess>> flush;
  std::vector<std::shared_ptr<WorkerProcess>> arm;
  std::vector<const std::atomic<std::uint32_t>*> wake;  // addresses only
  bool poke = false;                                    // the loop has something to do
};

class HostImpl final : public Driver {
 public:
  explicit HostImpl(HostConfig config);
  ~HostImpl() override;
  std::expected<void, StartError> start();

  Outcome call(Call call) override;
  CallId submit(Call call, OnOutcome done) override;
  CallId stream(Call call, OnItem item, OnOutcome done) override;
  void grant(CallId call, std::uint32_t items) override;
  bool cancel(CallId call) override;
  std::optional<std::string> dump(CallId call) override;
  PoolInfo info() override;
  std::vector<WorkerInfo> workers() override;
  core::Pool::SessionPage sessions(std::string_view after, std::size_t limit) override;
  Application application() override;
  std::vector<core::QuarantineView> quarantine() override;
  bool apply(const core::Event& event) override;
  void configure(const Settings& settings) override;
  void reload(std::move_only_function<void(std::string error)> done) override;
  void drain(Duration limit, std::move_only_function<void()> done) override;
  Time now() const override { return os::monotonic_now(); }

 private:
  using WorkerPtr = std::shared_ptr<WorkerProcess>;
  struct Completion {
    std::unique_ptr<CallRecord> record;
  };
  struct Item {
    CallRecord* record;  // its Completion comes later in the inbox
    std::string bytes;
  };
  struct Drained {  // the socket has been read to its end
    WorkerPtr worker;
    std::string violation;
  };
  struct Blocked {  // its channel holds frames that the socket did not take
    WorkerPtr worker;
  };
  struct Hello {  // a worker's, with its JSON
    WorkerPtr worker;
    std::string json;
  };
  struct Ready {
    WorkerPtr worker;
  };
  using InboxItem = std::variant<core::Action, Completion, Item, Drained, Blocked, Hello, Ready>;

  std::expected<void, StartError> start_on_loop();
  std::expected<Launcher::Program, StartError> find_programs() const;
  Launcher::Handlers launcher_handlers();
  void stop_workers();
  void leave_loop();
  void end_remaining_calls();

  // ---- host_calls.cpp: the callers' side
  void prepare(CallRecord& record);
  void prepare_attachments(CallRecord& record) EXCLUDES(host_state);
  CallId enter(std::unique_ptr<CallRecord> record);
  void begin(CallRecord& record, Effects& effects) REQUIRES(host_state);
  void await(CallRecord& record);
  void read_as_caller(CallRecord& record);
  // The frame of a call, all of it but a large payload and attachments.
  void encode(const CallRecord& record, const core::Dispatch& dispatch, std::string& frame) const;
  std::uint64_t print_of_victim(WorkerProcess& worker) EXCLUDES(host_state);

  // ---- host_core.cpp: the core under its lock, and what follows from it
  void step(const core::Event& event, CallRecord* self, Effects& effects) REQUIRES(host_state);
  void apply(core::Action& action, CallRecord* self, Effects& effects) REQUIRES(host_state);
  void dispatch(const core::Dispatch& action, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  void resolve(core::Resolve& action, CallRecord* self, Effects& effects) REQUIRES(host_state);
  void replay(const core::ReplayOutcome& action, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  void tell(core::TellCaller& action, CallRecord* self, Effects& effects) REQUIRES(host_state);
  void end_told(CallRecord& record, core::Resolve& action, Effects& effects) REQUIRES(host_state);
  void complete(CallRecord& record, CallRecord* self, Effects& effects) REQUIRES(host_state);
  void for_loop(InboxItem item, Effects& effects) REQUIRES(host_state);
  void take(WorkerProcess& worker, WorkerMessage& message, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  bool take_answer(WorkerProcess& worker, WorkerMessage& message, CallRecord* self,
                   Effects& effects) REQUIRES(host_state);
  bool take_start(const WorkerPtr& worker, WorkerMessage& message, Effects& effects)
      REQUIRES(host_state);
  // All of a reader's packet; `received` says whether the end came with it.
  void take_all(const WorkerPtr& worker, std::vector<WorkerMessage>& messages,
                Channel::Received received, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  void release_reading(WorkerProcess& worker, CallRecord* self) REQUIRES(host_state);
  // The caller has heard and does not wait for the answer: the loop reads it.
  void leave_to_loop(CallRecord& self, Effects& effects) REQUIRES(host_state);
  // What the store has answered at once: events, after the actions that asked for them.
  void follow_up(CallRecord* self, Effects& effects) REQUIRES(host_state);
  void settle(Effects& effects) REQUIRES(host_state);  // last under the lock: the timer
  void perform(Effects& effects) EXCLUDES(host_state);
  void feed(const core::Event& event) EXCLUDES(host_state);
  void announce(const std::string& hello_json) EXCLUDES(host_state);
  WorkerPtr find(WorkerId id) REQUIRES(host_state);
  CallRecord* find(CallId id) REQUIRES(host_state);

  // ---- host_snapshots.cpp: between the core, the workers and the store
  std::shared_ptr<store::Store> make_store();
  void take_found_sessions() EXCLUDES(host_state);
  void save_session(const core::SaveSession& action, Effects& effects) REQUIRES(host_state);
  void read_between_calls(const WorkerPtr& worker, Effects& effects) REQUIRES(host_state);
  void end_reading_between_calls(WorkerProcess& worker, CallRecord* self) REQUIRES(host_state);
  void keep_snapshot(const core::KeepSnapshot& action) REQUIRES(host_state);
  void drop_snapshot(const core::DropSnapshot& action) REQUIRES(host_state);
  void restore(const core::Dispatch& action, const WorkerPtr& worker, const CallRecord& record,
               Effects& effects) REQUIRES(host_state);
  void send_restored(const WorkerPtr& worker, CallId call, const store::Fetched& fetched,
                     Effects& effects) REQUIRES(host_state);
  void give_up_restore(WorkerProcess& worker, CallId call, bool gone) REQUIRES(host_state);
  bool take_snapshot(const WorkerPtr& worker, WorkerMessage& message, CallRecord* self,
                     Effects& effects) REQUIRES(host_state);

  // ---- host_loop.cpp: the loop thread
  bool on_loop_thread() const { return config_.loop->on_its_thread(); }
  void empty_inbox();
  void perform_on_loop(core::Action& action);
  void arm_timer();
  void sockets_ready();
  void read_as_loop(const WorkerPtr& worker);
  void arm(const WorkerPtr& worker, bool read, bool write);
  void flush_as_loop(const WorkerPtr& worker);
  void climb(const core::Action& rung, WorkerId id, CallId call);
  void log(core::Notice::Level level, const std::string& text);

  // ---- host_health.cpp
  void check_health(WorkerId id);  // the loop thread, like the next two
  void watch_check(const WorkerPtr& worker, Duration wait);
  void check_due(const WorkerPtr& worker);
  bool take_checked(WorkerProcess& worker, const WorkerMessage& message, CallRecord* self,
                    Effects& effects) REQUIRES(host_state);

  // ---- host_workers.cpp: the loop thread; the life of worker processes
  void start_worker(WorkerId id, bool probe, bool again = false);
  void start_again(const WorkerPtr& worker, bool again);
  void process_said(Hello& hello);
  void process_said(const Ready& ready);
  void launched(const WorkerPtr& worker, LaunchAnswer answer);
  void never_started(const WorkerPtr& worker, const StartFailure& failure);
  void process_started(const WorkerPtr& worker, const Launched& process);
  void limit_memory(WorkerProcess& worker);
  bool refuse_limit(WorkerProcess& worker);
  void kill_worker(const WorkerPtr& worker);
  void read_log(WorkerProcess& worker);
  void mark_dropped(WorkerProcess& worker);
  void log_lines(const WorkerProcess& worker, const std::vector<std::string>& lines);
  void mark_dropped_lines();
  void process_dead(const WorkerPtr& worker);
  void finish_death(const WorkerPtr& worker);
  Death describe_death(WorkerProcess& worker);
  void kill_if_it_lives(const WorkerPtr& worker);
  void reading_ended(const WorkerPtr& worker, const std::string& violation);
  void close_worker(const WorkerPtr& worker);
  void probe_ended(const std::string& error);
  void reload_ended(const std::string& error);
  void sample_memory();
  void shrink_slabs();
  void schedule_sampling();

  HostConfig config_;
  std::shared_ptr<SlabBudget> slab_budget_;  // shared with the workers
  std::shared_ptr<spdlog::logger> logger_;
  boost::asio::io_context& loop_;
  Alive alive_;  // of every handler that knows this host

  HostLock lock_;
  core::Pool pool_ GUARDED_BY(host_state);
  core::IdIndex<CallRecord> calls_ GUARDED_BY(host_state);
  std::unordered_map<std::uint64_t, Outcome> retained_ GUARDED_BY(host_state);  // for replays
  core::LateDumps late_dumps_ GUARDED_BY(host_state);
  std::unordered_map<WorkerId, WorkerPtr> workers_ GUARDED_BY(host_state);
  std::vector<InboxItem> inbox_ GUARDED_BY(host_state);
  std::vector<core::Event> follow_ups_ GUARDED_BY(host_state);
  bool poked_ GUARDED_BY(host_state) = false;
  bool timer_wanted_ GUARDED_BY(host_state) = false;
  Time timer_at_ GUARDED_BY(host_state) = Time::max();
  Application application_ GUARDED_BY(host_state);
  StartPath path_ GUARDED_BY(host_state);
  std::uint32_t frame_bytes_max_ GUARDED_BY(host_state);
  std::uint64_t payload_max_ GUARDED_BY(host_state);
  std::uint64_t snapshot_max_ GUARDED_BY(host_state);
  std::uint64_t attached_max_ GUARDED_BY(host_state);
  SuspectPrints suspects_ GUARDED_BY(host_state);

  std::atomic<std::uint64_t> last_call_ = 0;
  std::atomic<std::uint64_t> log_dropped_workers_ = 0;
  std::atomic<std::uint64_t> log_dropped_zygotes_ = 0;
  os::Epoll epoll_;  // of worker sockets; see arm()

  // ---- loop thread
  std::unique_ptr<Launcher> launcher_;
  std::unique_ptr<FdWatch> epoll_watch_;
  boost::asio::steady_timer timer_{loop_};
  boost::asio::steady_timer sampling_timer_{loop_};
  OomWitness oom_witness_;
  std::vector<std::move_only_function<void()>> on_drained_;
  bool drained_ = false;
  std::uint32_t probes_ = 0;
  WorkerPtr probe_;
  std::string probe_hello_;
  std::move_only_function<void(std::string)> reload_done_;
  bool reload_committed_ = false;  // the probe is over, and its answer waits for core::Reloaded
  bool started_ = false;           // the destructor's, like `stopping_` the loop's
  bool stopping_ = false;
  Settings settings_;
  std::atomic<std::uint32_t> workers_gone_ = 0;  // 1: the destructor may go on
  // Its thread calls feed(), until it is closed.
  std::shared_ptr<store::Store> store_;  // shared with its configuration
};

// The calling thread's own, kept for its capacity.
Effects& effects_of_thread();

}  // namespace keelback::host
