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
#include "host/providers.h"

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
    std::string sender = {};  // of a call that another node sent; empty: a client
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
    std::optional<host::ClusterInfo> cluster;
    bool owns_sessions = true;  // false: another node does
    int drains = 0;
  };
  void edit(const std::function<void(World&)>& change);
  World world() const;

  Outcome call(Call call) override;
  CallId submit(Call call, host::OnOutcome done) override;
  CallId stream(Call call, host::OnItem item, host::OnOutcome done) override;
  CallId take_hop(std::string_view sender, Call call, host::OnItem item,
                  host::OnOutcome done) override;
  void grant(CallId call, std::uint32_t items) override;
  bool cancel(CallId call) override;
  std::optional<std::string> dump(CallId call) override;
  host::PoolInfo info() override;
  std::vector<host::WorkerInfo> workers() override;
  SessionList sessions(std::string_view after, std::size_t limit) override;
  std::shared_ptr<const Application> application() override;
  std::vector<QuarantinedRequest> quarantine() override;
  bool apply(const core::Event& event) override;
  void take_hop_end(std::string_view sender, std::string session, host::OnOutcome done) override;
  void configure(const Settings& settings) override;
  void reload(std::move_only_function<void(std::string error)> done) override;
  void drain(Duration limit, std::move_only_function<void()> done) override;
  host::ProviderId provide(std::vector<std::string> names,
                           std::shared_ptr<host::Provider> provider) override;
  void withdraw(host::ProviderId provider) override;
  bool answer(std::uint64_t request, host::HostReply reply) override;
  // As Python code asks, for call 1 of worker 0.1: the request's id; 0: nobody provides the name.
  std::uint64_t ask(host::HostRequest request);
  // Nobody waits for the request any more.
  void cancel_ask(std::uint64_t request);
  // Blocks until somebody provides the name, or until nobody does; false after 10 s.
  bool wait_provided(const std::string& name, bool provided = true);
  // Blocks until the request has ended; nullopt after 10 s. One whose provider has gone ends not
  // ok, with "host_gone".
  std::optional<host::HostReply> reply(std::uint64_t request);
  boost::asio::io_context& loop() { return loop_; }
  std::optional<host::ClusterInfo> cluster() override { return world().cluster; }
  Time now() const override;

 private:
  struct Running {
    host::OnItem item;
    host::OnOutcome done;
    Script script;
    std::uint32_t credit = 16;
    std::size_t next_item = 0;
  };
  CallId begin(Call call, host::OnItem item, host::OnOutcome done, std::string sender = {});
  void advance(std::uint64_t id);  // requires mutex_: emits what credit allows, then ends
  void end(std::uint64_t id, Outcome outcome);  // requires mutex_

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Script> scripts_;
  std::map<std::uint64_t, Running> running_;
  std::vector<Seen> seen_;  // call id i is at i - 1
  World world_;
  host::Providers providers_;
  std::map<std::uint64_t, host::HostReply> replies_;  // by request
  std::map<std::uint64_t, std::uint64_t> asks_;       // the asker's own number to the request
  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace keelback::testing
