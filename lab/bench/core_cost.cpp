#include "bench/core_cost.h"

#include <fmt/format.h>
#include <time.h>

#include <chrono>
#include <deque>
#include <queue>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/prng.h"
#include "core/pool.h"
#include "core/session_table.h"
#include "sim/load.h"
#include "sim/simulation.h"

namespace keelback::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Processor time of this thread: what other programs take of the processor does not count.
Duration thread_cpu() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

double seconds(Duration length) { return std::chrono::duration<double>(length).count(); }

core::Pool::Config settings_for(const CoreLoad& load) {
  Settings settings;
  settings.pool.workers = load.workers;
  settings.pool.queue_max = 2'000'000;
  settings.sessions.queue_max = 1'000'000;
  settings.sessions.max = 2'000'000;
  return settings;
}

// A pool whose workers answer at once, driven by hand: every dispatched call waits in `running_`
// for its reply.
class PaperPool {
 public:
  explicit PaperPool(const CoreLoad& load) : pool_(settings_for(load), 1) {
    core::FunctionsAnnounced functions;
    functions.functions.emplace_back();
    functions.functions.back().name = "f";
    pool_.handle(now_, functions, actions_);
    const core::Actions starting = std::move(actions_);
    actions_.clear();
    for (const core::Action& action : starting) {
      if (const auto* start = std::get_if<core::StartWorker>(&action))
        pool_.handle(now_, core::WorkerReady{start->worker}, actions_);
    }
    collect();
  }

  void submit(std::string_view session) {
    core::CallSubmitted event;
    event.call = CallId{++calls_};
    event.function = "f";
    event.session = session;
    now_ += std::chrono::microseconds(1);
    pool_.handle(now_, event, actions_);
    collect();
  }
  // The oldest running call returns.
  void reply() {
    CHECK(!running_.empty());
    const auto [worker, call] = running_.front();
    running_.pop_front();
    pool_.handle(now_, core::WorkerReplied{worker, call}, actions_);
    collect();
  }

 private:
  void collect() {
    for (const core::Action& action : actions_) {
      if (const auto* dispatch = std::get_if<core::Dispatch>(&action))
        running_.emplace_back(dispatch->worker, dispatch->call);
    }
    actions_.clear();
  }

  core::Pool pool_;
  core::Actions actions_;
  Time now_{};
  std::uint64_t calls_ = 0;
  std::deque<std::pair<WorkerId, CallId>> running_;
};

}  // namespace

double core_call_ns(const CoreLoad& load, Duration length) {
  PaperPool pool(load);
  std::vector<std::string> sessions;
  for (std::uint32_t i = 0; i < load.sessions; ++i) {
    sessions.push_back("session-" + std::to_string(i));
    pool.submit(sessions.back());
    pool.reply();
  }
  for (std::uint32_t i = 0; i < load.waiting; ++i) pool.submit({});
  // Which session is next is drawn beforehand and the names lie together: fetching the key must
  // cost the same at every size.
  constexpr std::size_t kQueries = 4096;
  Prng prng(1);
  std::vector<std::string> queries(kQueries);
  Duration measured{0};
  std::uint64_t calls = 0;
  for (bool warm = false; measured < length; warm = true) {
    if (load.sessions) {
      for (std::string& query : queries) query = sessions[prng.below(load.sessions)];
    }
    const auto began = Clock::now();
    for (const std::string& query : queries) {
      pool.submit(query);
      pool.reply();
    }
    if (!warm) continue;  // the first lap only warms up
    measured += Clock::now() - began;
    calls += kQueries;
  }
  return std::chrono::duration<double, std::nano>(measured).count() / static_cast<double>(calls);
}

struct SessionTouch::Impl {
  explicit Impl(std::uint64_t seed)
      : table({std::chrono::minutes(30), std::chrono::hours(24)}, seed), prng(seed) {}

  struct alignas(sizeof(core::Session)) Line {
    std::uint64_t zero = 0;
  };
  struct Slot {
    std::uint64_t hash = 0;
    const Line* line = nullptr;
  };

  core::SessionTable table;
  std::vector<Line> lines;  // one a session
  std::vector<Slot> slots;  // as many bytes as the table's index
  Prng prng;
  Time now{};

  std::string random_name() { return fmt::format("s-{}", prng.below(lines.size())); }
  // Returns 0, which the compiler does not know: code that adds it waits for the session.
  std::uint64_t touch(std::string_view name) {
    now += std::chrono::microseconds(1);
    core::Session* session = table.find(name);
    CHECK(table.judge(*session, now) == core::SessionTable::Verdict::kLive);
    table.touch(*session, now);
    return session->birth >> 40;
  }
};

