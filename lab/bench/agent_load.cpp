#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <span>
#include <thread>

#include "bench/agent_orders.h"
#include "bench/pinned.h"
#include "bench/signed_rank.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

Json buckets_of(const load::Histogram& histogram) {
  Json buckets = Json::array();
  for (const auto& bucket : histogram.buckets())
    buckets.push_back({bucket.middle.count(), bucket.finished, bucket.censored});
  return buckets;
}

// Jain's index of fairness over shares: 1 when all are equal, 1/n when one has everything.
double jain(const std::vector<double>& shares) {
  double sum = 0, squares = 0;
  for (const double share : shares) {
    sum += share;
    squares += share * share;
  }
  return squares > 0 ? sum * sum / (static_cast<double>(shares.size()) * squares) : 1;
}

}  // namespace

Call call_of(const Json& order, const char* function) {
  Call call{.function = order.value("function", function),
            .payload = order.value("payload", "[1]")};
  if (order.contains("deadline_ms")) call.deadline = from_ms(order["deadline_ms"].get<double>());
  return call;
}

Json figures(const load::Run& run) {
  const load::Histogram latency = run.latency(), service = run.service(), lag = run.lag();
  const double seconds = std::chrono::duration<double>(run.length).count();
  Json result = {{"ok", true},
                 {"calls", run.records.size()},
                 {"succeeded", run.count(OutcomeKind::kOk)},
                 {"per_second", static_cast<double>(run.count(OutcomeKind::kOk)) / seconds},
                 {"buckets", buckets_of(latency)},
                 {"service_buckets", buckets_of(service)},
                 {"lag_buckets", buckets_of(lag)}};
  for (const auto& [name, q] :
       {std::pair{"p10_us", 0.1}, std::pair{"p50_us", 0.5}, std::pair{"p99_us", 0.99}})
    result[name] = us(latency.quantile(q).value);
  result["service_p99_us"] = us(service.quantile(0.99).value);
  std::map<std::string, std::uint64_t> outcomes;
  for (const load::Record& record : run.records) {
    if (record.state == load::Record::State::kDone)
      ++outcomes[std::string(to_string(record.kind))];
    else
      ++outcomes[record.state == load::Record::State::kUnsent ? "unsent" : "unfinished"];
  }
  result["outcomes"] = outcomes;
  return result;
}

Json points_of(const load::Run& run, std::size_t most) {
  Json points = Json::array();
  const std::size_t step =
      std::max<std::size_t>(1, run.records.size() / std::max<std::size_t>(1, most));
  for (std::size_t i = 0; i < run.records.size(); i += step) {
    const load::Record& record = run.records[i];
    const Duration latency =
        record.state == load::Record::State::kDone ? record.latency() : run.length - record.planned;
    points.push_back(
        {std::chrono::duration<double>(record.planned).count(), ms(latency), record.ok()});
  }
  return points;
}

namespace {

BatchSizes batches_of(PoolUnderTest& pool, const std::string& function) {
  for (const FunctionBatches& each : pool.driver().info().stats.batches) {
    if (each.function == function) return each.sizes;
  }
  return {};
}

// What the workers have used, and how many calls they took at once, while this lives.
class WorkersAtWork {
 public:
  WorkersAtWork(PoolUnderTest& pool, std::string function)
      : pool_(pool),
        function_(std::move(function)),
        use_(pool.workers_use()),
        sizes_(batches_of(pool, function_)) {}
  void note(Json& result, const load::Run& run) const {
    const auto calls = std::max<double>(1, static_cast<double>(run.records.size()));
    const os::ProcessorUse use = pool_.workers_use();
    const double workers_us = us(use.ran - use_.ran);
    result["worker_cpu_us_per_call"] = workers_us / calls;
    result["worker_queued_us_per_call"] = us(use.waited - use_.waited) / calls;
    result["worker_cpu_share"] = workers_us / us(run.length) / pool_.size();
    const BatchSizes sizes = batches_of(pool_, function_);
    const std::uint64_t batches = sizes.batches - sizes_.batches;
    if (batches > 0)
      result["batch_mean"] =
          static_cast<double>(sizes.calls - sizes_.calls) / static_cast<double>(batches);
  }

