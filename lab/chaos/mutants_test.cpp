// The laboratory is tested: pools with one defect each must be caught, each by the invariant that
// is named for it. The defects stand between the production core on virtual time and the
// laboratory: what the pool does wrong is put into what it says. The matrix is printed.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "chaos/lab.h"
#include "chaos/report.h"
#include "chaos/world.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

// A world that does everything as another one does. Defects override one thing.
class Wrapped : public World {
 public:
  explicit Wrapped(std::unique_ptr<World> inner)
      : World(inner->options()), inner_(std::move(inner)) {}
  Duration now() override { return inner_->now(); }
  void wait_until(Duration when, bool or_ended) override { inner_->wait_until(when, or_ended); }
  std::uint64_t submit(Call call, std::uint64_t index) override {
    return inner_->submit(std::move(call), index);
  }
  std::uint64_t stream(Call call, std::uint64_t index) override {
    return inner_->stream(std::move(call), index);
  }
  bool cancel(std::uint64_t call) override { return inner_->cancel(call); }
  std::vector<Ended> take_ended() override { return inner_->take_ended(); }
  host::PoolInfo info() override { return inner_->info(); }
  std::vector<host::WorkerInfo> workers() override { return inner_->workers(); }
  std::shared_ptr<const Application> application() override { return inner_->application(); }
  bool end_session(const std::string& session) override { return inner_->end_session(session); }
  bool recycle(std::uint32_t slot) override { return inner_->recycle(slot); }
  void reload() override { inner_->reload(); }
  void configure(const Settings& settings) override { inner_->configure(settings); }
  bool shut_down(Duration limit) override { return inner_->shut_down(limit); }
  Evidence send_signal(const std::vector<host::WorkerInfo>& targets, int signal,
                       bool harmless) override {
    return inner_->send_signal(targets, signal, harmless);
  }
  Evidence stop(const host::WorkerInfo& worker, Duration at_most) override {
    return inner_->stop(worker, at_most);
  }
  Evidence resume(const host::WorkerInfo& worker) override { return inner_->resume(worker); }
  Evidence order_start(const StartOrder& order) override { return inner_->order_start(order); }
  Evidence lift_start(const std::string& fault) override { return inner_->lift_start(fault); }
  std::uint64_t obeyed(const std::string& fault) override { return inner_->obeyed(fault); }
  std::vector<EffectEvent> effects() override { return inner_->effects(); }
  bool effects_known() const override { return inner_->effects_known(); }
  bool links_known() const override { return inner_->links_known(); }
  Census census(std::string when) override { return inner_->census(std::move(when)); }
  std::optional<MachineSample> machine() override { return inner_->machine(); }
  std::uint64_t trace_hash() const override { return inner_->trace_hash(); }
  std::string function_of(const std::string& word) const override {
    return inner_->function_of(word);
  }

 protected:
  std::unique_ptr<World> inner_;
};

// ---- defects of what callers hear

// `edit` sees every outcome; false: nobody hears of it.
class Outcomes : public Wrapped {
 public:
  using Edit = std::function<bool(Ended&, Outcomes&)>;
  Outcomes(std::unique_ptr<World> inner, Edit edit)
      : Wrapped(std::move(inner)), edit_(std::move(edit)) {}
  std::uint64_t submit(Call call, std::uint64_t index) override {
    calls[index] = call;
    return Wrapped::submit(std::move(call), index);
  }
  std::uint64_t stream(Call call, std::uint64_t index) override {
    calls[index] = call;
    return Wrapped::stream(std::move(call), index);
  }
  std::vector<Ended> take_ended() override {
    std::vector<Ended> heard;
    for (Ended& ended : Wrapped::take_ended()) {
      ++count;
      if (edit_(ended, *this)) heard.push_back(std::move(ended));
    }
    for (Ended& ended : std::exchange(also, {})) heard.push_back(std::move(ended));
    return heard;
  }
  bool session(const Ended& ended) { return !calls[ended.index].session.empty(); }

  std::map<std::uint64_t, Call> calls;
  std::vector<Ended> also;  // to be heard as well
  std::uint64_t count = 0;  // outcomes so far
  std::string kept;         // between outcomes
  std::uint64_t done = 0;   // how often the defect showed

 private:
  Edit edit_;
};

// ---- defects of what the pool does or says of itself

