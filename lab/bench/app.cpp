#include "bench/app.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/prng.h"
#include "bench/batching.h"
#include "bench/block.h"
#include "bench/capacity.h"
#include "bench/concurrency.h"
#include "bench/machine.h"
#include "bench/scaling_law.h"
#include "bench/signed_rank.h"
#include "load/application.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr double kShares[] = {0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.2};
constexpr int kBisections = 3;

double step_ms(Profile profile) {
  return profile == Profile::kQuick ? 500 : profile == Profile::kPr ? 1500 : 5000;
}
// What a step takes at most, to have 200 calls: with fewer its p99 has no ground.
double longest_step_ms(Profile profile) { return profile == Profile::kQuick ? 5000 : 20'000; }
int rounds_of(Profile profile) {
  return profile == Profile::kQuick ? 1 : profile == Profile::kPr ? 2 : 3;
}

Arm arm_of(const AppPlan& plan) {
  return {.name = plan.app,
          .program = plan.program,
          .start = {{"app", plan.app},
                    {"function", plan.function},
                    {"payload", plan.payload},
                    {"expose", plan.expose},
                    {"settings", {{"workers.python", plan.python}}}}};
}

// Of a start order: the same application, its function declared anew with what `terms` say.
Json declared_anew(const AppPlan& plan, const Json& terms) {
  Json order = {{"app", load::lab_application("bench_beside")},
                {"expose", Json::array()},
                {"env",
                 {{"KEELBACK_BENCH_APP", plan.app},
                  {"KEELBACK_BENCH_EXPOSE", fmt::format("{}", fmt::join(plan.expose, ","))},
                  {"KEELBACK_BENCH_FUNCTION", plan.function}}}};
  order["env"].update(terms);
  return order;
}

// Calls in flight that are tried in one worker: ascending, from 1.
std::vector<std::uint32_t> flights_of(const AppPlan& plan, std::uint32_t declared) {
  std::set<std::uint32_t> flights{1};
  flights.insert(plan.concurrency.begin(), plan.concurrency.end());
  if (plan.concurrency.empty()) {
    for (std::uint32_t n = 2; n < declared; n *= 2) flights.insert(n);
    flights.insert(declared);
  }
  return {flights.begin(), flights.end()};
}

// The last step brought no more than one of at most a quarter of its calls, or they wait far too
// long.
bool is_flat(const std::vector<FlightStep>& steps, double objective_ms) {
  const FlightStep& last = steps.back();
  if (last.in_flight > 1 && last.p99_ms > 4 * objective_ms) return true;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (4 * step->in_flight <= last.in_flight) return last.per_second < 1.05 * step->per_second;
  }
  return false;
}

class AppRun {
 public:
  explicit AppRun(const AppPlan& plan)
      : plan_(plan), prng_(plan.seed), block_({arm_of(plan)}, prng_) {
    const double steps = static_cast<double>(plan.workers.size()) *
                         (rounds_of(plan.profile) * std::size(kShares) + kBisections + 2);
    const double flights = 2 * static_cast<double>(plan.concurrency.size() + 1);
    pace_.emplace(plan.progress, (steps + flights) * step_ms(plan.profile) / 1e3);
  }

  std::expected<Json, std::string> run() {
    measure_flights();
    if (!block_.error().empty()) return std::unexpected(block_.error());
    for (const std::uint32_t workers : plan_.workers) {
      measure(workers);
      if (!block_.error().empty()) return std::unexpected(block_.error());
    }
    if (takes_batches()) measure_waits();
    if (!block_.error().empty()) return std::unexpected(block_.error());
    Json document = to_json();
    document["took_s"] = pace_->spent_s();
    return document;
  }

 private:
  bool failed() const { return !block_.error().empty(); }
  bool takes_batches() const { return batch_ > 1; }

