#include "load/generator.h"

#include <sys/prctl.h>
#include <time.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include <fmt/format.h>

namespace keelback::load {
namespace {

using Clock = std::chrono::steady_clock;

Duration thread_cpu() {
  timespec ts{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return std::chrono::seconds(ts.tv_sec) + Duration(ts.tv_nsec);
}

void sleep_until(Clock::time_point when) {
  const auto wake = when.time_since_epoch();
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(wake);
  const timespec ts{.tv_sec = whole.count(), .tv_nsec = (wake - whole).count()};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, nullptr) != 0) {
  }
}

// What the loop thread shares with run_plan(). Kept alive by the callbacks, because calls may come
// back after the drain is over and run_plan() has returned.
struct Shared {
  std::mutex mutex;
  std::condition_variable all_done;
  std::vector<Record> records;  // guarded by mutex
  std::size_t waiting = 0;      // guarded by mutex
  bool closed = false;          // guarded by mutex: late outcomes are ignored
};

void fill(Record& record, const Outcome& outcome, Duration done) {
  record.done = done;
  record.state = Record::State::kDone;
  record.kind = outcome.kind;
}

}  // namespace

std::string session_name(std::uint32_t session, std::string_view prefix) {
  return session == 0 ? std::string() : fmt::format("{}{}", prefix, session);
}

Run run_plan(host::Driver& driver, const Plan& plan, const MakeCall& make_call,
             const RunOptions& options) {
  const Send send = [&driver](Call&& call, host::OnOutcome&& done) {
    driver.submit(std::move(call), std::move(done));
  };
  return run_plan(send, plan, make_call, options);
}

Run run_plan(const Send& send, const Plan& plan, const MakeCall& make_call,
             const RunOptions& options) {
  ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);  // this thread only
  auto shared = std::make_shared<Shared>();
  for (const Arrival& arrival : plan.arrivals) shared->records.push_back({.planned = arrival.at});
  Run run;
  const Duration cpu_before = thread_cpu();
  const auto start = Clock::now() + std::chrono::milliseconds(1);
  run.started = start;
  for (std::size_t index = 0; index < plan.arrivals.size(); ++index) {
    const Arrival& arrival = plan.arrivals[index];
    if (start + arrival.at > Clock::now()) sleep_until(start + arrival.at);
    {
      std::lock_guard lock(shared->mutex);
      if (shared->waiting >= options.in_flight_max) continue;  // stays unsent
      ++shared->waiting;
      shared->records[index].sent = Clock::now() - start;
      shared->records[index].state = Record::State::kWaiting;
    }
    send(make_call(arrival, index), [shared, index, start](Outcome&& outcome) {
      const Duration done = Clock::now() - start;
      std::lock_guard lock(shared->mutex);
      if (shared->closed) return;
      fill(shared->records[index], outcome, done);
      if (--shared->waiting == 0) shared->all_done.notify_all();
    });
  }
  const Duration cpu = thread_cpu() - cpu_before;
  const Duration paced = Clock::now() - start;
  std::unique_lock lock(shared->mutex);
  shared->all_done.wait_for(lock, options.drain, [&] { return shared->waiting == 0; });
  shared->closed = true;
  run.records = std::move(shared->records);
  run.length = Clock::now() - start;
  for (Record& record : run.records) {
    if (record.state == Record::State::kWaiting) record.done = run.length;
  }
  run.generator_cpu = paced > Duration{0} ? std::chrono::duration<double>(cpu) /
                                                std::chrono::duration<double>(paced)
                                          : 0;
  return run;
}

Run run_closed(host::Driver& driver, std::uint32_t callers, Duration length,
               const std::function<Call(std::uint32_t, std::uint64_t)>& make_call) {
  std::vector<std::vector<Record>> own(callers);
  std::vector<Duration> cpu(callers);
  const auto start = Clock::now();
  const auto loop = [&](std::uint32_t caller) {
    const Duration before = thread_cpu();
    for (std::uint64_t index = 0;; ++index) {
      const Duration sent = Clock::now() - start;
      if (sent >= length) break;
      const Outcome outcome = driver.call(make_call(caller, index));
      Record record{.planned = sent, .sent = sent};
      fill(record, outcome, Clock::now() - start);
      own[caller].push_back(record);
    }
    cpu[caller] = thread_cpu() - before;
  };
  {
    std::vector<std::jthread> threads;
    for (std::uint32_t caller = 1; caller < callers; ++caller) threads.emplace_back(loop, caller);
    loop(0);
  }
  Run run{.started = start, .length = Clock::now() - start};
  Duration total{0};
  for (std::uint32_t caller = 0; caller < callers; ++caller) {
    run.records.insert(run.records.end(), own[caller].begin(), own[caller].end());
    total += cpu[caller];
  }
  run.generator_cpu =
      std::chrono::duration<double>(total) / std::chrono::duration<double>(run.length);
  return run;
}