class LiesReady : public Wrapped {
 public:
  using Wrapped::Wrapped;
  host::PoolInfo info() override {
    host::PoolInfo info = Wrapped::info();
    info.stats.ready = true;
    return info;
  }
};
class Miscounts : public Wrapped {
 public:
  using Wrapped::Wrapped;
  host::PoolInfo info() override {
    host::PoolInfo info = Wrapped::info();
    auto& ok = info.stats.outcomes[static_cast<std::size_t>(OutcomeKind::kOk)];
    ok -= ok > 0;
    return info;
  }
};
// While starts fail, a new attempt every time one looks.
class NeverBacksOff : public Wrapped {
 public:
  using Wrapped::Wrapped;
  std::vector<host::WorkerInfo> workers() override {
    auto all = Wrapped::workers();
    const auto up = std::ranges::count_if(all, [](const host::WorkerInfo& worker) {
      return worker.state == core::WorkerState::kReady || worker.state == core::WorkerState::kBusy;
    });
    if (up >= 2) return all;
    host::WorkerInfo another;
    another.worker.slot = 1;
    another.worker.generation = ++attempts_;
    another.state = core::WorkerState::kStarting;
    all.push_back(another);
    return all;
  }

 private:
  std::uint32_t attempts_ = 1'000'000;
};
class RetriesEverything : public Wrapped {
 public:
  using Wrapped::Wrapped;
  std::uint64_t submit(Call call, std::uint64_t index) override {
    call.idempotent = true;
    return Wrapped::submit(std::move(call), index);
  }
};
class NeverEnds : public Wrapped {
 public:
  using Wrapped::Wrapped;
  bool shut_down(Duration limit) override {
    Wrapped::shut_down(limit);
    return false;
  }
};
// What a driver with processes would count, with something left over.
class Leaves : public Wrapped {
 public:
  Leaves(std::unique_ptr<World> inner, std::function<void(Census&, std::uint64_t restarts)> leave)
      : Wrapped(std::move(inner)), leave_(std::move(leave)) {}
  bool shut_down(Duration limit) override {
    restarts_ = info().stats.restarts;
    return Wrapped::shut_down(limit);
  }
  Census census(std::string when) override {
    Census census{.when = std::move(when), .known = true, .descriptors = 12, .threads = 3};
    if (census.when == "after") leave_(census, restarts_);
    return census;
  }

 private:
  std::function<void(Census&, std::uint64_t)> leave_;
  std::uint64_t restarts_ = 0;
};

// ---- the mutants

struct Mutant {
  std::string name;
  std::string invariant;  // that must kill it
  std::string scenario;   // of the library, or TOML
  std::function<std::unique_ptr<World>(std::unique_ptr<World>)> make;
  std::function<void(Settings&)> pool = {};  // what the pool has instead of what was asked for
  std::function<void(History&)> after = {};
  std::uint64_t seed = 3;
};

template <class W, class... Args>
std::function<std::unique_ptr<World>(std::unique_ptr<World>)> a(Args... args) {
  return [args...](std::unique_ptr<World> inner) -> std::unique_ptr<World> {
    return std::make_unique<W>(std::move(inner), args...);
  };
}
auto outcomes(Outcomes::Edit edit) { return a<Outcomes>(std::move(edit)); }
std::unique_ptr<World> as_it_is(std::unique_ptr<World> inner) { return inner; }

const char* const kOneWorkerHeld = R"(
name = "one-worker-held"
why = "One worker of one is busy for a while: everything waits."
[settings.pool]
workers = 1
queue_max = 20
[settings.calls]
grace = "300ms"
[load]
rate = 200
deadline = "1s"
mix = { echo = 1.0 }
[[fault]]
id = "h"
class = "call.hold"
at = "200ms"
with = { calls = 1, hold = "500ms" }
[during]
ok = 0.0
)";

const char* const kOneCrash = R"(
name = "one-crash"
why = "One call takes its worker with it."
[settings.pool]
workers = 2
[settings.calls]
grace = "300ms"
[load]
rate = 100
[[fault]]
id = "c"
class = "call.crash"
at = "100ms"
with = { calls = 1 }
)";

const char* const kNoStarts = R"(
name = "no-starts"
why = "All workers die, and none starts for a second."
[settings.pool]
workers = 2
min_ready = 2
[settings.calls]
grace = "300ms"
[load]
rate = 100
[recovery]
for = "4s"
[[fault]]
id = "i"
class = "spawn.fail"
at = "100ms"
for = "1s"
[[fault]]
id = "k"
class = "proc.kill"
target = "all"
at = "200ms"
[during]
ok = 0.0
[after]
within = "6s"
)";

