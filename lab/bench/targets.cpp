#include "bench/targets.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/null_sink.h>
#include <sys/prctl.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <thread>

#include "api/driver_factory.h"
#include "base/prng.h"
#include "bench/pinned.h"
#include "bench/pool_under_test.h"
#include "bench/shared_memory_peer.h"
#include "bench/signed_rank.h"
#include "core/session_table.h"
#include "load/application.h"
#include "load/generator.h"
#include "os/process.h"
#include "sim/load.h"
#include "sim/simulation.h"

namespace keelback::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point then) {
  return std::chrono::duration<double, std::milli>(Clock::now() - then).count();
}

// Looks every 50 µs, which is the error of every time that is measured with it.
template <typename Condition>
bool wait_for(Condition condition, Duration limit = 60s) {
  const auto end = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(50us);
  }
  return true;
}

const Call kNoop{.function = "noop", .payload = "[1]"};

class Pool {
 public:
  static std::expected<Pool, std::string> start(const TargetPool& wanted) {
    ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);  // this thread's sleeps
    api::DriverOptions options;
    options.app = load::lab_application("bench_probe");
    options.settings.pool.workers = wanted.workers;
    options.settings.workers.python = wanted.python;
    options.settings.breaker.failures = 0;  // we kill on purpose
    options.environment = {{"KEELBACK_BENCH_IMPORT_S", fmt::format("{}", wanted.import_s)},
                           {"KEELBACK_BENCH_BALLAST_MB", fmt::format("{:.0f}", wanted.ballast_mb)}};
    options.logger =
        std::make_shared<spdlog::logger>("bench", std::make_shared<spdlog::sinks::null_sink_mt>());
    auto driver = api::make_driver(options);
    if (!driver) return std::unexpected(driver.error());
    return Pool(std::move(*driver), wanted.workers);
  }
  host::Driver& driver() { return *driver_; }
  bool wait_until_ready() {
    return wait_for([&] { return driver_->info().stats.workers.ready >= workers_; });
  }
  // The worker of `slot`, once it is a later one than `generation` and ready.
  bool wait_for_successor(std::uint32_t slot, std::uint32_t generation) {
    return wait_for([&] {
      // Asked first because it is cheap: the list reads every worker's memory from /proc, on a
      // processor that the worker we wait for could use.
      if (driver_->info().stats.workers.starting > 0) return false;
      for (const host::WorkerInfo& worker : driver_->workers()) {
        if (worker.worker.slot == slot && worker.worker.generation > generation &&
            worker.state == core::WorkerState::kReady) {
          return true;
        }
      }
      return false;
    });
  }
  double stop() {
    const auto began = Clock::now();
    driver_.reset();
    return ms_since(began);
  }

 private:
  Pool(api::OwnedDriver driver, std::uint32_t workers)
      : driver_(std::move(driver)), workers_(workers) {}
  api::OwnedDriver driver_;
  std::uint32_t workers_;
};

std::unexpected<std::string> not_ready() {
  return std::unexpected(std::string("the pool was not ready within a minute"));
}

// Nanoseconds of processor time; 0 if the process is gone.
std::uint64_t run_time(std::int64_t pid) {
  const auto use = os::read_processor_use(static_cast<pid_t>(pid));
  return use ? static_cast<std::uint64_t>(use->ran.count()) : 0;
}