  // One worker: what a call costs alone, and what it carries with more and more in flight.
  void measure_flights() {
    Subject subject = block_.start(0, {{"workers", 1}});
    first_call_ms_ = subject.started().value("first_ran_ms", 0.0);
    declared_ = subject.started().value("concurrency", 1u);
    batch_ = subject.started().value("batch", 0u);
    batch_wait_ms_ = subject.started().value("batch_wait_ms", 0.0);
    const Json alone = window(subject, 1, 1, 0.7);
    if (failed()) return;
    if (alone["succeeded"] != alone["calls"])
      return block_.fail(0, fmt::format("{} did not answer every call: {}", plan_.function,
                                        alone["outcomes"].dump()));
    const double p50_ms = alone.value("p50_us", 0.0) / 1e3,
                 p99_ms = alone.value("p99_us", 0.0) / 1e3;
    objective_ = plan_.objective_ms > 0 ? plan_.objective_ms : std::max(5 * p50_ms, 2 * p99_ms);
    alone_ = {.took_ms = 1e3 / std::max(alone.value("per_second", 0.0), 1e-9),
              .computed_ms = alone.value("worker_cpu_us_per_call", 0.0) / 1e3,
              .queued_ms = alone.value("worker_queued_us_per_call", 0.0) / 1e3};
    flights_.push_back(flight_of(1, alone));
    // While one batch runs, as many calls wait as make the next.
    const std::vector<std::uint32_t> flights =
        flights_of(plan_, takes_batches() ? 2 * batch_ : declared_);
    if (takes_batches() ? batch_wait_ms_ > 0 : flights.back() > 1 && flights.back() != declared_) {
      subject.ask("stop");
      subject =
          block_.start(0, takes_batches() ? in_batches(1, batch_, 0) : with(1, flights.back()));
    }
    for (const std::uint32_t flight : flights) {
      if (flight > 1) flights_.push_back(flight_of(flight, window(subject, 1, flight, 0.7, false)));
      if (failed() || is_flat(flights_, objective_)) break;
    }
    // Back again, and the better one counts: what else the machine does slows a step, or nothing.
    for (auto step = flights_.rbegin(); flights_.size() > 1 && step != flights_.rend(); ++step) {
      const bool threads = step->in_flight == 1;
      const FlightStep again =
          flight_of(step->in_flight, window(subject, 1, step->in_flight, 0.7, threads));
      if (again.per_second > step->per_second) *step = again;
    }
    if (failed()) return;
    subject.ask("stop");
    if (takes_batches()) {
      together_ = advise_batch(plan_.function, flights_, batch_, objective_);
      beside_.sentences = together_.sentences;
      return;
    }
    beside_ = advise_concurrency(plan_.function, flights_, alone_, declared_, objective_);
  }

  static FlightStep flight_of(std::uint32_t in_flight, const Json& answer) {
    return {.in_flight = in_flight,
            .per_second = answer.value("per_second", 0.0),
            .answered = answer.value("succeeded", 0.0) / std::max(1.0, answer.value("calls", 1.0)),
            .p50_ms = answer.value("p50_us", 0.0) / 1e3,
            .p99_ms = answer.value("p99_us", 0.0) / 1e3,
            .computed_ms = answer.value("worker_cpu_us_per_call", 0.0) / 1e3,
            .worker_share = answer.value("worker_cpu_share", 0.0),
            .batch = answer.value("batch_mean", 0.0)};
  }

  // What starts a pool with that concurrency: the application as it is, if that declares it.
  Json with(std::uint32_t workers, std::uint32_t concurrency) const {
    Json order = {{"workers", workers}};
    if (concurrency != declared_) {
      order.update(declared_anew(
          plan_, Json::object({{"KEELBACK_BENCH_CONCURRENCY", std::to_string(concurrency)}})));
    }
    return order;
  }

