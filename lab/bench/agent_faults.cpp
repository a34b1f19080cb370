#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <expected>
#include <future>
#include <optional>
#include <thread>

#include "bench/agent_orders.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

// A worker that is burning processor time in the call that we gave it.
std::optional<host::WorkerInfo> busy_with(PoolUnderTest& pool, CallId call) {
  std::optional<host::WorkerInfo> victim;
  const bool found = wait_for(
      [&] {
        for (const host::WorkerInfo& worker : pool.driver().workers()) {
          if (worker.call == call && worker.pid > 0) victim = worker;
        }
        return victim.has_value();
      },
      std::chrono::seconds(10));
  if (!found) return std::nullopt;
  // A call that has not started is handed to another worker without a word. This one has, once its
  // worker has burnt processor time that only the function can have used.
  const std::uint64_t ran = run_time(victim->pid);
  if (!wait_for([&] { return run_time(victim->pid) > ran + 2'000'000; }, std::chrono::seconds(10)))
    return std::nullopt;
  return victim;
}

bool replaced(PoolUnderTest& pool, const WorkerId& victim) {
  for (const host::WorkerInfo& worker : pool.driver().workers()) {
    if (worker.worker.slot == victim.slot && worker.worker.generation > victim.generation &&
        (worker.state == core::WorkerState::kReady || worker.state == core::WorkerState::kBusy)) {
      return true;
    }
  }
  return false;
}

struct Victim {
  Clock::time_point killed, detected, ready;
  OutcomeKind kind = OutcomeKind::kOk;
};

// SIGKILL of a worker in the middle of a call, to its replacement ready.
std::expected<Victim, std::string> kill_a_busy_worker(PoolUnderTest& pool) {
  auto told = std::make_shared<std::promise<std::pair<OutcomeKind, Clock::time_point>>>();
  auto outcome = told->get_future();
  const CallId call = pool.driver().submit(
      {.function = "spin_ms", .payload = "[30000]", .priority = Priority::kHigh},
      [told](Outcome&& ended) { told->set_value({ended.kind, Clock::now()}); });
  const auto worker = busy_with(pool, call);
  if (!worker) return std::unexpected("no worker took the call");
  Victim victim{.killed = Clock::now()};
  ::kill(static_cast<pid_t>(worker->pid), SIGKILL);
  if (outcome.wait_for(std::chrono::seconds(30)) != std::future_status::ready)
    return std::unexpected("the killed worker's call had no outcome within 30 s");
  std::tie(victim.kind, victim.detected) = outcome.get();
  if (!wait_for([&] { return replaced(pool, worker->worker); }, std::chrono::seconds(30)))
    return std::unexpected("no replacement within 30 s");
  victim.ready = Clock::now();
  return victim;
}

}  // namespace

// With "rate": under open load of idempotent calls, which must all succeed; `ms` before and after.
Json recover(PoolUnderTest& pool, const Json& order) {
  const double rate = order.value("rate", 0.0);
  if (rate <= 0) {
    const auto victim = kill_a_busy_worker(pool);
    if (!victim) return refusal(victim.error());
    return {{"ok", true},
            {"detected_ms", ms(victim->detected - victim->killed)},
            {"ready_ms", ms(victim->ready - victim->killed)},
            {"lost", victim->kind == OutcomeKind::kWorkerDied ? 1 : 0}};
  }
  const Duration half = from_ms(order.value("ms", 500.0));
  const load::Plan plan =
      load::make_plan({.rate = rate, .length = 2 * half}, order.value("seed", 1u));
  std::optional<load::Run> run;
  const auto began = Clock::now();
  std::jthread generator([&] {
    run = load::run_plan(pool.driver(), plan, [](const load::Arrival&, std::size_t) {
      return Call{.function = "noop", .payload = "[1]", .idempotent = true};
    });
  });
  std::this_thread::sleep_until(began + half);
  const auto victim = kill_a_busy_worker(pool);
  generator.join();
  if (!victim) return refusal(victim.error());
  const auto at = [&](Clock::time_point when) {
    return std::chrono::duration<double>(when - run->started).count();
  };
  load::Histogram before, after;
  std::optional<double> first_success;
  for (const load::Record& record : run->records) {
    if (run->started + record.planned < victim->killed) {
      if (record.ok()) before.record(record.latency());
    } else if (record.state == load::Record::State::kDone) {
      after.record(record.latency());
      if (record.ok()) {
        const double done =
            1e3 * (std::chrono::duration<double>(record.done).count() - at(victim->killed));
        if (!first_success || done < *first_success) first_success = done;
      }
    }
  }
  Json result = figures(*run);
  result["detected_ms"] = ms(victim->detected - victim->killed);
  result["ready_ms"] = ms(victim->ready - victim->killed);
  result["first_success_ms"] = first_success.value_or(0);
  result["lost"] = run->records.size() - run->count(OutcomeKind::kOk);
  result["p99_before_us"] = us(before.quantile(0.99).value);
  result["p99_after_us"] = us(after.quantile(0.99).value);
  result["marks"] = {{at(victim->killed), "SIGKILL"},
                     {at(victim->detected), "its call ends"},
                     {at(victim->ready), "replaced"}};
  result["points"] = points_of(*run, order.value("points", 2000u));
  return result;
}

// A planned replacement, from the order to the new worker ready: what one more worker costs while
// the pool serves.
Json recycle(PoolUnderTest& pool) {
  std::uint32_t newest = 0;
  std::optional<std::uint32_t> slot;
  for (const host::WorkerInfo& worker : pool.driver().workers()) {
    newest = std::max(newest, worker.worker.generation);
    if (worker.state == core::WorkerState::kReady) slot = worker.worker.slot;
  }
  if (!slot) return refusal("no worker is ready");
  const auto began = Clock::now();
  if (!pool.driver().recycle(*slot)) return refusal("there is no such slot");
  const bool up = wait_for(
      [&] {
        for (const host::WorkerInfo& worker : pool.driver().workers()) {
          if (worker.worker.generation > newest && worker.state == core::WorkerState::kReady)
            return true;
        }
        return false;
      },
      std::chrono::seconds(30));
  if (!up) return refusal("no replacement within 30 s");
  return {{"ok", true}, {"ready_ms", ms(Clock::now() - began)}};
}

}  // namespace keelback::bench
