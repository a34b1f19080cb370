// The simulator as an engine: the production core on virtual time, single-threaded; the worker
// ledger is read off the messages that model workers send.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/reached.h"
#include "base/settings_text.h"
#include "chaos/words.h"
#include "chaos/world.h"
#include "sim/simulation.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kItemsMax = 1'000'000;  // of a stream

class SimWorld final : public World {
 public:
  explicit SimWorld(const WorldOptions& options) : World(options), sim_(simulation(options)) {
    sim_.observe([this](Time, const core::Event& event) { hear(event); },
                 [this](Time, const core::Action& action) { note(action); });
  }

  Duration now() override { return sim_.now().time_since_epoch(); }
  void wait_until(Duration when, bool or_ended) override {
    if (or_ended) {
      sim_.run_while_not([this] { return !ended_.empty(); }, Time{when});
    } else {
      sim_.run_until(Time{when});
    }
  }
  std::uint64_t submit(Call call, std::uint64_t index) override {
    return sim_
        .submit(std::move(call),
                [this, index](Outcome&& outcome) {
                  ended_.push_back({index, now(), std::move(outcome)});
                })
        .value;
  }
  std::uint64_t stream(Call call, std::uint64_t index) override {
    auto items = std::make_shared<Items>();  // of both callbacks
    const CallId id = sim_.stream(
        std::move(call), [items](std::string&& item) { items->take(item); },
        [this, index, items](Outcome&& outcome) {
          ended_.push_back({index, now(), std::move(outcome), *items});
        });
    sim_.grant(id, kItemsMax);
    return id.value;
  }
  bool cancel(std::uint64_t call) override { return sim_.cancel(CallId{call}); }
  std::vector<Ended> take_ended() override { return std::exchange(ended_, {}); }

  host::PoolInfo info() override {
    host::PoolInfo info;
    info.stats = sim_.stats();
    info.start.mode = "sim";
    info.start.state = "up";
    info.loop_lag = sim_.loop_lag();
    return info;
  }
  std::vector<host::WorkerInfo> workers() override {
    std::vector<host::WorkerInfo> out;
    for (core::WorkerView& view : sim_.pool().workers(sim_.now())) {
      out.push_back({std::move(view)});
    }
    return out;
  }
  std::shared_ptr<const Application> application() override {
    const sim::Application* known = sim_.application();
    return known != nullptr ? std::make_shared<const Application>(known->describe()) : nullptr;
  }
  bool end_session(const std::string& session) override {
    return sim_.apply(core::SessionEnded{session});
  }
  bool recycle(std::uint32_t slot) override { return sim_.apply(core::RecycleRequested{slot}); }
  void reload() override {
    sim_.reload([](const std::string&) {});
  }
  void configure(const Settings& settings) override { sim_.configure(settings); }
  bool shut_down(Duration limit) override {
    bool drained = false;
    sim_.drain(limit, [&drained] { drained = true; });
    return sim_.run_while_not([&drained] { return drained; }, sim_.now() + limit + 1min);
  }

  Evidence send_signal(const std::vector<host::WorkerInfo>& targets, int signal, bool) override {
    if (signal != 9) return std::unexpected("the simulator knows no signal but SIGKILL");
    std::string proof;
    for (const host::WorkerInfo& worker : targets) {
      if (!lives(worker)) return std::unexpected("the worker is gone");
      sim_.kill(worker.worker.slot, /*blameless=*/true);
      proof += fmt::format("{}model worker {}.{} was killed", proof.empty() ? "" : "; ",
                           worker.worker.slot, worker.worker.generation);
    }
    return proof;
  }
  Evidence stop(const host::WorkerInfo& worker, Duration at_most) override {
    if (!lives(worker)) return std::unexpected("the worker is gone");
    sim_.freeze(worker.worker.slot, at_most);
    return fmt::format("model worker {}.{} is frozen", worker.worker.slot,
                       worker.worker.generation);
  }
  Evidence resume(const host::WorkerInfo&) override { return "the model resumes by itself"; }

  Evidence order_start(const StartOrder& order) override {
    const Evidence done = apply(order);
    if (done) orders_.push_back(order);
    return done;
  }
  Evidence lift_start(const std::string& fault) override {
    std::erase_if(orders_, [&](const StartOrder& each) { return each.fault == fault; });
    sim_.model().start_failure = 0;
    sim_.model().start = usual_start_;
    for (const StartOrder& order : orders_) static_cast<void>(apply(order));
    return "the model's starts have changed";
  }
  std::uint64_t obeyed(const std::string& fault) override { return obeyed_[fault]; }

  std::vector<EffectEvent> effects() override { return effects_; }
  bool effects_known() const override { return true; }
  bool links_known() const override { return false; }
  Census census(std::string when) override { return {.when = std::move(when)}; }
  std::uint64_t trace_hash() const override { return sim_.trace_hash(); }
  std::string function_of(const std::string& word) const override {
    return chaos::function_of(word, Backend::kSim);
  }

