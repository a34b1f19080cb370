#include "bench/pool_under_test.h"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/null_sink.h>
#include <sys/resource.h>
#include <unistd.h>

#include <expected>
#include <fstream>
#include <future>
#include <utility>

#include "api/driver_factory.h"
#include "base/settings_schema.h"
#include "bench/pinned.h"
#include "load/application.h"
#include "os/fd.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

// Of its first thread.
Switches switches_of(std::int64_t pid) {
  constexpr std::string_view kOwn = "voluntary_ctxt_switches:",
                             kForced = "nonvoluntary_ctxt_switches:";
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  Switches found;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kOwn)) found.voluntary = std::stoull(line.substr(kOwn.size()));
    if (line.starts_with(kForced)) found.forced = std::stoull(line.substr(kForced.size()));
  }
  return found;
}

// The error: which setting is wrong, and how.
std::expected<api::DriverOptions, std::string> options_of(const Json& order) {
  api::DriverOptions options;
  options.app = order.value("app", load::lab_application("bench_probe"));
  options.expose = order.value("expose", std::vector<std::string>());
  options.settings.pool.workers = order.value("workers", 2u);
  options.settings.pool.min_ready = 1;
  options.settings.pool.queue_max = 200'000;
  options.settings.sessions.max = 2'000'000;
  // stdout carries the answers, and nothing else may.
  options.logger =
      std::make_shared<spdlog::logger>("agent", std::make_shared<spdlog::sinks::null_sink_mt>());
  const Json settings = order.value("settings", Json::object());
  for (const auto& [key, value] : settings.items()) {
    if (auto set = set_setting(options.settings, key, value.get<std::string>()); !set)
      return std::unexpected(set.error());
  }
  const Json environment = order.value("env", Json::object());
  for (const auto& [name, value] : environment.items())
    options.environment.emplace_back(name, value.get<std::string>());
  return options;
}

std::string function_of(const Json& order) { return order.value("function", "noop"); }

}  // namespace

Json refusal(std::string why) { return {{"ok", false}, {"error", std::move(why)}}; }
double ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }
double us(Duration d) { return std::chrono::duration<double, std::micro>(d).count(); }
Duration from_ms(double milliseconds) { return Duration{static_cast<long>(1e6 * milliseconds)}; }

std::uint64_t run_time(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/schedstat", pid));
  std::uint64_t ran = 0;
  file >> ran;
  return ran;
}

std::uint64_t pss_kb(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Pss:")) return std::stoull(line.substr(4));
  }
  return 0;
}

bool PoolUnderTest::wait_until_ready() {
  return load::soon(
      [&] {
        const auto& workers = driver_->info().stats.workers;
        return workers.ready + workers.busy >= workers_;
      },
      from_ms(60'000));
}

Json PoolUnderTest::start(const Json& order) {
  if (driver_) return refusal("a pool is running already");
  // Before any thread of the pool exists, so that all inherit it.
  if (order.contains("cpu") && !Pinned::put(0, order["cpu"].get<int>()))
    return refusal("that CPU is not to be had");
  auto options = options_of(order);
  if (!options) return refusal(options.error());
  workers_ = options->settings.pool.workers;
  fds_before_ = os::count_open_fds().value_or(0);
  const auto began = Clock::now();
  auto made = api::make_driver(*options);
  if (!made) return refusal(made.error());
  driver_ = std::move(*made);
  const double supervisor_ms = ms(Clock::now() - began);
  Json answer = first_calls(order, began);
  if (!answer["ok"]) {
    driver_.reset();
    return answer;
  }
  if (!wait_until_ready()) {
    driver_.reset();
    return refusal("the pool was not ready within 60 s");
  }
  answer["all_ready_ms"] = ms(Clock::now() - began);
  answer["supervisor_ms"] = supervisor_ms;
  const host::StartPath path = driver_->info().start;
  answer["mode"] = path.mode;
  answer["import_ms"] = 1e3 * path.import_s;
  const auto application = driver_->application();
  const auto* function = application ? application->find(function_of(order)) : nullptr;
  answer["concurrency"] = function ? function->concurrency : 1;
  answer["batch"] = function ? function->batch : 0;
  answer["batch_wait_ms"] = function ? ms(function->batch_wait) : 0.0;
  for (const host::WorkerInfo& worker : driver_->workers())
    answer["worker_pids"].push_back(worker.pid);
  return answer;
}

// The first calls wait in the cold pool, as a user's would. If there is one, its outcome is the
// word on a pool that cannot start.
Json PoolUnderTest::first_calls(const Json& order, Clock::time_point began) {
  const auto calls = std::max(1u, order.value("calls", 1u));
  std::vector<std::promise<std::pair<Outcome, Clock::time_point>>> promises(calls);
  for (auto& promise : promises) {
    driver_->submit(
        {.function = function_of(order), .payload = order.value("payload", "[1]")},
        [&promise](Outcome&& outcome) { promise.set_value({std::move(outcome), Clock::now()}); });
  }
  auto first = promises.front().get_future();
  (void)load::soon(
      [&] {
        const auto& workers = driver_->info().stats.workers;
        return workers.ready + workers.busy > 0 ||
               first.wait_for(Duration{0}) == std::future_status::ready;
      },
      from_ms(60'000));
  const auto first_ready = Clock::now();
  const auto [outcome, first_call] = first.get();
  std::uint32_t ok = outcome.ok();
  for (std::size_t i = 1; i < promises.size(); ++i) ok += promises[i].get_future().get().first.ok();
  if (calls == 1 && !outcome.ok())
    return refusal(
        fmt::format("the first call ended as {}: {}", to_string(outcome.kind), outcome.message));
  return {{"ok", true},
          {"first_ready_ms", ms(first_ready - began)},
          {"first_call_ms", ms(first_call - began)},
          {"first_ran_ms", ms(outcome.ran)},
          {"calls_ok", ok}};
}

Json PoolUnderTest::stop() {
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

std::uint64_t PoolUnderTest::cpu() {
  timespec own{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  std::uint64_t sum = static_cast<std::uint64_t>(own.tv_sec) * 1'000'000'000 +
                      static_cast<std::uint64_t>(own.tv_nsec);
  for (const host::WorkerInfo& worker : driver_->workers()) sum += run_time(worker.pid);
  return sum;
}

os::ProcessorUse PoolUnderTest::workers_use() {
  os::ProcessorUse sum;
  for (const host::WorkerInfo& worker : driver_->workers()) {
    const auto use = os::read_processor_use_of_threads(static_cast<pid_t>(worker.pid));
    if (!use) continue;
    sum.ran += use->ran;
    sum.waited += use->waited;
  }
  return sum;
}

Switches PoolUnderTest::own_switches() const {
  rusage self{};
  ::getrusage(RUSAGE_SELF, &self);
  return {static_cast<std::uint64_t>(self.ru_nvcsw), static_cast<std::uint64_t>(self.ru_nivcsw)};
}

Switches PoolUnderTest::worker_switches() {
  Switches sum;
  for (const host::WorkerInfo& worker : driver_->workers()) {
    const Switches one = switches_of(worker.pid);
    sum.voluntary += one.voluntary;
    sum.forced += one.forced;
  }
  return sum;
}

std::uint64_t PoolUnderTest::total_pss_kb() const {
  std::uint64_t sum = pss_kb(::getpid());
  for (const pid_t pid : os::descendants_of(::getpid())) sum += pss_kb(pid);
  return sum;
}

}  // namespace keelback::bench
