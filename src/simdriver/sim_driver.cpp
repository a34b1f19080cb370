#include "simdriver/sim_driver.h"

#include <boost/asio/post.hpp>
#include <deque>
#include <optional>
#include <utility>

#include "base/check.h"
#include "os/handover.h"

namespace keelback::simdriver {
namespace {

// How far virtual time may run for a call or a drain: further than any deadline can be.
constexpr Duration kForever = std::chrono::hours(24 * 365);

}  // namespace

SimDriver::SimDriver(host::EventLoop& loop, sim::Simulation::Options options, Pace pace)
    : pace_(pace), sim_(std::move(options)), loop_(loop) {
  wake();
}

SimDriver::~SimDriver() {
  CHECK(!loop_.on_its_thread());
  loop_.run([this] {
    bool drained = false;
    {
      const std::lock_guard lock(mutex_);
      sim_.drain(Duration{0}, [&drained] { drained = true; });
    }
    run_until(Time::max(), [&drained] { return drained; });
    deliver();
    timer_.cancel();
    alive_.end();
  });
}

Time SimDriver::real_now() const {
  return Time{std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - started_)};
}

Time SimDriver::now() const {
  if (pace_ == Pace::kReal) return real_now();
  const std::lock_guard lock(mutex_);
  return sim_.now();
}

void SimDriver::catch_up() {
  if (pace_ == Pace::kReal) sim_.step_until(real_now());
}

template <class F>
auto SimDriver::with(F touch) {
  const std::lock_guard lock(mutex_);
  catch_up();
  wake();
  return touch(sim_);
}

void SimDriver::wake() {
  if (!woken_.exchange(true)) boost::asio::post(loop_.context(), alive_.guard([this] { pump(); }));
}

void SimDriver::pump() {
  woken_ = false;
  std::optional<Time> next;
  {
    const std::lock_guard lock(mutex_);
    catch_up();
    next = sim_.next_due();
  }
  if (pace_ == Pace::kReal && next) {
    timer_.expires_at(started_ + next->time_since_epoch());
    timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
      if (!error) pump();
    }));
  }
  deliver();  // what these callbacks submit wakes the loop again
}

void SimDriver::deliver() {
  while (true) {
    std::deque<sim::Delivery> due;
    {
      const std::lock_guard lock(mutex_);
      due = sim_.calls().take_deliveries();
    }
    if (due.empty()) return;
    for (sim::Delivery& delivery : due) delivery.run();
  }
}

// On the loop thread: one step under the lock, its deliveries outside it, and again.
bool SimDriver::run_until(Time limit, const std::function<bool()>& done) {
  while (true) {
    deliver();
    if (done && done()) return true;
    const std::lock_guard lock(mutex_);
    const auto next = sim_.next_due();
    if (!next || *next > limit) {
      if (limit != Time::max()) sim_.step_until(limit);
      return false;
    }
    sim_.step();
  }
}

Outcome SimDriver::call(Call call) {
  CHECK(!loop_.on_its_thread());
  os::Handover<Outcome> over;
  // Read and written on the loop thread only.
  auto ended = std::make_shared<bool>(false);  // shared with drive(), which may outlive the call
  submit(std::move(call), [&over, ended](Outcome&& outcome) {
    *ended = true;
    over.put(std::move(outcome));
  });
  if (pace_ == Pace::kManual) {
    boost::asio::post(loop_.context(), alive_.guard([this, ended] {
      run_until(now() + kForever, [&ended] { return *ended; });
    }));
  }
  return over.take();
}

CallId SimDriver::submit(Call call, host::OnOutcome done) {
  return with([&](sim::Simulation& sim) { return sim.submit(std::move(call), std::move(done)); });
}

CallId SimDriver::stream(Call call, host::OnItem item, host::OnOutcome done) {
  return with([&](sim::Simulation& sim) {
    return sim.stream(std::move(call), std::move(item), std::move(done));
  });
}