bool ok(const Ended& ended) { return ended.outcome.ok(); }

std::vector<Mutant> outcome_mutants() {
  using enum OutcomeKind;
  std::vector<Mutant> all;
  all.push_back({"replies twice", "I1", "worker-kill", outcomes([](Ended& e, Outcomes& world) {
                   if (world.count % 50 == 7) world.also.push_back(e);
                   return true;
                 })});
  all.push_back({"brings back an older state of a session", "I5", "saved-sessions",
                 outcomes([](Ended& e, Outcomes& world) {
                   const bool restored = ok(e) && world.session(e) && e.outcome.epoch > 1;
                   if (restored)
                     e.outcome.payload = std::to_string(std::stoull(e.outcome.payload) - 1);
                   return true;
                 })});
  all.push_back({"loses the call of a killed worker", "I1", "exit-in-call",
                 outcomes([](Ended& e, Outcomes&) { return e.outcome.kind != kWorkerDied; })});
  all.push_back(
      {"says effect none of what ran", "I3", "exit-in-call", outcomes([](Ended& e, Outcomes&) {
         if (e.outcome.kind == kWorkerDied) e.outcome.effect = Effect::kNone;
         return true;
       })});
  all.push_back(
      {"rolls a session back", "I5", "worker-kill", outcomes([](Ended& e, Outcomes& world) {
         if (!ok(e) || !world.session(e)) return true;
         if (world.done == 0 && e.outcome.payload.size() > 1) {
           world.done = 1;
           e.outcome.payload = std::to_string(std::stoull(e.outcome.payload) - 1);
         }
         return true;
       })});
  all.push_back(
      {"forgets a session loss", "I6", "worker-kill", outcomes([](Ended& e, Outcomes& world) {
         if (e.outcome.kind != kSessionLost) return true;
         world.submit(world.calls[e.index], e.index);  // opens anew, and says nothing
         return false;
       })});
  all.push_back({"splits a home", "I7", "worker-kill", outcomes([](Ended& e, Outcomes& world) {
                   if (!ok(e) || !world.session(e) || world.count % 40 != 0) return true;
                   e.outcome.worker.slot = e.outcome.worker.slot % 4 + 1;
                   return true;
                 })});
  all.push_back(
      {"delivers cross-talk", "I8", "worker-kill", outcomes([](Ended& e, Outcomes& world) {
         if (!ok(e) || world.calls[e.index].function != "echo") return true;
         if (world.count % 60 < 2) std::swap(e.outcome.payload, world.kept);
         if (e.outcome.payload.empty()) e.outcome.payload = world.kept;
         return true;
       })});
  all.push_back(
      {"delivers half a reply", "I9", "worker-kill", outcomes([](Ended& e, Outcomes& world) {
         if (ok(e) && world.calls[e.index].function == "echo" && world.count % 60 == 5) {
           e.outcome.payload.resize(e.outcome.payload.size() / 2);
         }
         return true;
       })});
  all.push_back({"a slot that looks well and answers nobody", "I12", "worker-kill",
                 outcomes([](Ended& e, Outcomes& world) {
                   const bool broken = e.at > 4s && e.outcome.worker.slot == 2;
                   if (!broken || !ok(e) || world.session(e)) return true;
                   e.outcome.kind = kTimeout;
                   e.outcome.message = "no answer";
                   return true;
                 })});
  all.push_back({"hurts sessions that no fault touched", "I16", "worker-kill",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (!ok(e) || !world.session(e) || e.at < 2500ms || e.at > 3500ms) return true;
                   if (world.count % 3 == 0) e.outcome.kind = kOverloaded;
                   e.outcome.message = "busy";
                   return true;
                 })});
  all.push_back({"drops what waits when a worker comes back", "I22", "failure-under-load",
                 outcomes([](Ended& e, Outcomes& world) {
                   const std::uint64_t restarts = world.info().stats.restarts;
                   if (restarts > world.done && e.outcome.queued > 0ns) {
                     e.outcome.kind = kCancelled;
                     e.outcome.effect = Effect::kNone;
                     e.outcome.message = "dropped";
                   }
                   return true;
                 })});
  all.push_back(
      {"fails a call for no reason", "I22", "worker-kill", outcomes([](Ended& e, Outcomes& world) {
         if (e.at > 2s && ok(e) && world.done == 0) {
           world.done = 1;
           e.outcome.kind = kWorkerDied;
           e.outcome.death = Death{};
           e.outcome.death->cause = "signal";
           e.outcome.message = "signal 9";
         }
         return true;
       })});
  all.push_back(
      {"dies without saying how", "I23", "exit-in-call", outcomes([](Ended& e, Outcomes&) {
         if (e.outcome.kind == kWorkerDied) e.outcome.death.reset();
         return true;
       })});
  all.push_back({"tells of one loss again and again", "I22", "worker-kill",
                 outcomes([](Ended& e, Outcomes& world) {
                   const std::string& session = world.calls[e.index].session;
                   if (e.outcome.kind == kSessionLost) world.kept += session + ";";
                   const bool was_lost = world.kept.find(session + ";") != std::string::npos;
                   if (e.at > 4s && ok(e) && !session.empty() && was_lost) {
                     e.outcome.kind = kSessionLost;
                     e.outcome.effect = Effect::kNone;
                     e.outcome.message = "lost";
                   }
                   return true;
                 })});
  return all;
}

