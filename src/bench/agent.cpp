#include "bench/agent.h"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/null_sink.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "api/driver_factory.h"
#include "base/settings_schema.h"
#include "load/generator.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using std::chrono::duration;

double ms(Duration d) { return duration<double, std::milli>(d).count(); }
double us(Duration d) { return duration<double, std::micro>(d).count(); }

Json refusal(std::string why) { return {{"ok", false}, {"error", std::move(why)}}; }

// Nanoseconds that the process has run, from the scheduler; 0 if it is gone.
std::uint64_t run_time(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/schedstat", pid));
  std::uint64_t ran = 0;
  file >> ran;
  return ran;
}

std::uint64_t smaps_kb(std::int64_t pid, const std::string& field) {
  std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid));
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(field)) return std::stoull(line.substr(field.size()));
  }
  return 0;
}

Json figures(const load::Run& run) {
  const load::Histogram latency = run.latency();
  const auto at = [&](double q) { return us(latency.quantile(q).value); };
  Json buckets = Json::array();
  for (const auto& bucket : latency.buckets()) {
    buckets.push_back({bucket.middle.count(), bucket.finished, bucket.censored});
  }
  const auto ok = run.count(OutcomeKind::kOk);
  return {{"ok", true},
          {"calls", run.records.size()},
          {"succeeded", ok},
          {"unfinished", run.unfinished()},
          {"seconds", duration<double>(run.length).count()},
          {"per_second", static_cast<double>(ok) / duration<double>(run.length).count()},
          {"mean_us", us(latency.mean())},
          {"p10_us", at(0.1)},
          {"p50_us", at(0.5)},
          {"p90_us", at(0.9)},
          {"p99_us", at(0.99)},
          {"p999_us", at(0.999)},
          {"lag_p99_us", us(run.lag().quantile(0.99).value)},
          {"buckets", std::move(buckets)}};
}

}  // namespace

class Agent::Impl {
 public:
  Json perform(const Json& order) {
    const std::string op = order.value("op", "");
    if (op == "hello") return hello();
    if (op == "start") return start(order);
    if (op == "stop") return stop();
    if (!driver_) return refusal("no pool is running: start one first");
    if (op == "window") return window(order);
    if (op == "open") return open(order);
    if (op == "memory") return memory();
    if (op == "recover") return recover();
    if (op == "counters") return counters(order);
    return refusal(fmt::format("unknown order '{}'", op));
  }

 private:
  static Json hello() {
    return {
        {"ok", true}, {"protocol", kAgentProtocol}, {"pid", ::getpid()}, {"compiler", __VERSION__}};
  }

  Json start(const Json& order) {
    if (driver_) return refusal("a pool is running already");
    if (order.contains("cpu")) {  // before any thread of the pool exists, so that all inherit it
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(order["cpu"].get<int>(), &set);
      if (::sched_setaffinity(0, sizeof set, &set) != 0)
        return refusal("that CPU is not to be had");
    }
    api::DriverOptions options;
    options.app = order.value("app", "keelback.apps.bench");
    options.settings.pool.workers = order.value("workers", 2u);
    options.settings.pool.min_ready = 1;
    // stdout carries the answers, and nothing else may.
    options.logger =
        std::make_shared<spdlog::logger>("agent", std::make_shared<spdlog::sinks::null_sink_mt>());
    options.settings.pool.queue_max = 100'000;
    const Json settings = order.value("settings", Json::object());
    for (const auto& [key, value] : settings.items()) {
      if (auto set = set_setting(options.settings, key, value.get<std::string>()); !set) {
        return refusal(set.error());
      }
    }
    const Json environment = order.value("env", Json::object());
    for (const auto& [name, value] : environment.items()) {
      options.environment.emplace_back(name, value.get<std::string>());
    }
    fds_before_ = os::count_open_fds().value_or(0);
    const auto began = Clock::now();
    auto made = api::make_driver(options);
    if (!made) return refusal(made.error());
    driver_ = std::move(*made);
    const Call first{.function = order.value("function", "noop"),
                     .payload = order.value("payload", "[1]")};
    const Outcome outcome = driver_->call(first);
    const auto first_call = Clock::now();
    if (!outcome.ok()) {
      const std::string why =
          fmt::format("the first call ended as {}: {}", to_string(outcome.kind), outcome.message);
      driver_.reset();
      return refusal(why);
    }
    const std::uint32_t workers = options.settings.pool.workers;
    if (!wait_for([&] { return driver_->info().stats.workers.ready >= workers; },
                  std::chrono::seconds(60))) {
      driver_.reset();
      return refusal("the pool was not ready within 60 s");
    }
    return {{"ok", true},
            {"first_call_ms", ms(first_call - began)},
            {"all_ready_ms", ms(Clock::now() - began)}};
  }