SessionTouch::SessionTouch(std::uint64_t sessions, std::uint64_t seed)
    : impl_(std::make_unique<Impl>(seed)) {
  Impl& my = *impl_;
  for (std::uint64_t i = 0; i < sessions; ++i) {
    core::Session& session =
        my.table.open(my.now, fmt::format("s-{}", i), Affinity::kStrictQueue, i);
    session.established = true;
    my.table.leave(session, my.now);
  }
  my.lines.resize(sessions);
  my.slots.resize(my.table.index_bytes() / sizeof(Impl::Slot));
  for (Impl::Slot& slot : my.slots) slot.line = &my.lines[my.prng.below(sessions)];
  // The order of expiry is as random as use makes it.
  for (std::uint64_t i = 0; i < 2 * sessions; ++i) my.touch(my.random_name());
}

SessionTouch::~SessionTouch() = default;

SessionTouch::Cost SessionTouch::measure() {
  Impl& my = *impl_;
  // Names and places are made before the clock runs, and lie together: fetching them costs the same
  // at every number of sessions.
  constexpr std::size_t kBatch = 4096, kBatches = 64;
  std::vector<std::string> names(kBatch);
  std::vector<std::uint64_t> places(kBatch);
  Duration touched{0}, stepped{0};
  std::uint64_t zero = 0;  // makes each step wait for the one before it
  for (std::size_t batch = 0; batch < kBatches; ++batch) {
    for (std::string& name : names) name = my.random_name();
    for (std::uint64_t& place : places) place = my.prng.below(my.slots.size());
    const Duration began = thread_cpu();
    for (std::size_t i = 0; i < kBatch; ++i) zero = my.touch(names[i + zero]);
    const Duration between = thread_cpu();
    for (std::size_t i = 0; i < kBatch; ++i) zero = my.slots[places[i] + zero].line->zero;
    stepped += thread_cpu() - between;
    touched += between - began;
  }
  CHECK(zero == 0);
  constexpr double kAll = double{kBatch} * kBatches;
  return {.touch_ns = static_cast<double>(touched.count()) / kAll,
          .two_misses_ns = static_cast<double>(stepped.count()) / kAll};
}

double SessionTouch::bytes_per_session() const {
  return static_cast<double>(sizeof(core::Session)) +
         static_cast<double>(impl_->table.index_bytes()) / static_cast<double>(impl_->lines.size());
}

double simulated_events_per_second(Duration length, std::uint64_t seed) {
  sim::Simulation::Options options;
  options.seed = seed;
  options.settings.pool.workers = 4;
  sim::Simulation simulation(options);
  simulation.run_until(simulation.now() + std::chrono::milliseconds(100));  // the workers are up
  sim::LoadSettings load;
  load.rate = 100'000;
  load.length = std::chrono::hours(1);
  load.mix = {{.call = {.function = "echo", .payload = "[1]"}}};
  sim::OpenLoad clients(simulation, load, seed);
  clients.start();
  const std::uint64_t before = simulation.events();
  const Duration began = thread_cpu();
  while (thread_cpu() - began < length) simulation.advance(std::chrono::milliseconds(10));
  return static_cast<double>(simulation.events() - before) / seconds(thread_cpu() - began);
}

double bare_events_per_second(Duration length, std::uint64_t seed) {
  constexpr std::uint64_t kInFlight = 1000, kBatch = 1000;
  struct Record {
    Time submitted;
    std::uint64_t worker = 0;
  };
  using Due = std::pair<Time, std::uint64_t>;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due;
  std::unordered_map<std::uint64_t, Record> calls;
  Prng prng(seed);
  std::uint64_t last = 0, events = 0;
  const auto submit = [&](Time now) {
    calls.emplace(++last, Record{.submitted = now, .worker = last % 4});
    due.emplace(now + Duration{static_cast<std::int64_t>(prng.below(1'000'000))}, last);
  };
  while (last < kInFlight) submit(Time{});
  const Duration began = thread_cpu();
  while (thread_cpu() - began < length) {
    for (std::uint64_t i = 0; i < kBatch; ++i, ++events) {
      const auto [now, call] = due.top();
      due.pop();
      CHECK(calls.erase(call) == 1);
      submit(now);
    }
  }
  return static_cast<double>(events) / seconds(thread_cpu() - began);
}

}  // namespace keelback::bench
