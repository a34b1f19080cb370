#include "bench/core_cost.h"

#include <chrono>
#include <deque>
#include <string>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/prng.h"
#include "core/pool.h"

namespace keelback::bench {
namespace {

using Clock = std::chrono::steady_clock;

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

}  // namespace keelback::bench