  std::uint64_t cpu() {
    rusage self{};
    ::getrusage(RUSAGE_SELF, &self);
    const auto ns = [](const timeval& t) {
      return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
             static_cast<std::uint64_t>(t.tv_usec) * 1000;
    };
    std::uint64_t sum = ns(self.ru_utime) + ns(self.ru_stime);
    for (const host::WorkerInfo& worker : driver_->workers()) sum += run_time(worker.pid);
    return sum;
  }

  Json window(const Json& order) {
    const Call call{.function = order.value("function", "noop"),
                    .payload = order.value("payload", "[1]")};
    const auto sessions = order.value("sessions", 0u);
    const auto cpu_before = cpu();
    const load::Run run = load::run_closed(
        *driver_, order.value("callers", 1u),
        std::chrono::microseconds(static_cast<long>(1e3 * order.value("ms", 50.0))),
        [&](std::uint32_t caller, std::uint64_t index) {
          Call one = call;
          if (sessions)
            one.session = load::session_name(
                static_cast<std::uint32_t>((caller * 7919 + index) % sessions) + 1);
          return one;
        });
    Json result = figures(run);
    result["cpu_us_per_call"] = static_cast<double>(cpu() - cpu_before) / 1e3 /
                                std::max<double>(1, static_cast<double>(run.records.size()));
    return result;
  }

  Json open(const Json& order) {
    load::LoadSpec spec;
    spec.rate = order.value("rate", 100.0);
    spec.length = std::chrono::microseconds(static_cast<long>(1e3 * order.value("ms", 1000.0)));
    spec.sessions = order.value("sessions", 0u);
    const load::Plan plan = load::make_plan(spec, order.value("seed", 1u));
    const Call call{.function = order.value("function", "noop"),
                    .payload = order.value("payload", "[1]")};
    const load::Run run =
        load::run_plan(*driver_, plan, [&](const load::Arrival& arrival, std::size_t) {
          Call one = call;
          one.session = load::session_name(arrival.session);
          return one;
        });
    Json result = figures(run);
    result["void"] = load::void_reasons(run);
    result["plan_hash"] = fmt::format("{:016x}", plan.hash);
    return result;
  }

  Json memory() {
    std::uint64_t pss = smaps_kb(::getpid(), "Pss:");
    Json processes = Json::object();
    for (const pid_t pid : os::descendants_of(::getpid())) {
      const auto own = smaps_kb(pid, "Pss:");
      pss += own;
      processes[std::to_string(pid)] = own;
    }
    return {{"ok", true},
            {"pss_kb", pss},
            {"processes", processes},
            {"fds", os::count_open_fds().value_or(0)}};
  }