namespace {

// What the caller of run_in_flight() shares with the loop thread.
class InFlight {
 public:
  InFlight(host::Driver& driver, Duration length, const std::function<Call(std::uint64_t)>& make)
      : driver_(driver), make_(make), length_(length) {}

  Run run(std::uint32_t in_flight) {
    left_ = in_flight;
    for (std::uint32_t i = 0; i < in_flight; ++i) send(next());
    std::unique_lock lock(mutex_);
    all_done_.wait(lock, [this] { return left_ == 0; });
    return {.records = std::move(records_), .started = start_, .length = Clock::now() - start_};
  }

 private:
  Call next() {
    std::lock_guard lock(mutex_);
    return make_(made_++);
  }

  void send(Call call) {
    const Duration sent = Clock::now() - start_;
    driver_.submit(std::move(call), [this, sent](Outcome&& outcome) { over(sent, outcome); });
  }

  void over(Duration sent, const Outcome& outcome) {
    Record record{.planned = sent, .sent = sent};
    fill(record, outcome, Clock::now() - start_);
    {
      std::lock_guard lock(mutex_);
      records_.push_back(record);
      if (record.done >= length_) {
        if (--left_ == 0) all_done_.notify_all();
        return;  // this object may be gone when the lock is
      }
    }
    send(next());
  }

  host::Driver& driver_;
  const std::function<Call(std::uint64_t)>& make_;  // one call at a time, under mutex_
  const Clock::time_point start_ = Clock::now();
  const Duration length_;
  std::mutex mutex_;
  std::condition_variable all_done_;
  std::vector<Record> records_;  // guarded by mutex_
  std::uint64_t made_ = 0;       // guarded by mutex_
  std::uint32_t left_ = 0;       // guarded by mutex_: calls that run, each with its successors
};

}  // namespace

Run run_in_flight(host::Driver& driver, std::uint32_t in_flight, Duration length,
                  const std::function<Call(std::uint64_t)>& make_call) {
  return InFlight(driver, length, make_call).run(in_flight);
}

Histogram timer_overshoot(Duration length) {
  ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  Histogram late;
  const auto end = Clock::now() + length;
  for (auto next = Clock::now(); next < end;) {
    next = Clock::now() + std::chrono::microseconds(500);
    sleep_until(next);
    late.record(Clock::now() - next);
  }
  return late;
}

Histogram Run::latency() const {
  Histogram histogram;
  for (const Record& record : records) {
    if (record.state == Record::State::kDone) {
      histogram.record(record.latency());
    } else {
      histogram.record_censored(length - record.planned);
    }
  }
  return histogram;
}

Histogram Run::service() const {
  Histogram histogram;
  for (const Record& record : records) {
    if (record.state == Record::State::kDone) histogram.record(record.done - record.sent);
    if (record.state == Record::State::kWaiting) histogram.record_censored(length - record.sent);
  }
  return histogram;
}

Histogram Run::lag() const {
  Histogram histogram;
  for (const Record& record : records) {
    if (record.state != Record::State::kUnsent) histogram.record(record.sent - record.planned);
  }
  return histogram;
}

std::uint64_t Run::count(OutcomeKind kind) const {
  std::uint64_t n = 0;
  for (const Record& record : records)
    n += record.state == Record::State::kDone && record.kind == kind;
  return n;
}

double Run::achieved_share() const {
  if (records.empty()) return 1;
  std::uint64_t sent = 0;
  for (const Record& record : records) sent += record.state != Record::State::kUnsent;
  return static_cast<double>(sent) / static_cast<double>(records.size());
}

std::vector<std::string> void_reasons(const Run& run, bool saturated) {
  using std::chrono::duration;
  std::vector<std::string> reasons;
  if (run.records.empty()) return {"the plan is empty: nothing was offered"};
  const auto lag = run.lag().quantile(0.99).value;
  const auto bound =
      std::max<Duration>(run.latency().quantile(0.5).value / 20, std::chrono::milliseconds(1));
  if (lag > bound) {
    reasons.push_back(fmt::format(
        "the generator lagged: p99 {:.2f} ms behind its plan (bound {:.2f} ms)",
        duration<double, std::milli>(lag).count(), duration<double, std::milli>(bound).count()));
  }
  if (!saturated && run.achieved_share() < 0.99) {
    reasons.push_back(
        fmt::format("only {:.1f} % of the plan was sent", 100 * run.achieved_share()));
  }
  if (run.generator_cpu > 0.6) {
    reasons.push_back(fmt::format("the generator used {:.0f} % of a CPU", 100 * run.generator_cpu));
  }
  return reasons;
}

}  // namespace keelback::load