 private:
  static sim::Simulation::Options simulation(const WorldOptions& options) {
    sim::Simulation::Options made;
    made.settings = options.settings;
    made.seed = options.seed;
    return made;
  }
  Evidence apply(const StartOrder& order) {
    if (order.words == "fail") {
      sim_.model().start_failure = 1;
    } else if (order.words.starts_with("sleep ")) {
      const auto ms = parse_count(order.words.substr(6)).value_or(0);
      sim_.model().start.low += std::chrono::milliseconds(ms);
      sim_.model().start.high += std::chrono::milliseconds(ms);
    } else {
      return std::unexpected("the simulator cannot: " + order.words);
    }
    return "the model's starts have changed";
  }

  bool lives(const host::WorkerInfo& worker) {
    return std::ranges::any_of(
        workers(), [&](const host::WorkerInfo& each) { return each.worker == worker.worker; });
  }

  void note(const core::Action& action) {
    if (const auto* dispatch = std::get_if<core::Dispatch>(&action)) {
      dispatched_[dispatch->call.value] = *dispatch;
    }
    if (std::get_if<core::StartWorker>(&action) != nullptr) {
      for (const StartOrder& order : orders_) ++obeyed_[order.fault];
    }
    mark(action);
  }
  void hear(const core::Event& event) {
    if (const auto* reply = std::get_if<core::WorkerReplied>(&event)) {
      const bool ran = reply->kind == core::ReplyKind::kOk ||
                       reply->kind == core::ReplyKind::kError ||
                       reply->kind == core::ReplyKind::kCancelled;
      if (ran) effect(reply->call, reply->worker);
    }
    if (const auto* exit = std::get_if<core::WorkerExited>(&event)) {
      if (exit->death.cause == "start_failed") REACHED("start: failed");
      // The mark names the last call that started; its reply may have been noted already.
      for (const core::StartedCall& each : exit->started) {
        if (noted_.contains({each.call.value, exit->worker.generation})) continue;
        effect(each.call, exit->worker);
      }
    }
  }
  // Which rare things the core has done in this process; whoever runs many seeds lists the others.
  static void mark(const core::Action& action) {
    if (std::holds_alternative<core::CancelCall>(action)) REACHED("ladder: cancel");
    if (std::holds_alternative<core::InterruptCall>(action)) REACHED("ladder: interrupt");
    if (std::holds_alternative<core::DumpWorker>(action)) REACHED("ladder: dump");
    if (std::holds_alternative<core::KillWorker>(action)) REACHED("ladder: kill");
    if (std::holds_alternative<core::AbandonWorker>(action)) REACHED("ladder: abandon");
    if (std::holds_alternative<core::StopWorker>(action)) REACHED("worker: stopped in good order");
    if (std::holds_alternative<core::EndSession>(action)) REACHED("session: ended on its worker");
    if (const auto* dispatch = std::get_if<core::Dispatch>(&action)) {
      if (dispatch->attempt > 1) REACHED("call: dispatched again");
    }
    if (const auto* resolve = std::get_if<core::Resolve>(&action)) mark(*resolve);
  }
  static void mark(const core::Resolve& resolve) {
    using enum OutcomeKind;
    if (resolve.death && resolve.death->role == DeathRole::kBystander) REACHED("role: bystander");
    if (resolve.death && resolve.death->role == DeathRole::kSuspect) REACHED("role: suspect");
    switch (resolve.kind) {
      case kTimeout:
        if (resolve.effect == Effect::kNone) REACHED("timeout: none");
        if (resolve.effect == Effect::kMaybe) REACHED("timeout: maybe");
        if (resolve.effect == Effect::kDone) REACHED("timeout: done");
        return;
      case kWorkerDied:
        if (resolve.effect == Effect::kNone) REACHED("worker_died: none");
        if (resolve.effect == Effect::kMaybe) REACHED("worker_died: maybe");
        return;
      case kCancelled:
        return REACHED("cancelled");
      case kOverloaded:
        return REACHED("overloaded");
      case kCircuitOpen:
        return REACHED("circuit_open");
      case kQuarantined:
        return REACHED("quarantined");
      case kSessionBusy:
        return REACHED("session_busy");
      case kSessionLost:
        return REACHED("session_lost");
      case kSessionExpired:
        return REACHED("session_expired");
      case kSessionLimit:
        return REACHED("session_limit");
      case kNotReady:
        return REACHED("not_ready");
      case kShuttingDown:
        return REACHED("shutting_down");
      default:
        return;
    }
  }
  void effect(CallId call, WorkerId worker) {
    if (!noted_.insert({{call.value, worker.generation}, true}).second) return;
    EffectEvent made{.call = call.value, .worker = worker};
    const auto found = dispatched_.find(call.value);
    if (found != dispatched_.end() && found->second.session) {
      made.session = found->second.session->id;
      made.birth = found->second.session->birth;
      made.epoch = found->second.session->epoch;
    }
    effects_.push_back(std::move(made));
  }

  sim::Simulation sim_;
  sim::Spread usual_start_ = sim_.model().start;
  std::vector<Ended> ended_;
  std::vector<StartOrder> orders_;
  std::map<std::string, std::uint64_t> obeyed_;
  std::map<std::uint64_t, core::Dispatch> dispatched_;
  std::map<std::pair<std::uint64_t, std::uint32_t>, bool> noted_;
  std::vector<EffectEvent> effects_;
};

}  // namespace

std::unique_ptr<World> make_sim_world(const WorldOptions& options) {
  return std::make_unique<SimWorld>(options);
}

}  // namespace keelback::chaos