bool innocent(const Ended& ended) {
  return ended.outcome.death && (ended.outcome.death->role == DeathRole::kBystander ||
                                 ended.outcome.death->role == DeathRole::kSuspect);
}

// Of pools that run many calls at once in a worker.
std::vector<Mutant> shared_mutants() {
  using enum OutcomeKind;
  std::vector<Mutant> all;
  all.push_back({"blames two calls for one death", "bystanders", "shared-block",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (innocent(e) && world.done < 2) {
                     ++world.done;
                     e.outcome.death->role = DeathRole::kCulprit;
                   }
                   return true;
                 })});
  all.push_back({"suspects a call although the culprit is known", "bystanders", "shared-block",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (innocent(e) && world.done++ == 0) {
                     e.outcome.death->role = DeathRole::kSuspect;
                   }
                   return true;
                 })});
  all.push_back({"names a culprit that the worker never had", "bystanders", "shared-block",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (innocent(e) && world.done++ == 0) {
                     e.outcome.death->detail = "call 1 of function \"echo\" did not end";
                   }
                   return true;
                 })});
  all.push_back({"does not look whose thread it was", "bystanders", "shared-crash",
                 outcomes([](Ended& e, Outcomes&) {
                   if (e.outcome.death && e.outcome.death->role != DeathRole::kNone) {
                     e.outcome.death->role = DeathRole::kSuspect;
                   }
                   return true;
                 })});
  all.push_back({"blames a call for a kill from outside", "bystanders", "shared-kill",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (innocent(e) && world.done++ == 0) {
                     e.outcome.death->role = DeathRole::kCulprit;
                   }
                   return true;
                 })});
  all.push_back(
      {"blames the wrong call", "bystanders", "shared-crash", outcomes([](Ended& e, Outcomes&) {
         if (!e.outcome.death) return true;
         DeathRole& role = e.outcome.death->role;
         if (role == DeathRole::kCulprit || role == DeathRole::kBystander) {
           role = role == DeathRole::kCulprit ? DeathRole::kBystander : DeathRole::kCulprit;
         }
         return true;
       })});
  all.push_back({"does not run an innocent call again", "bystanders", "shared-crash",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (innocent(e)) ++world.done;
                   const Call& call = world.calls[e.index];
                   const bool may = ok(e) && call.session.empty() && call.idempotent;
                   if (may && call.function == "together" && world.done > 0 && world.done < 1000) {
                     world.done = 1000;
                     e.outcome.kind = kWorkerDied;
                     e.outcome.effect = Effect::kMaybe;
                     e.outcome.death = Death{.cause = "signal"};
                     e.outcome.death->role = DeathRole::kSuspect;
                     e.outcome.message = "signal 11";
                   }
                   return true;
                 })});
  all.push_back({"fails a call that had not begun", "bystanders", "shared-crash",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (innocent(e) && world.done++ == 0) {
                     e.outcome.effect = Effect::kNone;
                     e.outcome.death->role = DeathRole::kNone;
                   }
                   return true;
                 })});
  all.push_back({"opens a breaker for bystanders", "bystanders", "shared-crash",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (innocent(e)) ++world.done;
                   const bool next = world.done > 0 && world.done < 1000 && ok(e) &&
                                     world.calls[e.index].function == "together";
                   if (next) {
                     world.done = 1000;
                     e.outcome.kind = kCircuitOpen;
                     e.outcome.effect = Effect::kNone;
                     e.outcome.message = "its breaker is open";
                   }
                   return true;
                 })});
  const auto quarantines = outcomes([](Ended& e, Outcomes& world) {
    if (innocent(e) && world.done++ == 0) {
      e.outcome.kind = kQuarantined;
      e.outcome.effect = Effect::kNone;
      e.outcome.death.reset();
    }
    return true;
  });
  all.push_back({"puts a bystander into quarantine", "bystanders", "shared-crash", quarantines});
  all.push_back({"puts a suspect into quarantine", "bystanders", "shared-unknown", quarantines});
  all.push_back({"forgets its suspects", "suspects-alone", "shared-poison", as_it_is,
                 [](Settings& settings) { settings.quarantine.ttl = 1ns; }});
  all.push_back({"lets a call that runs alone starve", "order", "shared-burst",
                 outcomes([](Ended& e, Outcomes& world) {
                   const bool alone = ok(e) && world.calls[e.index].function == "echo";
                   if (alone && world.count % 20 == 3) {  // it began so much later than it did
                     e.at += 150ms;
                     e.outcome.queued += 150ms;
                   }
                   return true;
                 })});
  all.push_back({"lets a call wait behind younger ones", "order", "shared-burst",
                 outcomes([](Ended& e, Outcomes& world) {
                   const bool beside =
                       ok(e) && !world.session(e) && world.calls[e.index].function == "together";
                   if (beside && world.count % 20 == 3) {
                     e.at += 150ms;
                     e.outcome.queued += 150ms;
                   }
                   return true;
                 })});
  all.push_back({"runs two calls of a session at once", "order", "shared-burst",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (ok(e) && world.session(e)) {  // it began as soon as it came
                     e.outcome.ran += e.outcome.queued;
                     e.outcome.queued = 0ns;
                   }
                   return true;
                 })});
  all.push_back(
      {"loses an item of a stream", "I9", "shared-burst", outcomes([](Ended& e, Outcomes& world) {
         if (ok(e) && e.items.n > 0 && world.done++ == 0) --e.items.n;
         return true;
       })});
  return all;
}