// One kill of a worker whose function has begun, which its processor time proves. The pool's answer
// to the lost call is waited for: it refers to this frame.
// No two victims run the same request, or it would be quarantined.
std::expected<double, std::string> one_recovery(Pool& pool, int number) {
  std::atomic<bool> over = false;
  pool.driver().submit({.function = "spin_ms", .payload = fmt::format("[{}]", 30'000 + number)},
                       [&](Outcome&&) { over = true; });
  host::WorkerInfo victim;
  std::uint64_t ran = 0;
  const bool busy = wait_for([&] {
    if (victim.pid > 0) return run_time(victim.pid) > ran + 2'000'000;
    for (const host::WorkerInfo& worker : pool.driver().workers()) {
      if (!worker.call || worker.pid <= 0) continue;
      victim = worker;
      ran = run_time(worker.pid);
    }
    return false;
  });
  if (!busy) {
    pool.stop();  // ends the call
    return std::unexpected("no worker took the call");
  }
  const auto killed = Clock::now();
  ::kill(static_cast<pid_t>(victim.pid), SIGKILL);
  const bool back = pool.wait_for_successor(victim.worker.slot, victim.worker.generation);
  const double took = ms_since(killed);
  if (!wait_for([&] { return over.load(); })) pool.stop();
  if (!back) return not_ready();
  return took;
}

double p99_of_window(Pool& pool, double window_ms) {
  const auto run = load::run_closed(pool.driver(), 16,
                                    std::chrono::microseconds(static_cast<long>(1e3 * window_ms)),
                                    [](std::uint32_t, std::uint64_t) { return kNoop; });
  return us(run.latency().quantile(0.99).value);
}

}  // namespace

std::expected<double, std::string> pool_ready_ms(const TargetPool& wanted) {
  const auto began = Clock::now();
  auto pool = Pool::start(wanted);
  if (!pool) return std::unexpected(pool.error());
  if (!pool->wait_until_ready()) return not_ready();
  return ms_since(began);
}

std::expected<std::vector<double>, std::string> worker_start_ms(const TargetPool& wanted, int times,
                                                                const BeforeEach& before_each) {
  auto pool = Pool::start(wanted);
  if (!pool) return std::unexpected(pool.error());
  if (!pool->wait_until_ready()) return not_ready();
  std::vector<double> took;
  for (int i = 0; i < times; ++i) {
    if (const auto first = before_each(); !first) return std::unexpected(first.error());
    std::uint32_t generation = 0;
    for (const host::WorkerInfo& worker : pool->driver().workers()) {
      if (worker.worker.slot == 1) generation = std::max(generation, worker.worker.generation);
    }
    const auto began = Clock::now();
    if (!pool->driver().recycle(1)) return std::unexpected("slot 1 cannot be recycled");
    if (!pool->wait_for_successor(1, generation)) return not_ready();
    took.push_back(ms_since(began));
    // The old one goes before the next order, so that it costs that one nothing.
    if (!wait_for([&] { return pool->driver().workers().size() == wanted.workers; })) {
      return std::unexpected("the replaced worker does not go");
    }
  }
  return took;
}

std::expected<std::vector<double>, std::string> recovery_ms(const TargetPool& wanted, int times) {
  auto pool = Pool::start(wanted);
  if (!pool) return std::unexpected(pool.error());
  if (!pool->wait_until_ready()) return not_ready();
  std::vector<double> took;
  for (int i = 0; i < times; ++i) {
    const auto one = one_recovery(*pool, i);
    if (!one) return std::unexpected(one.error());
    took.push_back(*one);
    // What follows is no crash loop: a worker that has served is a good one.
    for (std::uint32_t call = 0; call < wanted.workers; ++call) (void)pool->driver().call(kNoop);
  }
  return took;
}

std::expected<double, std::string> stop_ms(const TargetPool& wanted) {
  auto pool = Pool::start(wanted);
  if (!pool) return std::unexpected(pool.error());
  if (!pool->wait_until_ready()) return not_ready();
  return pool->stop();
}

std::expected<int, std::string> cold_calls_ok(const TargetPool& wanted, int calls) {
  auto pool = Pool::start(wanted);
  if (!pool) return std::unexpected(pool.error());
  std::atomic<int> ok = 0;
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < calls; ++i) {
      callers.emplace_back([&] { ok += pool->driver().call(kNoop).ok() ? 1 : 0; });
    }
  }
  return ok.load();
}

std::expected<AfterKills, std::string> after_kills(const TargetPool& wanted, int rounds,
                                                   double window_ms) {
  auto pool = Pool::start(wanted);
  if (!pool) return std::unexpected(pool.error());
  if (!pool->wait_until_ready()) return not_ready();
  (void)p99_of_window(*pool, window_ms);  // warm
  AfterKills result;
  for (int round = 0; round < rounds; ++round) {
    result.p99_before_us.push_back(p99_of_window(*pool, window_ms));
    const std::vector<host::WorkerInfo> victims = pool->driver().workers();
    std::jthread load([&] { (void)p99_of_window(*pool, window_ms); });
    for (const host::WorkerInfo& victim : victims) {
      ::kill(static_cast<pid_t>(victim.pid), SIGKILL);
    }
    load.join();
    for (int i = 0; i < 5; ++i) {
      ++result.asked;
      result.ok += pool->driver().call(kNoop).ok() ? 1 : 0;
    }
    if (!pool->wait_until_ready()) return not_ready();
    result.p99_after_us.push_back(p99_of_window(*pool, window_ms));
  }
  return result;
}

