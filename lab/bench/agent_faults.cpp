#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>

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

constexpr Duration kPause = std::chrono::microseconds(50);

// A worker that is burning processor time in the call that we gave it.
std::optional<host::WorkerInfo> busy_with(PoolUnderTest& pool, CallId call) {
  std::optional<host::WorkerInfo> victim;
  const bool found = load::soon(
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
  if (!load::soon([&] { return run_time(victim->pid) > ran + 2'000'000; },
                  std::chrono::seconds(10)))
    return std::nullopt;
  return victim;
}

bool replaced(PoolUnderTest& pool, const WorkerId& victim) {
  // Asked first because it is cheap: the list reads every worker's memory from /proc, on a
  // processor that the worker we wait for could use.
  if (pool.driver().info().stats.workers.starting > 0) return false;
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

// SIGKILL of a worker in the middle of a call, to its replacement ready. No two victims run the
// same request, or it would be quarantined.
std::expected<Victim, std::string> kill_a_busy_worker(PoolUnderTest& pool) {
  static int victims = 0;
  auto told = std::make_shared<std::promise<std::pair<OutcomeKind, Clock::time_point>>>();
  auto outcome = told->get_future();
  const CallId call = pool.driver().submit(
      {.function = "spin_ms",
       .payload = fmt::format("[{}]", 30'000 + victims++),
       .priority = Priority::kHigh},
      [told](Outcome&& ended) { told->set_value({ended.kind, Clock::now()}); });
  const auto worker = busy_with(pool, call);
  if (!worker) return std::unexpected("no worker took the call");
  Victim victim{.killed = Clock::now()};
  ::kill(static_cast<pid_t>(worker->pid), SIGKILL);
  if (outcome.wait_for(std::chrono::seconds(30)) != std::future_status::ready)
    return std::unexpected("the killed worker's call had no outcome within 30 s");
  std::tie(victim.kind, victim.detected) = outcome.get();
  if (!load::soon([&] { return replaced(pool, worker->worker); }, std::chrono::seconds(30), kPause))
    return std::unexpected("no replacement within 30 s");
  victim.ready = Clock::now();
  return victim;
}

// Under open load of idempotent calls, which must all succeed; `ms` before and after.
Json recover_under_load(PoolUnderTest& pool, const Json& order) {
  const double rate = order.value("rate", 0.0);
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

}  // namespace

Json recover(PoolUnderTest& pool, const Json& order) {
  if (order.value("rate", 0.0) > 0) return recover_under_load(pool, order);
  const auto victim = kill_a_busy_worker(pool);
  if (!victim) return refusal(victim.error());
  // What follows is no crash loop: a worker that has served is a good one.
  for (std::uint32_t call = 0; call < pool.size(); ++call)
    (void)pool.driver().call({.function = "noop", .payload = "[1]"});
  return {{"ok", true},
          {"detected_ms", ms(victim->detected - victim->killed)},
          {"ready_ms", ms(victim->ready - victim->killed)},
          {"lost", victim->kind == OutcomeKind::kWorkerDied ? 1 : 0}};
}

// Every worker is killed while it serves 16 callers; then so many single calls must succeed.
Json kill_all(PoolUnderTest& pool, const Json& order) {
  const Call call = call_of(order);
  const auto victims = pool.driver().workers();
  std::jthread load([&] {
    load::run_closed(pool.driver(), 16, from_ms(order.value("ms", 100.0)),
                     [&](std::uint32_t, std::uint64_t) { return call; });
  });
  for (const host::WorkerInfo& victim : victims) ::kill(static_cast<pid_t>(victim.pid), SIGKILL);
  load.join();
  const auto asked = order.value("calls", 5u);
  std::uint32_t succeeded = 0;
  for (std::uint32_t i = 0; i < asked; ++i) succeeded += pool.driver().call(call).ok();
  if (!pool.wait_until_ready()) return refusal("the pool was not ready within 60 s");
  return {{"ok", true}, {"share", static_cast<double>(succeeded) / asked}};
}

// A planned replacement, from the order to the new worker ready: what one more worker costs while
// the pool serves.
Json recycle(PoolUnderTest& pool, const Json&) {
  std::optional<WorkerId> old;
  for (const host::WorkerInfo& worker : pool.driver().workers()) {
    if (worker.state == core::WorkerState::kReady) old = worker.worker;
  }
  if (!old) return refusal("no worker is ready");
  ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);  // of this thread's sleeps
  const auto began = Clock::now();
  if (!pool.driver().recycle(old->slot)) return refusal("there is no such slot");
  const auto limit = std::chrono::seconds(30);
  if (!load::soon([&] { return replaced(pool, *old); }, limit, kPause))
    return refusal("no replacement within 30 s");
  const double took = ms(Clock::now() - began);
  // The old one goes before the next order, so that it costs that one nothing.
  if (!load::soon([&] { return pool.driver().workers().size() == pool.size(); }, limit))
    return refusal("the replaced worker does not go");
  return {{"ok", true}, {"ready_ms", took}};
}

}  // namespace keelback::bench
