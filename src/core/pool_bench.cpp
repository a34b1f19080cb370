// What the core costs: a call's whole way through handle(), and the session table at a million.
// Run by hand on an idle machine: core_bench --benchmark_repetitions=5. Numbers belong to a
// machine and a commit; the ratios between the lines are what travels.
#include <benchmark/benchmark.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/prng.h"
#include "core/pool.h"
#include "core/session_table.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// A pool with every worker ready, driven by hand.
struct Bench {
  Settings settings;
  Pool pool;
  Actions actions;
  Time now{};
  std::uint64_t calls = 0;

  explicit Bench(std::uint32_t workers, std::uint32_t sessions_max = 100'000)
      : settings(with(workers, sessions_max)), pool(settings, 1) {
    FunctionsAnnounced functions;
    functions.functions.emplace_back();
    functions.functions.back().name = "f";
    pool.handle(now, functions, actions);
    for (std::uint32_t slot = 1; slot <= workers; ++slot) {
      pool.handle(now, WorkerReady{WorkerId{slot, slot}}, actions);
    }
    actions.clear();
  }
  static Settings with(std::uint32_t workers, std::uint32_t sessions_max) {
    Settings settings;
    settings.pool.workers = workers;
    settings.pool.queue_max = 1'000'000;
    settings.sessions.queue_max = 1'000'000;
    settings.sessions.max = sessions_max;
    return settings;
  }
  CallId submit(std::string_view session = {}) {
    CallSubmitted event;
    event.call = CallId{++calls};
    event.function = "f";
    event.session = session;
    now += 1us;
    pool.handle(now, event, actions);
    return event.call;
  }
  void reply(WorkerId worker, CallId call) {
    pool.handle(now, WorkerReplied{worker, call}, actions);
  }
};

// Submit, dispatch, reply, resolve: one call on an idle pool.
void CallOnIdlePool(benchmark::State& state) {
  Bench bench(static_cast<std::uint32_t>(state.range(0)));
  for (auto _ : state) {
    const CallId call = bench.submit();
    bench.reply(std::get<Dispatch>(bench.actions.front()).worker, call);
    bench.actions.clear();
  }
}
BENCHMARK(CallOnIdlePool)->Arg(2)->Arg(64);

// The same with `range(0)` calls waiting in front.
void CallThroughAQueue(benchmark::State& state) {
  Bench bench(2);
  for (int i = 0; i < state.range(0); ++i) bench.submit();
  std::vector<Dispatch> running;
  const auto collect = [&] {
    for (Action& action : bench.actions) {
      if (auto* dispatch = std::get_if<Dispatch>(&action)) running.push_back(std::move(*dispatch));
    }
    bench.actions.clear();
  };
  collect();
  for (auto _ : state) {
    bench.submit();
    const Dispatch next = std::move(running.front());
    running.erase(running.begin());
    bench.reply(next.worker, next.call);
    collect();
  }
}
BENCHMARK(CallThroughAQueue)->Arg(1'000)->Arg(100'000);

// A call in one of `range(0)` sessions, chosen at random.
void CallInASession(benchmark::State& state) {
  const auto count = static_cast<std::uint64_t>(state.range(0));
  Bench bench(4, static_cast<std::uint32_t>(count));
  std::vector<std::string> ids;
  for (std::uint64_t i = 0; i < count; ++i) ids.push_back("session-" + std::to_string(i));
  const auto run = [&](const std::string& id) {
    const CallId call = bench.submit(id);
    for (const Action& action : bench.actions) {
      if (const auto* dispatch = std::get_if<Dispatch>(&action)) {
        const WorkerId worker = dispatch->worker;
        bench.actions.clear();
        bench.reply(worker, call);
        break;
      }
    }
    bench.actions.clear();
  };
  for (const std::string& id : ids) run(id);
  Prng prng(1);
  for (auto _ : state) run(ids[prng.below(count)]);
}
BENCHMARK(CallInASession)->Arg(1'000)->Arg(100'000);

// Lookup, verdict and touch of a random session. Reports the table's bytes a session beside it.
void SessionLookupAndTouch(benchmark::State& state) {
  const auto count = static_cast<std::uint64_t>(state.range(0));
  SessionTable table({30min, 24h}, 1);
  std::vector<std::string> ids;
  Time now{};
  for (std::uint64_t i = 0; i < count; ++i) {
    ids.push_back("s-" + std::to_string(i));
    Session& session = table.open(now, ids.back(), Affinity::kStrictQueue, i);
    session.established = true;
    table.leave(session, now);
  }
  // The queries live in one block, so that fetching the key costs the same at every size.
  Prng prng(1);
  std::vector<std::string> queries;
  for (int i = 0; i < 4096; ++i) queries.push_back(ids[prng.below(count)]);
  std::size_t at = 0;
  for (auto _ : state) {
    if (at == queries.size()) {
      state.PauseTiming();
      for (std::string& query : queries) query = ids[prng.below(count)];
      at = 0;
      state.ResumeTiming();
    }
    now += 1us;
    Session* session = table.find(queries[at++]);
    benchmark::DoNotOptimize(table.judge(*session, now));
    table.touch(*session, now);
  }
  state.counters["bytes_per_session"] =
      static_cast<double>(sizeof(Session)) +
      static_cast<double>(table.index_bytes()) / static_cast<double>(count);
}
BENCHMARK(SessionLookupAndTouch)->Arg(1'000)->Arg(100'000)->Arg(1'000'000);

// One step of a death with `range(0)` idle sessions: the exit itself, not the sweep that follows.
void DeathWithSessions(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    Bench bench(1, 1'000'000);
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      const CallId call = bench.submit("s-" + std::to_string(i));
      bench.reply(WorkerId{1, 1}, call);
      bench.actions.clear();
    }
    const WorkerExited exit{WorkerId{1, 1}, {}, {}};
    state.ResumeTiming();
    bench.pool.handle(bench.now, exit, bench.actions);
    state.PauseTiming();
    {
      const Bench gone = std::move(bench);
    }
    state.ResumeTiming();
  }
}
BENCHMARK(DeathWithSessions)
    ->Arg(1'000)
    ->Arg(100'000)
    ->Iterations(10)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace keelback::core

BENCHMARK_MAIN();
