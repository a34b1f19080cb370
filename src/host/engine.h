// The core of a pool at work, whatever its workers are: the core under its lock, the calls in
// flight, and what their callers get. It knows nothing of processes; a Crew does.
//
// Threads. The thread of the loop that the host was given has timers and the asynchronous calls'
// callbacks. Any thread may block in a call and does its own worker's I/O meanwhile. Both meet in
// `lock`, which guards the core, the call table, the records of calls and those of workers.
//
//   1  Under the lock the core is asked and its actions are booked (book): no system call that may
//      block, no callback. Frames are pushed to their channel here, so they leave in the core's
//      order.
//   2  After the lock the thread performs what it booked (perform): the crew sends frames and arms
//      sockets, callers are woken. Any thread may do this for any worker.
//   3  What only the loop may do waits in the inbox, in the core's order: starts, kills,
//      completions, and what the crew puts there (CrewNews).
//
// A method that takes `self` and `effects` is one under the lock: `self` is the record of the
// calling thread's own blocking call (null: there is none), which needs no waking.
#pragma once

#include <spdlog/logger.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/pool.h"
#include "host/call_book.h"
#include "host/call_record.h"
#include "host/calls_out.h"
#include "host/crew.h"
#include "host/driver.h"
#include "host/event_loop.h"
#include "host/host_lock.h"
#include "host/session_port.h"
#include "os/clock.h"
#include "os/handover.h"
#include "store/store.h"

namespace keelback::host {

class SnapshotKeeper;

struct EngineConfig {
  EventLoop* loop = nullptr;  // required; outlives the engine
  Settings settings;
  std::shared_ptr<spdlog::logger> logger;  // shared with the program
  std::uint64_t seed = 0;                  // of the core's chances
  std::shared_ptr<store::Store> store;     // of session snapshots; shared with its configuration
};

// A worker's answer to the call that it runs.
struct Reply {
  WorkerId worker;
  CallId call;
  core::Answer answer;
  std::uint64_t attachment_bytes = 0;  // over the limit, the attachments are not kept
  bool clean = true;
  bool interrupted = false;
  core::Snapshot snapshot = core::Snapshot::kNone;
  std::string_view snapshot_error;
  std::string_view retire_reason;
  bool started = true;  // false: nothing of the call ran before it
};

class Engine {
 public:
  explicit Engine(EngineConfig config);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  void set_crew(Crew& crew) { crew_ = &crew; }  // once, before anything else
  Crew& crew() { return *crew_; }

  HostLock lock;
  os::Handover<bool> crew_gone;  // put by the crew when none of its workers is left

  // ---- any thread
  EventLoop& loop() { return *config_.loop; }
  boost::asio::io_context& context() { return config_.loop->context(); }
  // A handler for the loop, which does nothing once the engine has left it.
  template <class Handler>
  auto guard(Handler handler) const {
    return alive_.guard(std::move(handler));
  }
  template <class Work>
  void post(Work work) {
    boost::asio::post(context(), guard(std::move(work)));
  }
  static Time now() { return os::monotonic_now(); }
  spdlog::logger& logger() { return *config_.logger; }
  void log(core::Notice::Level level, const std::string& text);
  CallId next_call() { return CallId{++last_call_}; }
  store::Store& store() { return *config_.store; }
  SnapshotKeeper& keeper() { return *keeper_; }

  // ---- events
  // Hands one event in and books what follows; then settle(), and after the lock perform().
  void step(const core::Event& event, CallRecord* self, Effects& effects) REQUIRES(host_state);
  // An event that follows the actions of the present step: what was answered at once.
  void owe(core::Event event) REQUIRES(host_state) { owed_.push_back(std::move(event)); }
  // Hands in what is owed, outside a step.
  void follow_up(CallRecord* self, Effects& effects) REQUIRES(host_state);
  void settle(Effects& effects) REQUIRES(host_state);  // last under the lock: the timer
  void perform(Effects& effects) EXCLUDES(host_state);
  void feed(const core::Event& event) EXCLUDES(host_state);  // all four
  core::Pool& pool() REQUIRES(host_state) { return pool_; }

  // ---- calls
  void begin(CallRecord& record, const core::CallSubmitted& event, Effects& effects)
      REQUIRES(host_state);
  CallBook& calls() { return calls_; }
  CallsOut& calls_out() { return calls_out_; }

  // ---- what the crew reports
  void answered(Reply& reply, CallRecord* self, Effects& effects) REQUIRES(host_state);
  // False: the call's caller takes no items.
  [[nodiscard]] bool item(WorkerId worker, CallId call, std::string&& bytes, CallRecord* self,
                          Effects& effects) REQUIRES(host_state);
  void hear_later(CrewNews news, Effects& effects) REQUIRES(host_state);
  void announce(const std::string& hello_json) EXCLUDES(host_state);
  std::shared_ptr<const Application> application() EXCLUDES(host_state);

  // ---- sessions that other pools know of
  // On the loop, before the first call.
  void watch_sessions(SessionPort::OnGone gone) { on_session_gone_ = std::move(gone); }
  void expect_birth(const std::string& session, std::uint64_t birth) REQUIRES(host_state) {
    expected_births_.insert_or_assign(session, birth);
  }
  // True: no call has opened the session so far.
  [[nodiscard]] bool stop_expecting(const std::string& session) REQUIRES(host_state) {
    return expected_births_.erase(session) > 0;
  }

  // ---- operators
  void configure(const Settings& settings) EXCLUDES(host_state);
  void drain(Duration limit, std::move_only_function<void()> done);

  // ---- the end: `crew_gone`, then leave_loop() on the loop, then CallBook::end_remaining()
  void leave_loop();

 private:
  friend class CallBook;  // puts completions into the inbox
  struct Completion {
    std::unique_ptr<CallRecord> record;
  };
  struct Item {
    CallRecord* record;  // its Completion comes later in the inbox
    std::string bytes;
  };
  using InboxItem = std::variant<core::Action, Completion, Item, CrewNews>;

  void book(core::Action& action, CallRecord* self, Effects& effects) REQUIRES(host_state);
  void dispatch(const core::Dispatch& action, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  void for_loop(InboxItem item, Effects& effects) REQUIRES(host_state);
  static void tell_providers(Effects& effects) EXCLUDES(host_state);
  void empty_inbox();
  void perform_on_loop(core::Action& action);
  void arm_timer();

  EngineConfig config_;
  Crew* crew_ = nullptr;
  Alive alive_;  // of every handler that knows this engine or its crew
  std::unique_ptr<SnapshotKeeper> keeper_;
  CallBook calls_;
  CallsOut calls_out_{*this};

  core::Pool pool_ GUARDED_BY(host_state);
  std::vector<InboxItem> inbox_ GUARDED_BY(host_state);
  std::vector<core::Event> owed_ GUARDED_BY(host_state);
  bool poked_ GUARDED_BY(host_state) = false;
  bool timer_wanted_ GUARDED_BY(host_state) = false;
  Time timer_at_ GUARDED_BY(host_state) = Time::max();
  std::shared_ptr<const Application> application_ GUARDED_BY(host_state);
  // Session -> what others know it by, until a call opens it.
  std::map<std::string, std::uint64_t, std::less<>> expected_births_ GUARDED_BY(host_state);

  std::atomic<std::uint64_t> last_call_ = 0;

  // ---- loop thread
  boost::asio::steady_timer timer_{context()};
  std::vector<std::move_only_function<void()>> on_drained_;
  SessionPort::OnGone on_session_gone_;
  bool drained_ = false;
};

}  // namespace keelback::host