 private:
  PoolUnderTest& pool_;
  const std::string function_;
  const os::ProcessorUse use_;
  const BatchSizes sizes_;
};

}  // namespace

Json closed_window(PoolUnderTest& pool, const Json& order) {
  const Call call = call_of(order);
  const auto sessions = order.value("sessions", 0u);
  const load::ZipfPicker zipf(std::max(sessions, 1u), order.value("zipf", 0.0));
  std::vector<Prng> chances;
  const auto callers = order.value("callers", 1u);
  for (std::uint32_t caller = 0; caller < callers; ++caller) chances.emplace_back(caller + 1);
  const auto next = [&](std::uint32_t caller) {
    Call one = call;
    if (sessions) one.session = load::session_name(zipf.pick(chances[caller]));
    return one;
  };
  const Duration length = from_ms(order.value("ms", 50.0));
  const auto cpu_before = pool.cpu();
  const WorkersAtWork workers(pool, call.function);
  const load::Run run =
      order.value("threads", true)
          ? load::run_closed(pool.driver(), callers, length,
                             [&](std::uint32_t caller, std::uint64_t) { return next(caller); })
          : load::run_in_flight(pool.driver(), callers, length,
                                [&](std::uint64_t index) { return next(index % callers); });
  Json result = figures(run);
  const auto calls = std::max<double>(1, static_cast<double>(run.records.size()));
  result["cpu_us_per_call"] = static_cast<double>(pool.cpu() - cpu_before) / 1e3 / calls;
  workers.note(result, run);
  return result;
}