  Json in_batches(std::uint32_t workers, std::uint32_t batch, double wait_ms) const {
    Json order = {{"workers", workers}};
    if (batch != batch_ || wait_ms != batch_wait_ms_) {
      order.update(declared_anew(
          plan_, Json::object({{"KEELBACK_BENCH_BATCH", std::to_string(batch)},
                               {"KEELBACK_BENCH_BATCH_WAIT_MS", fmt::format("{}", wait_ms)}})));
    }
    return order;
  }
  // What is advised, or what the function declares if it gains nothing from batches: it has to take
  // lists as it is.
  std::uint32_t batch_to_use() const { return together_.batch > 1 ? together_.batch : batch_; }

  void measure(std::uint32_t workers) {
    PoolCapacity pool{.workers = workers};
    const std::uint32_t at_once = takes_batches()    ? batch_to_use()
                                  : beside_.measured ? beside_.concurrency
                                                     : declared_;
    Subject subject =
        block_.start(0, takes_batches() ? in_batches(workers, at_once, 0) : with(workers, at_once));
    const Json alone = window(subject, workers, 1, 0.7);
    const bool shared = at_once > 1;
    const Json busy = window(subject, workers, 2 * workers * at_once + 2, 1, !shared);
    const Json memory = subject.ask("memory");
    if (failed()) return;
    pool.unloaded_p50_ms = alone.value("p50_us", 0.0) / 1e3;
    pool.unloaded_p99_ms = alone.value("p99_us", 0.0) / 1e3;
    pool.most = busy.value("per_second", 0.0);
    pool.worker_kb = memory.value("worker_kb", 0.0);
    pool.has_room = shared && !takes_batches() && busy.value("worker_cpu_share", 1.0) < 0.5;
    find_knee(subject, pool);
    subject.ask("stop");
    pool.at_objective = knee(pool.steps, objective_);
    pools_.push_back(std::move(pool));
  }

  // The smallest pool that has a knee, at half of that: without a wait for others, and with waits
  // up to what a batch takes.
  void measure_waits() {
    const auto pool = std::ranges::find_if(
        pools_, [](const PoolCapacity& one) { return one.at_objective.has_value(); });
    if (pool == pools_.end()) return;
    const auto seed = prng_.below(1 << 30);
    for (const double share : {0.0, 0.5, 1.0}) {
      const double wait_ms = share * std::ceil(10 * together_.run_ms) / 10;
      Subject subject = block_.start(0, in_batches(pool->workers, batch_to_use(), wait_ms));
      const double rate = *pool->at_objective / 2;
      say(pool->workers, fmt::format("{:.0f} calls/s, batch_wait {:.3g} ms", rate, wait_ms));
      Json order = call();
      order.update({{"op", "open"}, {"rate", rate}, {"ms", open_ms(rate)}, {"seed", seed}});
      const Json answer = subject.ask(order);
      if (failed()) return;
      subject.ask("stop");
      const FlightStep step = flight_of(0, answer);
      waits_.push_back({.wait_ms = wait_ms,
                        .answered = step.answered,
                        .batch = step.batch,
                        .p50_ms = step.p50_ms,
                        .p99_ms = step.p99_ms,
                        .computed_ms = step.computed_ms});
    }
    wait_ = advise_wait(plan_.function, waits_, objective_);
    beside_.sentences.insert(beside_.sentences.end(), wait_.sentences.begin(),
                             wait_.sentences.end());
  }

  double open_ms(double rate) const {
    return std::max(step_ms(plan_.profile), std::min(longest_step_ms(plan_.profile), 2e5 / rate));
  }

  // Steps at rising rates, then bisection between the last that was carried and the first that was
  // not.
  void find_knee(Subject& subject, PoolCapacity& pool) {
    for (int round = 0; round < rounds_of(plan_.profile); ++round) {
      for (const double share : kShares) {
        step(subject, pool, share * pool.most);
        // Far beyond the knee every further step says the same and takes the longest.
        if (failed() || (share >= 1 && !carried(pool.steps.back(), 4 * objective_))) break;
      }
    }
    for (int i = 0; i < kBisections && !failed(); ++i) {
      const auto low = knee(pool.steps, objective_);
      std::optional<double> high;
      for (const LoadStep& one : pool.steps) {
        if ((!low || one.offered > *low) && (!high || one.offered < *high)) high = one.offered;
      }
      if (!low || !high) break;
      step(subject, pool, (*low + *high) / 2);
    }
  }

