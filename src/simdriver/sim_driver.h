// The simulator behind the interface of every driver. Nobody above can tell it from host::Host,
// except by how fast time goes.
//
//   kReal    the virtual clock follows the real one: `pool.backend = sim` in a daemon.
//   kManual  time stands still but for advance(), advance_until() and call(), which moves it until
//            its own outcome is there: tests, which never sleep.
//
// Threads: as host::Driver says. In kManual mode whoever moves time runs the model on the loop
// thread and waits; from the loop thread itself it runs at once. call() must not be made from the
// loop thread. The destructor must not run on the loop thread; calls still in flight then end as a
// drain with no patience ends them, so each `done` has run when it returns.
#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "host/driver.h"
#include "host/event_loop.h"
#include "host/providers.h"
#include "sim/simulation.h"

namespace keelback::simdriver {

class SimDriver final : public host::Driver {
 public:
  enum class Pace : std::uint8_t { kReal, kManual };

  // `loop` must outlive the driver.
  SimDriver(host::EventLoop& loop, sim::Simulation::Options options, Pace pace = Pace::kReal);
  ~SimDriver() override;

  // ---- host::Driver
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
  // Model workers ask for nothing: a provider is registered and never asked.
  host::ProviderId provide(std::vector<std::string> names,
                           std::shared_ptr<host::Provider> provider) override;
  void withdraw(host::ProviderId provider) override;
  bool answer(std::uint64_t request, host::HostReply reply) override;
  Time now() const override;

  // ---- virtual time; kManual only
  void advance(Duration duration);
  // Moves time until `done` says so, asked on the loop thread between two steps; false: not within
  // `limit`.
  bool advance_until(const std::function<bool()>& done, Duration limit);

  // ---- faults from outside; false: nothing lives in that slot
  bool kill_worker(std::uint32_t slot);
  bool freeze_worker(std::uint32_t slot, Duration spell);
  // The last ones that the core has given.
  std::vector<core::Notice> notices() const;
  // A fingerprint of all that happened so far: same seed and same calls, same fingerprint.
  std::uint64_t trace_hash() const;

 private:
  // Runs `touch(sim_)` under the lock, at the present time, and lets the loop look at the result.
  template <class F>
  auto with(F touch);
  void catch_up();  // requires mutex_: kReal, does what is due by now
  Time real_now() const;
  void wake();
  void pump();  // on the loop: what is due, then what is to be delivered, then the timer
  void deliver();
  bool run_until(Time limit, const std::function<bool()>& done);

  const Pace pace_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;  // guards sim_ and providers_; never held while a callback runs
  sim::Simulation sim_;
  host::Providers providers_;
  std::atomic<bool> woken_{false};
  host::EventLoop& loop_;
  host::Alive alive_;
  boost::asio::steady_timer timer_{loop_.context()};
};

}  // namespace keelback::simdriver