// Of pools that run calls in batches.
std::vector<Mutant> batch_mutants() {
  using enum OutcomeKind;
  // A call of a batch that died, which ran again, and is ok.
  const auto saved = [](const Ended& e, Outcomes& world) {
    return ok(e) && e.outcome.attempts > 1 && world.calls[e.index].function == "gather";
  };
  const auto gathered = [](const Ended& e, Outcomes& world) {
    return ok(e) && world.calls[e.index].function == "gather";
  };
  const auto dies = [saved](DeathRole role) {
    return outcomes([saved, role](Ended& e, Outcomes& world) {
      if (!saved(e, world) || world.done++ > 0) return true;
      e.outcome.kind = kWorkerDied;
      e.outcome.effect = Effect::kMaybe;
      e.outcome.death = Death{.cause = "signal", .signal = 11};
      e.outcome.death->role = role;
      e.outcome.message = "signal 11";
      return true;
    });
  };
  std::vector<Mutant> all;
  all.push_back(
      {"does not run halves of a batch", "batches", "batch-crash", dies(DeathRole::kSuspect)});
  all.push_back(
      {"gives up with the call that kills", "batches", "batch-crash", dies(DeathRole::kNone)});
  all.push_back({"puts a batch into quarantine", "batches", "batch-crash",
                 outcomes([saved](Ended& e, Outcomes& world) {
                   if (!saved(e, world) || world.done++ > 0) return true;
                   e.outcome.kind = kQuarantined;
                   e.outcome.effect = Effect::kNone;
                   e.outcome.message = "it is quarantined";
                   return true;
                 })});
  all.push_back({"gives a batch the error of one call", "batches", "batch-burst",
                 outcomes([gathered](Ended& e, Outcomes& world) {
                   world.done += e.outcome.kind == kError;
                   if (world.done == 0 || world.done >= 1000 || !gathered(e, world)) return true;
                   world.done = 1000;
                   e.outcome.kind = kError;
                   e.outcome.python = PythonError{};
                   e.outcome.python->type = "ValueError";
                   e.outcome.message = "this call was to fail";
                   return true;
                 })});
  all.push_back({"swallows the error of one call", "batches", "batch-burst",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (e.outcome.kind != kError || world.done++ > 0) return true;
                   e.outcome.kind = kOk;
                   e.outcome.payload = "1";
                   return true;
                 })});
  all.push_back({"starts a call in the midst of a batch", "batches", "batch-burst",
                 outcomes([gathered](Ended& e, Outcomes& world) {
                   if (!gathered(e, world) || world.count % 20 != 3) return true;
                   const Duration later = e.outcome.ran / 2;
                   e.outcome.queued += later;
                   e.outcome.ran -= later;
                   return true;
                 })});
  all.push_back({"runs another call beside a batch", "batches", "batch-burst",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (!ok(e) || world.calls[e.index].function != "echo") return true;
                   e.outcome.ran += 40ms;
                   e.at += 40ms;
                   return true;
                 })});
  all.push_back({"mixes up the answers of a batch", "I8", "batch-burst",
                 outcomes([gathered](Ended& e, Outcomes& world) {
                   if (!gathered(e, world) || world.count % 20 != 3) return true;
                   std::swap(e.outcome.payload, world.kept);
                   if (e.outcome.payload.empty()) e.outcome.payload = world.kept;
                   return true;
                 })});
  all.push_back({"answers a call of a batch twice", "I1", "batch-burst",
                 outcomes([gathered](Ended& e, Outcomes& world) {
                   if (gathered(e, world) && world.count % 50 == 7) world.also.push_back(e);
                   return true;
                 })});
  all.push_back({"loses a call of a batch that died", "I1", "batch-crash",
                 outcomes([saved](Ended& e, Outcomes& world) {
                   return !saved(e, world) || world.done++ > 0;
                 })});
  all.push_back({"lets a batch wait behind younger ones", "order", "batch-burst",
                 outcomes([gathered](Ended& e, Outcomes& world) {
                   if (gathered(e, world) && e.outcome.attempts == 1 && world.count % 20 == 3) {
                     e.at += 150ms;
                     e.outcome.queued += 150ms;
                   }
                   return true;
                 })});
  return all;
}