  // Callers that block, or as many calls without threads.
  Json window(Subject& subject, std::uint32_t workers, std::uint32_t callers, double share,
              bool threads = true) {
    say(workers, fmt::format("{} {}", callers, threads ? "callers" : "in flight"));
    Json order = call();
    order.update({{"op", "window"},
                  {"callers", callers},
                  {"threads", threads},
                  {"ms", share * step_ms(plan_.profile)}});
    return subject.ask(order);
  }

  Json call() const {
    return {{"function", plan_.function},
            {"payload", plan_.payload},
            {"sessions", plan_.sessions},
            {"zipf", 1.0}};
  }

  void step(Subject& subject, PoolCapacity& pool, double rate) {
    if (failed()) return;
    say(pool.workers, fmt::format("{:.0f} calls/s", rate));
    Json order = call();
    order.update({{"op", "open"},
                  {"rate", rate},
                  {"ms", open_ms(rate)},
                  {"seed", prng_.below(1 << 30)},
                  {"saturated", true},
                  {"deadline_ms", std::max(1000.0, 20 * objective_)}});
    const Json answer = subject.ask(order);
    if (failed()) return;
    const double offered = answer.value("offered", 0.0);
    if (!(offered > 0)) return;
    pool.steps.push_back(
        {.offered = rate,
         .good = rate * answer.value("succeeded", 0.0) / std::max(1.0, answer.value("calls", 1.0)),
         .p50_ms = answer.value("p50_us", 0.0) / 1e3,
         .p99_ms = answer.value("p99_us", 0.0) / 1e3,
         .service_p99_ms = answer.value("service_p99_us", 0.0) / 1e3});
    if (carried(pool.steps.back(), objective_)) {
      for (const auto& reason : answer.value("void", Json::array()))
        doubts_[reason.get<std::string>().substr(0, 16)] = reason;
      best_ = answer;
      best_workers_ = pool.workers;
    }
  }

  void say(std::uint32_t workers, const std::string& what) {
    pace_->say(fmt::format("{} workers, {}", workers, what));
    pace_->did(step_ms(plan_.profile) / 1e3);
  }

  Json pool_json(const PoolCapacity& pool) const {
    Json row = {{"workers", pool.workers},
                {"unloaded_p50_ms", pool.unloaded_p50_ms},
                {"unloaded_p99_ms", pool.unloaded_p99_ms},
                {"most_per_second", pool.most},
                {"worker_kb", pool.worker_kb},
                {"steps", Json::array()}};
    if (pool.at_objective) row["at_objective_per_second"] = *pool.at_objective;
    std::vector<LoadStep> steps = pool.steps;
    std::ranges::sort(steps, {}, &LoadStep::offered);
    for (const LoadStep& one : steps)
      row["steps"].push_back({{"offered", one.offered},
                              {"good", one.good},
                              {"p50_ms", one.p50_ms},
                              {"p99_ms", one.p99_ms},
                              {"service_p99_ms", one.service_p99_ms},
                              {"carried", carried(one, objective_)}});
    return row;
  }

  Json beside_json() const {
    Json beside = {{"declared", declared_},
                   {"advised", beside_.concurrency},
                   {"measured", beside_.measured},
                   {"call_ms", alone_.took_ms},
                   {"computed_ms", alone_.computed_ms},
                   {"waiting", alone_.waiting()},
                   {"sentences", beside_.sentences},
                   {"steps", Json::array()}};
    for (const FlightStep& step : flights_)
      beside["steps"].push_back({{"in_flight", step.in_flight},
                                 {"per_second", step.per_second},
                                 {"answered", step.answered},
                                 {"p50_ms", step.p50_ms},
                                 {"p99_ms", step.p99_ms},
                                 {"computed_ms", step.computed_ms},
                                 {"worker_share", step.worker_share},
                                 {"batch", step.batch}});
    return beside;
  }