std::expected<AttachmentTimes, std::string> attachment_us(
    const TargetPool& wanted, Ends ends, std::size_t bytes, int blocks, int calls_a_block,
    Prng& prng, const std::function<void(int)>& before_each) {
  const int here = Pinned::first_allowed();
  const std::optional<int> there = ends == Ends::kOnOneProcessor ? here : Pinned::allowed(1);
  if (!there) return std::unexpected("there is one processor only");
  // Forked before the pool has threads.
  auto floor = SharedMemoryPeer::start(bytes);
  if (!floor) return std::unexpected(floor.error());
  auto pool = Pool::start(wanted);
  if (!pool) return std::unexpected(pool.error());
  if (!pool->wait_until_ready()) return not_ready();
  const Pinned pin(here);
  Pinned::put(floor->pid(), *there);
  for (const host::WorkerInfo& worker : pool->driver().workers()) Pinned::put(worker.pid, *there);
  const std::string source(bytes, 'x');
  std::string back(bytes, '\0');
  const auto call = [&](const char* function) {
    return pool->driver().call(
        {.function = function,
         .payload = "{}",
         .attachments = {{"x", Buffer(std::as_bytes(std::span(source)), nullptr), "", {}}}});
  };
  AttachmentTimes times;
  struct Way {
    std::vector<double>* medians;
    std::function<bool()> once;
  };
  Way arms[] = {
      {&times.floor_there, [&] { return floor->send(source); }},
      {&times.floor_back, [&] { return floor->echo(source, back); }},
      {&times.there, [&] { return call("size").ok(); }},
      {&times.back,
       [&] {
         const Outcome outcome = call("noop");
         return outcome.ok() && outcome.attachments.size() == 1 &&
                outcome.attachments[0].data.size() == bytes;
       }},
  };
  for (int block = -1; block < blocks; ++block) {  // the first one warms up
    before_each(std::max(0, block));
    for (std::size_t i = std::size(arms); i > 1; --i) std::swap(arms[i - 1], arms[prng.below(i)]);
    for (const Way& arm : arms) {
      std::vector<double> took;
      for (int n = 0; n < calls_a_block; ++n) {
        const auto began = Clock::now();
        if (!arm.once()) return std::unexpected("an attachment did not arrive");
        took.push_back(us(Clock::now() - began));
      }
      if (block >= 0) arm.medians->push_back(median(std::move(took)));
    }
  }
  return times;
}

SessionCost session_cost(std::uint64_t sessions, std::uint64_t seed) {
  core::SessionTable table({30min, 24h}, seed);
  Time now{};
  const auto name = [](std::uint64_t i) { return fmt::format("s-{}", i); };
  for (std::uint64_t i = 0; i < sessions; ++i) {
    core::Session& session = table.open(now, name(i), Affinity::kStrictQueue, i);
    session.established = true;
    table.leave(session, now);
  }
  // The order of expiry is as random as use makes it.
  Prng prng(seed);
  for (std::uint64_t i = 0; i < 2 * sessions; ++i) {
    now += 1us;
    table.touch(*table.find(name(prng.below(sessions))), now);
  }
  // Names are made before the clock runs, and lie together: fetching them costs the same at every
  // number of sessions.
  constexpr int kBatch = 4096, kBatches = 64;
  std::vector<std::string> names(kBatch);
  Duration spent{0};
  std::uint64_t dead = 0;
  for (int batch = 0; batch < kBatches; ++batch) {
    for (std::string& one : names) one = name(prng.below(sessions));
    const auto began = Clock::now();
    for (const std::string& one : names) {
      now += 1us;
      core::Session* session = table.find(one);
      dead += table.judge(*session, now) != core::SessionTable::Verdict::kLive;
      table.touch(*session, now);
    }
    spent += Clock::now() - began;
  }
  return {.ns_per_touch = dead > 0 ? 0 : static_cast<double>(spent.count()) / (kBatch * kBatches),
          .bytes_per_session =
              static_cast<double>(sizeof(core::Session)) +
              static_cast<double>(table.index_bytes()) / static_cast<double>(sessions)};
}

double simulated_events_per_second(double seconds, std::uint64_t seed) {
  sim::Simulation::Options options;
  options.seed = seed;
  options.settings.pool.workers = 4;
  sim::Simulation simulation(options);
  simulation.run_until(simulation.now() + 100ms);  // the workers are up
  sim::LoadSettings load;
  load.rate = 100'000;
  load.length = 1h;
  load.mix = {{.call = {.function = "echo", .payload = "[1]"}}};
  sim::OpenLoad clients(simulation, load, seed);
  clients.start();
  const std::uint64_t before = simulation.events();
  const auto began = Clock::now();
  while (ms_since(began) < 1e3 * seconds) simulation.advance(10ms);
  return static_cast<double>(simulation.events() - before) / (ms_since(began) / 1e3);
}

}  // namespace keelback::bench