  // Kills a worker that is running a call; the next generation must come up ready.
  Json recover() {
    std::atomic<int> lost{-1};
    driver_->submit({.function = "spin_ms", .payload = "[30000]"}, [&](Outcome&& outcome) {
      lost = outcome.kind == OutcomeKind::kWorkerDied ? 1 : 0;
    });
    host::WorkerInfo victim;
    const bool busy = wait_for(
        [&] {
          for (const host::WorkerInfo& worker : driver_->workers()) {
            if (worker.call && worker.pid > 0) {
              victim = worker;
              return true;
            }
          }
          return false;
        },
        std::chrono::seconds(5));
    if (!busy) return refusal("no worker took the call");
    // A call that has not started is handed to another worker without a word. This one has, once
    // its worker has burnt processor time that only the function can have used.
    const std::uint64_t ran = run_time(victim.pid);
    if (!wait_for([&] { return run_time(victim.pid) > ran + 2'000'000; },
                  std::chrono::seconds(10))) {
      return refusal("the call did not start");
    }
    const auto killed = Clock::now();
    ::kill(static_cast<pid_t>(victim.pid), SIGKILL);
    if (!wait_for([&] { return lost >= 0; }, std::chrono::seconds(30)))
      std::abort();  // it refers to our frame
    const auto detected = Clock::now();
    const bool back = wait_for(
        [&] {
          for (const host::WorkerInfo& worker : driver_->workers()) {
            if (worker.worker.slot == victim.worker.slot &&
                worker.worker.generation > victim.worker.generation &&
                worker.state == core::WorkerState::kReady) {
              return true;
            }
          }
          return false;
        },
        std::chrono::seconds(30));
    if (!back) return refusal("no replacement within 30 s");
    return {{"ok", true},
            {"detected_ms", ms(detected - killed)},
            {"ready_ms", ms(Clock::now() - killed)},
            {"lost", lost.load()}};
  }

  // What one call costs in things that can be counted, not timed.
  Json counters(const Json& order) {
    const auto calls = order.value("calls", 2000u);
    const Call call{.function = order.value("function", "noop"),
                    .payload = order.value("payload", "[1]")};
    std::vector<std::int64_t> pids;
    for (const host::WorkerInfo& worker : driver_->workers()) pids.push_back(worker.pid);
    const auto switches = [&] {
      std::uint64_t sum = 0;
      for (const std::int64_t pid : pids) {
        std::ifstream file(fmt::format("/proc/{}/status", pid));
        for (std::string line; std::getline(file, line);) {
          if (line.starts_with("voluntary_ctxt_switches:")) sum += std::stoull(line.substr(24));
        }
      }
      return sum;
    };
    const auto own_switches = [] {
      rusage self{};
      ::getrusage(RUSAGE_SELF, &self);
      return static_cast<std::uint64_t>(self.ru_nvcsw);
    };
    for (int i = 0; i < 200; ++i) (void)driver_->call(call);
    const auto before = switches(), own_before = own_switches();
    for (std::uint32_t i = 0; i < calls; ++i) (void)driver_->call(call);
    const auto per_call = [&](std::uint64_t n) { return static_cast<double>(n) / calls; };
    return {{"ok", true},
            {"worker_switches_per_call", per_call(switches() - before)},
            {"caller_switches_per_call", per_call(own_switches() - own_before)},
            {"fds", os::count_open_fds().value_or(0)},
            {"processes", os::descendants_of(::getpid()).size()}};
  }

  Json stop() {
    if (!driver_) return refusal("no pool is running");
    const auto began = Clock::now();
    driver_.reset();
    const double took = ms(Clock::now() - began);
    const auto fds = os::count_open_fds().value_or(0);
    return {{"ok", true},
            {"stop_ms", took},
            {"left_processes", os::descendants_of(::getpid()).size()},
            {"left_fds", static_cast<std::int64_t>(fds) - static_cast<std::int64_t>(fds_before_)}};
  }

  template <typename Condition>
  static bool wait_for(Condition condition, Duration limit) {
    const auto end = Clock::now() + limit;
    while (!condition()) {
      if (Clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
  }

  std::unique_ptr<host::Driver> driver_;
  std::size_t fds_before_ = 0;
};

Agent::Agent() : impl_(std::make_unique<Impl>()) {}
Agent::~Agent() = default;

Json Agent::perform(const Json& order) {
  try {
    return impl_->perform(order);
  } catch (const std::exception& error) {  // nlohmann and <filesystem> throw; our code does not
    return refusal(error.what());
  }
}

int serve_agent(int in, int out) {
  Agent agent;
  FILE* input = ::fdopen(in, "r");
  if (!input) return 2;
  char* line = nullptr;
  std::size_t capacity = 0;
  while (::getline(&line, &capacity, input) > 0) {
    const Json order = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const Json answer = order.is_object() ? agent.perform(order) : refusal("not a JSON object");
    const std::string text = answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    if (::write(out, text.data(), text.size()) != static_cast<ssize_t>(text.size())) break;
  }
  ::free(line);
  ::fclose(input);
  return 0;
}

}  // namespace keelback::bench