std::vector<Mutant> pool_mutants() {
  std::vector<Mutant> all;
  all.push_back({"retries what may not run twice", "I2", kOneCrash, a<RetriesEverything>()});
  all.push_back(
      {"leaves an orphan", "I10", "worker-kill", a<Leaves>([](Census& c, std::uint64_t n) {
         if (n > 0) c.processes.push_back("pid 4711");
       })});
  all.push_back({"leaks a descriptor per restart", "I11", "worker-kill",
                 a<Leaves>([](Census& c, std::uint64_t n) { c.descriptors += n; })});
  all.push_back(
      {"leaves a file in /dev/shm", "I11", "worker-kill",
       a<Leaves>([](Census& c, std::uint64_t) { c.files.push_back("/dev/shm/keelback-1"); })});
  all.push_back({"accepts without bound", "I14", kOneWorkerHeld, as_it_is,
                 [](Settings& settings) { settings.pool.queue_max = 100'000; }});
  all.push_back({"starts without back-off", "I15", kNoStarts, a<NeverBacksOff>()});
  all.push_back({"never quarantines", "I17", "poison-pill", as_it_is,
                 [](Settings& settings) { settings.quarantine.deaths = 1000; }});
  all.push_back({"says ready when it is not", "I19", kNoStarts, a<LiesReady>()});
  all.push_back({"counts one too few", "I19", "worker-kill", a<Miscounts>()});
  all.push_back({"never ends", "I20", "worker-kill", a<NeverEnds>()});
  all.push_back({"grows beyond its limit", "pool-size", "elastic-waves", as_it_is,
                 [](Settings& settings) { settings.pool.workers_max = 12; }});
  all.push_back(
      {"shrinks below its limit", "pool-size", "elastic-waves", as_it_is, {}, [](History& history) {
         for (Sample& sample : history.samples) {
           if (sample.at > 1s && sample.at < 1200ms) sample.up = 1;
         }
       }});
  all.push_back({"forgets sessions as it shrinks", "I22", "elastic-waves",
                 outcomes([](Ended& e, Outcomes& world) {
                   if (!ok(e) || !world.session(e) || e.outcome.epoch < 2) return true;
                   e.outcome.kind = OutcomeKind::kSessionLost;
                   e.outcome.effect = Effect::kNone;
                   e.outcome.message = "lost";
                   return true;
                 })});
  all.push_back({"decides by chance", "I26", "worker-kill", as_it_is, {}, [](History& history) {
                   history.facts.trace_hash_again = history.facts.trace_hash + 1;
                 }});
  return all;
}

Scenario scenario_of(const std::string& name) {
  const auto text = name.find('\n') == name.npos ? library_text(name) : std::optional(name);
  auto parsed = parse_scenario(*text, Level::kMedium, scenario_lookup(), "test");
  EXPECT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
  return std::move(*parsed.scenario);
}

RunResult run(const Mutant& mutant) {
  RunResult result{.scenario = scenario_of(mutant.scenario)};
  result.plan = make_plan(result.scenario, {.seed = mutant.seed, .level = Level::kMedium});
  WorldOptions options{.settings = result.scenario.settings, .seed = mutant.seed};
  if (mutant.pool) mutant.pool(options.settings);
  const auto world = mutant.make(make_sim_world(options));
  Census before = world->census("before");
  result.history = conduct(result.scenario, result.plan, *world);
  result.history.census = {std::move(before), world->census("after")};
  if (mutant.after) mutant.after(result.history);
  result.judgement = judge({result.history, result.scenario, result.plan});
  return result;
}

std::vector<std::string> broken(const Judgement& judgement) {
  std::vector<std::string> out;
  for (const CheckResult& check : judgement.invariants) {
    if (check.status == Status::kBroken) out.push_back(check.id);
  }
  return out;
}

// Goal: every defect is caught by the invariant that is named for it, and none of these scenarios
// breaks that invariant without the defect.
TEST(ChaosMutants, EveryMutantIsKilledByItsInvariant) {
  std::vector<Mutant> all = outcome_mutants();
  for (Mutant& each : pool_mutants()) all.push_back(std::move(each));
  for (Mutant& each : shared_mutants()) all.push_back(std::move(each));
  for (Mutant& each : batch_mutants()) all.push_back(std::move(each));
  std::string matrix = "kill matrix (* the invariant that must kill it)\n";
  std::set<std::string> killers;
  for (const Mutant& mutant : all) {
    Mutant healthy{"healthy", "", mutant.scenario, as_it_is};
    EXPECT_EQ(run(healthy).judgement.verdict, Verdict::kPass) << report_text(run(healthy));
    const RunResult result = run(mutant);
    const auto ids = broken(result.judgement);
    std::string row;
    for (const std::string& id : ids) row += " " + id + (id == mutant.invariant ? "*" : "");
    matrix +=
        fmt::format("  {:<44} {:<10}{}\n", mutant.name, to_string(result.judgement.verdict), row);
    EXPECT_THAT(ids, testing::Contains(mutant.invariant)) << mutant.name << "\n"
                                                          << report_text(result);
    EXPECT_NE(result.judgement.verdict, Verdict::kPass) << mutant.name;
    killers.insert(mutant.invariant);
  }
  std::printf("%s  %zu mutants, %zu invariants\n", matrix.c_str(), all.size(), killers.size());
  // I13 has its own tests below; I27 to I30 look at an application. The simulator has one pool: the
  // rules of several nodes have their mutants in checkers_test.cpp.
  const std::set<std::string> of_nodes = {"owner-commits", "state-forward", "one-run", "told-once"};
  for (const Invariant& each : invariants()) {
    const std::string id(each.id());
    if (id == "I13" || (id.size() == 3 && id >= "I27" && id <= "I30")) continue;
    if (of_nodes.contains(id)) continue;
    EXPECT_THAT(killers, testing::Contains(id)) << "no mutant for " << id;
  }
}

// ---- the host

class Exhausted : public Wrapped {
 public:
  using Wrapped::Wrapped;
  std::optional<MachineSample> machine() override {
    const bool low = now() > 3s;
    return MachineSample{.memory_total = 1ULL << 30,
                         .memory_available = (low ? 64ULL : 512ULL) << 20};
  }
};

// Goal: a run that finds its host nearly out of memory stops, undoes its faults and says why.
TEST(ChaosHost, ARunEndsBeforeItsHostHasNothingLeft) {
  const RunResult result = run({"exhausted", "", "worker-stop", a<Exhausted>()});
  EXPECT_EQ(result.judgement.verdict, Verdict::kAborted) << report_text(result);
  EXPECT_THAT(result.judgement.why, testing::HasSubstr("stop.memory_below is 128MiB"));
  EXPECT_FALSE(result.history.faults.empty());
  EXPECT_TRUE(std::ranges::all_of(result.history.faults, &FaultEvent::undone));
  EXPECT_GT(result.history.machine.size(), 5U);
}

// ---- I12: nobody comes back

// Whatever kept workers from starting stays.
class NeverAgain : public Wrapped {
 public:
  using Wrapped::Wrapped;
  Evidence lift_start(const std::string&) override { return "it is undone, one would think"; }
};

// Goal: a pool that no worker comes back to is LIVENESS (exit 2), not a loss that nobody explains:
// every call is refused for want of capacity, those of the verification after the plan's end too.
TEST(ChaosCapacity, APoolThatStaysEmptyIsLiveness) {
  const Judgement judged = run({"empty", "I12", "nobody-starts", a<NeverAgain>()}).judgement;
  EXPECT_EQ(judged.verdict, Verdict::kLiveness) << judged.why;
  EXPECT_EQ(judged.latch, Latch::kDamaged);
  EXPECT_EQ(judged.losses.unexplained, 0U);
  EXPECT_THAT(broken(judged), testing::IsSupersetOf({"I12", "I13"}));
  EXPECT_THAT(judged.advice, testing::Contains(testing::HasSubstr("0 of 4 workers serve")));
}

// ---- I13 and the latch test

// From the bite of the first fault on, calls fail for as long as `ill` says.
class Ill : public Wrapped {
 public:
  using Condition = std::function<bool(Duration since, std::uint64_t quiet_for_ms)>;
  Ill(std::unique_ptr<World> inner, Condition ill) : Wrapped(std::move(inner)), ill_(ill) {}
  Evidence send_signal(const std::vector<host::WorkerInfo>& targets, int signal,
                       bool harmless) override {
    if (!bitten_) bitten_ = now();
    return Wrapped::send_signal(targets, signal, harmless);
  }
  std::uint64_t submit(Call call, std::uint64_t index) override {
    quiet_ = std::max(quiet_, now() - last_);
    last_ = now();
    return Wrapped::submit(std::move(call), index);
  }
  std::vector<Ended> take_ended() override {
    auto all = Wrapped::take_ended();
    for (Ended& ended : all) {
      const auto ms = static_cast<std::uint64_t>(quiet_ / 1ms);
      if (!bitten_ || !ok(ended) || !ill_(ended.at - *bitten_, ms)) continue;
      ended.outcome.kind = OutcomeKind::kTimeout;
      ended.outcome.message = "too late";
    }
    return all;
  }

 private:
  Condition ill_;
  std::optional<Duration> bitten_;
  Duration last_{0}, quiet_{0};  // the longest pause between two calls
};

Judgement ill(Ill::Condition condition) {
  Mutant mutant{"ill", "I13", "worker-kill", a<Ill>(std::move(condition))};
  return run(mutant).judgement;
}

// Goal: what does not come back is LIVENESS, and the report says what would bring it back: time, a
// rest, or nothing.
TEST(ChaosLatch, TellsSlowFromMetastableFromDamaged) {
  const Judgement well = ill([](Duration since, std::uint64_t) { return since < 200ms; });
  EXPECT_EQ(well.latch, Latch::kNone) << well.why;
  const Judgement slow = ill([](Duration since, std::uint64_t) { return since < 3500ms; });
  EXPECT_EQ(slow.latch, Latch::kSlow) << slow.why;
  const Judgement stuck = ill([](Duration, std::uint64_t quiet_ms) { return quiet_ms < 500; });
  EXPECT_EQ(stuck.latch, Latch::kMetastable) << stuck.why;
  const Judgement gone = ill([](Duration, std::uint64_t) { return true; });
  EXPECT_EQ(gone.latch, Latch::kDamaged) << gone.why;
  for (const Judgement* each : {&slow, &stuck, &gone}) {
    EXPECT_THAT(broken(*each), testing::Contains("I13"));
    EXPECT_TRUE(std::ranges::any_of(
        each->reasons, [](const Reason& reason) { return reason.verdict == Verdict::kLiveness; }));
  }
}

}  // namespace
}  // namespace keelback::chaos
