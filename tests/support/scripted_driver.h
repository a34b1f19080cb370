// A driver that answers from a table: for tests of the faces, without pool, worker or process. It
// has a loop thread of its own, records what it was asked, and can be told to keep a call until the
// test ends it.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "host/driver.h"

namespace keelback::testing {

class ScriptedDriver final : public host::Driver {
 public:
  // What a function does.
  struct Script {
    Outcome outcome;                 // payload "" and ok: answers with the call's own payload
    std::vector<std::string> items;  // of a stream, then `outcome`
    bool hold = false;               // the call stays until finish(), or cancel() if it may
    bool obeys_cancel = true;
  };
  struct Seen {
    CallId id;
    Call call;
    bool stream = false;
    bool cancelled = false;
    std::uint64_t granted = 0;
    std::uint64_t emitted = 0;
    bool done = false;
  };

  ScriptedDriver();
  ~ScriptedDriver() override;  // ends what is held as cancelled, and joins the loop

  void on(std::string function, Script script);
  void finish(CallId call, Outcome outcome);
  // Blocks until the predicate holds of what was seen; false after `limit`.
  bool wait(const std::function<bool(const std::vector<Seen>&)>& predicate,
            std::chrono::milliseconds limit = std::chrono::seconds(10));
  std::vector<Seen> seen() const;
  // Runs on the loop thread; returns when it has run.
  void on_loop(const std::function<void()>& work);

  // What the readers answer; change under edit().
  struct World {
    host::PoolInfo pool;  // its counters of calls are kept by the driver itself
    std::vector<host::WorkerInfo> workers;
    std::vector<SessionStatus> sessions;  // in id order
    std::vector<QuarantinedRequest> quarantine;
    std::shared_ptr<const Application> application;
    std::string reload_error;
    std::vector<std::uint32_t> recycled;
    std::vector<std::string> ended_sessions;
    std::map<std::uint64_t, std::string> dumps;  // by call
    int drains = 0;
  };
  void edit(const std::function<void(World&)>& change);
  World world() const;

  Outcome call(Call call) override;
  CallId submit(Call call, host::OnOutcome done) override;
  CallId stream(Call call, host::OnItem item, host::OnOutcome done) override;
  void grant(CallId call, std::uint32_t items) override;
  bool cancel(CallId call) override;
  std::optional<std::string> dump(CallId call) override;
  host::PoolInfo info() override;
  std::vector<host::WorkerInfo> workers() override;
  SessionList sessions(std::string_view after, std::size_t limit) override;
  std::shared_ptr<const Application> application() override;
  std::vector<QuarantinedRequest> quarantine() override;
  bool apply(const core::Event& event) override;
  void configure(const Settings& settings) override;
  void reload(std::move_only_function<void(std::string error)> done) override;
  void drain(Duration limit, std::move_only_function<void()> done) override;
  boost::asio::io_context& loop() { return loop_; }
  Time now() const override;

 private:
  struct Running {
    host::OnItem item;
    host::OnOutcome done;
    Script script;
    std::uint32_t credit = 16;
    std::size_t next_item = 0;
  };
  CallId begin(Call call, host::OnItem item, host::OnOutcome done);
  void advance(std::uint64_t id);  // requires mutex_: emits what credit allows, then ends
  void end(std::uint64_t id, Outcome outcome);  // requires mutex_

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Script> scripts_;
  std::map<std::uint64_t, Running> running_;
  std::vector<Seen> seen_;  // call id i is at i - 1
  World world_;
  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace keelback::testing