void SimDriver::grant(CallId call, std::uint32_t items) {
  with([&](sim::Simulation& sim) { sim.grant(call, items); });
}

bool SimDriver::cancel(CallId call) {
  return with([&](sim::Simulation& sim) { return sim.cancel(call); });
}

std::optional<std::string> SimDriver::dump(CallId call) {
  return with([&](sim::Simulation& sim) { return sim.calls().dump(sim.now(), call); });
}

host::PoolInfo SimDriver::info() {
  return with([](sim::Simulation& sim) {
    host::PoolInfo info;
    info.stats = sim.stats();
    info.start.mode = "sim";
    info.start.state = "up";
    info.store.name = "memory";
    info.store.sessions = sim.stored();
    info.loop_lag = sim.loop_lag();
    return info;
  });
}

std::vector<host::WorkerInfo> SimDriver::workers() {
  return with([](sim::Simulation& sim) {
    std::vector<host::WorkerInfo> out;
    for (core::WorkerView& view : sim.pool().workers(sim.now())) out.push_back({std::move(view)});
    return out;
  });
}

SessionList SimDriver::sessions(std::string_view after, std::size_t limit) {
  return with([&](sim::Simulation& sim) { return sim.pool().sessions(sim.now(), after, limit); });
}

std::shared_ptr<const Application> SimDriver::application() {
  return with([](sim::Simulation& sim) {
    const sim::Application* known = sim.application();
    return known != nullptr ? std::make_shared<const Application>(known->describe()) : nullptr;
  });
}

std::vector<QuarantinedRequest> SimDriver::quarantine() {
  return with([](sim::Simulation& sim) { return sim.pool().quarantine(sim.now()); });
}

bool SimDriver::apply(const core::Event& event) {
  return with([&](sim::Simulation& sim) { return sim.apply(event); });
}

void SimDriver::configure(const Settings& settings) {
  with([&](sim::Simulation& sim) { sim.configure(settings); });
}

void SimDriver::reload(std::move_only_function<void(std::string error)> done) {
  with([&](sim::Simulation& sim) { sim.reload(std::move(done)); });
}

void SimDriver::drain(Duration limit, std::move_only_function<void()> done) {
  with([&](sim::Simulation& sim) { sim.drain(limit, std::move(done)); });
}

host::ProviderId SimDriver::provide(std::vector<std::string> names,
                                    std::shared_ptr<host::Provider> provider) {
  const std::lock_guard lock(mutex_);
  return providers_.add(names, std::move(provider));
}

void SimDriver::withdraw(host::ProviderId provider) {
  std::shared_ptr<host::Provider> removed;  // ends after the lock
  std::vector<host::Providers::Asker> askers;
  const std::lock_guard lock(mutex_);
  removed = providers_.remove(provider, askers);
}

bool SimDriver::answer(std::uint64_t, host::HostReply) { return false; }

void SimDriver::advance(Duration duration) {
  CHECK(pace_ == Pace::kManual);
  loop_.run([this, duration] { run_until(now() + duration, nullptr); });
}

bool SimDriver::advance_until(const std::function<bool()>& done, Duration limit) {
  CHECK(pace_ == Pace::kManual);
  bool reached = false;
  loop_.run([&] { reached = run_until(now() + limit, done); });
  return reached;
}

bool SimDriver::kill_worker(std::uint32_t slot) {
  return with([&](sim::Simulation& sim) { return sim.kill(slot); });
}

bool SimDriver::freeze_worker(std::uint32_t slot, Duration spell) {
  return with([&](sim::Simulation& sim) { return sim.freeze(slot, spell); });
}

std::vector<core::Notice> SimDriver::notices() const {
  const std::lock_guard lock(mutex_);
  return {sim_.notices().begin(), sim_.notices().end()};
}

std::uint64_t SimDriver::trace_hash() const {
  const std::lock_guard lock(mutex_);
  return sim_.trace_hash();
}

}  // namespace keelback::simdriver