  Json batch_json() const {
    Json batch = {{"declared", batch_},         {"declared_wait_ms", batch_wait_ms_},
                  {"advised", together_.batch}, {"advised_wait_ms", wait_.wait_ms},
                  {"run_ms", together_.run_ms}, {"waits", Json::array()}};
    for (const WaitStep& step : waits_)
      batch["waits"].push_back({{"wait_ms", step.wait_ms},
                                {"answered", step.answered},
                                {"batch", step.batch},
                                {"p50_ms", step.p50_ms},
                                {"p99_ms", step.p99_ms},
                                {"computed_ms", step.computed_ms}});
    return batch;
  }

  Json to_json() const {
    Json document = {{"schema", "keelback-bench-app/1"},
                     {"app", plan_.app},
                     {"function", plan_.function},
                     {"payload_bytes", plan_.payload.size()},
                     {"sessions", plan_.sessions},
                     {"objective_p99_ms", objective_},
                     {"wanted", plan_.rate},
                     {"profile", to_string(plan_.profile)},
                     {"seed", plan_.seed},
                     {"build", build_text()},
                     {"machine", describe_machine()},
                     {"concurrency", beside_json()},
                     {"pools", Json::array()},
                     {"void", Json::array()}};
    if (takes_batches()) document["batch"] = batch_json();
    for (const auto& [kind, reason] : doubts_) document["void"].push_back(reason);
    std::vector<ScalingPoint> points;
    for (const PoolCapacity& pool : pools_) {
      document["pools"].push_back(pool_json(pool));
      if (pool.at_objective)
        points.push_back({static_cast<double>(pool.workers), *pool.at_objective});
    }
    if (!pools_.empty()) {
      const double later = pools_.front().unloaded_p50_ms;
      document["first_call"] = {{"first_ms", first_call_ms_}, {"later_ms", later}};
      if (const auto sentence = about_first_call(plan_.function, first_call_ms_, later))
        document["first_call"]["sentence"] = *sentence;
    }
    if (const auto advice = advise(pools_, plan_.rate, objective_)) {
      document["advice"] = {{"workers", advice->workers}, {"concurrency", beside_.concurrency},
                            {"per_second", advice->rate}, {"queue_max", advice->queue_max},
                            {"enough", advice->enough},   {"sentences", advice->sentences}};
    }
    if (const auto law = fit_scaling(points))
      document["scaling"] = {{"lambda", law->lambda}, {"sigma", law->sigma}, {"kappa", law->kappa}};
    if (!best_.is_null())
      document["percentiles"] = {
          {"workers", best_workers_},
          {"series",
           {{{"name", "from the planned time"}, {"buckets", best_["buckets"]}},
            {{"name", "service alone"}, {"buckets", best_["service_buckets"]}}}}};
    return document;
  }

  const AppPlan& plan_;
  Prng prng_;
  Block block_;
  double objective_ = 0;
  std::vector<PoolCapacity> pools_;
  std::map<std::string, Json> doubts_;
  double first_call_ms_ = 0;    // in the first pool
  std::uint32_t declared_ = 1;  // the function's concurrency
  std::uint32_t batch_ = 0;     // the function's, as declared; below 2: it takes none
  double batch_wait_ms_ = 0;
  CallTime alone_;
  std::vector<FlightStep> flights_;
  BatchAdvice together_;
  std::vector<WaitStep> waits_;
  WaitAdvice wait_;
  ConcurrencyAdvice beside_;
  Json best_;  // the last step that was carried
  std::uint32_t best_workers_ = 0;
  std::optional<Pace> pace_;
};

}  // namespace

std::expected<Json, std::string> measure_app(const AppPlan& plan) { return AppRun(plan).run(); }

int exit_code_of_app(const Json& document) {
  if (!document.contains("advice")) return 1;
  if (!document["advice"].value("enough", true)) return 1;
  return document.value("void", Json::array()).empty() ? 0 : 3;
}

}  // namespace keelback::bench