// Calls that all come at once: how long until the last one is answered.
Json wave(PoolUnderTest& pool, const Json& order) {
  load::Plan plan;
  const auto calls = order.value("calls", 64u);
  for (std::uint32_t i = 0; i < calls; ++i)
    plan.arrivals.push_back(
        {.at = Duration{0}, .session = order.value("sessions", false) ? i + 1 : 0});
  const Call call = call_of(order);
  const load::Run run = load::run_plan(pool.driver(), plan,
                                       [&](const load::Arrival& arrival, std::size_t) {
                                         Call one = call;
                                         one.session = load::session_name(arrival.session);
                                         return one;
                                       },
                                       {.drain = from_ms(order.value("drain_ms", 60'000.0))});
  Json result = figures(run);
  if (run.count(OutcomeKind::kOk) != calls)
    return refusal("not every call was answered: " + result["outcomes"].dump());
  result["all_ms"] = ms(run.length);
  result["first_ms"] = ms(std::ranges::min(run.records, {}, &load::Record::done).done);
  return result;
}

Json settle(PoolUnderTest& pool, const Json& order) {
  const auto workers = order.value("workers", 0u);
  const auto there = [&] { return pool.driver().workers().size() == workers; };
  if (!load::soon(there, std::chrono::seconds(60)))
    return refusal("the pool has another size for 60 s");
  return {{"ok", true}};
}

Json open_window(PoolUnderTest& pool, const Json& order) {
  const bool burst = order.value("shape", "poisson") == "burst";
  load::LoadSpec spec{
      .shape = burst ? load::LoadSpec::Shape::kBurst : load::LoadSpec::Shape::kPoisson,
      .rate = order.value("rate", 100.0),
      .burst_factor = order.value("burst_factor", 5.0),
      .length = from_ms(order.value("ms", 1000.0)),
      .sessions = order.value("sessions", 0u),
      .zipf = order.value("zipf", 0.0)};
  const load::Plan plan = load::make_plan(spec, order.value("seed", 1u));
  const Call call = call_of(order);
  const WorkersAtWork workers(pool, call.function);
  const load::Run run = load::run_plan(pool.driver(), plan,
                                       [&](const load::Arrival& arrival, std::size_t) {
                                         Call one = call;
                                         one.session = load::session_name(arrival.session);
                                         return one;
                                       },
                                       {.drain = from_ms(order.value("drain_ms", 10'000.0)),
                                        .in_flight_max = order.value("in_flight_max", 20'000u)});
  Json result = figures(run);
  workers.note(result, run);
  result["offered"] = static_cast<double>(plan.arrivals.size()) /
                      std::chrono::duration<double>(spec.length).count();
  // From the last planned arrival to the last outcome: how long a backlog takes to clear.
  result["drain_ms"] =
      plan.arrivals.empty() ? 0.0 : ms(std::max(Duration{0}, run.length - plan.arrivals.back().at));
  result["void"] = load::void_reasons(run, order.value("saturated", false));
  if (const auto most = order.value("points", 0u)) result["points"] = points_of(run, most);
  return result;
}

// Sessions chosen by Zipf: does each stay at home, is the load fair over workers, and what does a
// session's first call cost against the next.
Json affinity(PoolUnderTest& pool, const Json& order) {
  const auto sessions = order.value("sessions", 100u);
  const auto calls = order.value("calls", 2000u);
  const load::ZipfPicker zipf(sessions, order.value("zipf", 0.0));
  Prng prng(order.value("seed", 1u));
  std::map<std::uint32_t, Outcome> homes;
  std::map<std::uint32_t, double> by_worker;
  load::Histogram first, next;
  std::uint64_t hits = 0, tries = 0, failed = 0;
  for (std::uint32_t i = 0; i < calls; ++i) {
    const std::uint32_t session = zipf.pick(prng);
    const auto before = Clock::now();
    Outcome outcome = pool.driver().call(
        {.function = "count", .payload = "[]", .session = load::session_name(session, "home-")});
    const auto took = Clock::now() - before;
    if (!outcome.ok()) {
      ++failed;
      continue;
    }
    by_worker[outcome.worker.slot] += 1;
    const auto home = homes.find(session);
    if (home == homes.end()) {
      first.record(took);
      homes.emplace(session, std::move(outcome));
      continue;
    }
    next.record(took);
    ++tries;
    hits += outcome.worker == home->second.worker && outcome.birth == home->second.birth &&
            outcome.epoch == home->second.epoch;
  }
  std::vector<double> shares;
  double most = 0, sum = 0;
  for (const auto& [slot, served] : by_worker) {
    shares.push_back(served);
    most = std::max(most, served);
    sum += served;
  }
  shares.resize(std::max<std::size_t>(shares.size(), pool.size()),
                0);  // workers without a call count, too
  return {{"ok", true},
          {"hit_ratio", tries ? static_cast<double>(hits) / static_cast<double>(tries) : 1.0},
          {"failed", failed},
          {"opened", homes.size()},
          {"first_p50_us", us(first.quantile(0.5).value)},
          {"next_p50_us", us(next.quantile(0.5).value)},
          {"jain", jain(shares)},
          {"max_over_mean", sum > 0 ? most * static_cast<double>(shares.size()) / sum : 1.0},
          {"by_worker", shares}};
}

// What calls of a session see while another session, on another worker, makes calls of 20 ms.
Json neighbour(PoolUnderTest& pool, const Json& order) {
  const auto home = [&](const std::string& session) {
    return pool.driver().call({.function = "count", .payload = "[]", .session = session}).worker;
  };
  const WorkerRef slow_home = home("slow");
  std::string quick;
  for (int i = 0; i < 64 && quick.empty(); ++i) {
    const std::string candidate = load::session_name(static_cast<std::uint32_t>(i) + 1, "quick-");
    if (home(candidate) != slow_home) quick = candidate;
  }
  if (quick.empty()) return refusal("64 sessions went to one worker");
  std::atomic<bool> over{false};
  std::jthread slow([&] {
    while (!over)
      (void)pool.driver().call({.function = "sleep_ms", .payload = "[20]", .session = "slow"});
  });
  const load::Run run = load::run_closed(
      pool.driver(), 1, from_ms(order.value("ms", 250.0)), [&](std::uint32_t, std::uint64_t) {
        return Call{.function = "count", .payload = "[]", .session = quick};
      });
  over = true;
  return figures(run);
}

// Calls with `bytes` beside them, this thread on one processor and the workers on another (or on
// the same). Left alone, the kernel puts both ends on one processor or on two and keeps them there:
// that is chance, and worth a factor of two, because on two the bytes cross from one cache to the
// other.
Json attachment(PoolUnderTest& pool, const Json& order) {
  const std::string source(order.value("bytes", 1u << 20), 'x');
  const bool comes_back = order.value("function", "noop") == "noop";
  const Pinned pin(order.value("here", -1));
  for (const host::WorkerInfo& worker : pool.driver().workers()) {
    if (order.contains("there")) Pinned::put(worker.pid, order["there"].get<int>());
  }
  std::vector<double> took;
  for (auto left = order.value("calls", 60u); left > 0; --left) {
    const auto began = Clock::now();
    const Outcome outcome = pool.driver().call(
        {.function = order.value("function", "noop"),
         .payload = "{}",
         .attachments = {{"x", Buffer(std::as_bytes(std::span(source)), nullptr), "", {}}}});
    took.push_back(us(Clock::now() - began));
    const bool arrived = !comes_back || (outcome.attachments.size() == 1 &&
                                         outcome.attachments[0].data.size() == source.size());
    if (!outcome.ok() || !arrived) return refusal("an attachment did not arrive");
  }
  return {{"ok", true}, {"p50_us", median(took)}};
}

Json pile(PoolUnderTest& pool, const Json& order) {
  for (auto waiting = order.value("waiting", 100u); waiting > 0; --waiting)
    pool.driver().submit({.function = "sleep_ms", .payload = "[5]"}, [](Outcome&&) {});
  return {{"ok", true}};
}

// What a call costs while `waiting` others wait: a backlog is laid, then drained, and the drain's
// rate is the pool's rate with that much queued.
Json queue_cost(PoolUnderTest& pool, const Json& order) {
  const auto waiting = order.value("waiting", 1000u);
  const Call call = call_of(order);
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint32_t done = 0, failed = 0;
  };
  const auto shared = std::make_shared<Shared>();
  const std::uint64_t memory_before = pss_kb(::getpid());
  const auto began = Clock::now();
  for (std::uint32_t i = 0; i < waiting; ++i) {
    pool.driver().submit(call, [shared](Outcome&& outcome) {
      std::lock_guard lock(shared->mutex);
      ++shared->done;
      shared->failed += !outcome.ok();
      shared->changed.notify_one();
    });
  }
  const auto laid = Clock::now();
  const std::uint64_t memory_laid = pss_kb(::getpid());
  std::unique_lock lock(shared->mutex);
  const std::uint32_t done_when_laid = shared->done;
  const auto counting = Clock::now();
  if (!shared->changed.wait_for(lock, std::chrono::seconds(60),
                                [&] { return shared->done == waiting; }))
    return refusal("the backlog was not served within 60 s");
  const Duration drained = Clock::now() - counting;
  return {{"ok", true},
          {"failed", shared->failed},
          {"submit_us", us(laid - began) / waiting},
          {"drain_us", us(drained) / std::max(1u, waiting - done_when_laid)},
          {"total_us", us(Clock::now() - began) / waiting},
          {"queued_kb", memory_laid > memory_before ? memory_laid - memory_before : 0},
          {"still_waiting", waiting - done_when_laid}};
}

}  // namespace keelback::bench
