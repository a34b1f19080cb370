#include "sim/simulation.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/overloaded.h"
#include "core/attachment_rules.h"

namespace keelback::sim {
namespace {

constexpr std::uint32_t kTicksInPlaceMax = 10'000;

std::uint64_t fingerprint(const Call& call) {
  TraceHash hash;
  hash.mix(call.function);
  hash.mix(call.session);
  hash.mix(call.payload);
  for (const Attachment& each : call.attachments) {
    hash.mix(each.name);
    hash.mix(each.content_type);
    hash.mix(each.filename);
    hash.mix(each.data.view());
  }
  return hash.value();
}

}  // namespace

Simulation::Simulation(Options options)
    : crew_(std::move(options.model), options.seed ^ 0xc0ffee, schedule_),
      pool_(options.settings, options.seed),
      check_invariants_(options.check_invariants) {
  crew_.set_result_max(options.settings.calls.payload_max.count);
  crew_.set_loop_lag_warn(options.settings.workers.loop_lag_warn);
  handle(core::StartModeChanged{});
  handle(core::Tick{});
  // A pool that keeps no worker is ready when the model zygote has loaded the application.
  if (options.settings.pool.ready_from() == 0) {
    at(now_ + model().start.sample(crew_.prng()), [this] {
      if (!announced_) announce();
    });
  }
}

Simulation::~Simulation() = default;

void Simulation::observe(std::function<void(Time, const core::Event&)> on_event,
                         std::function<void(Time, const core::Action&)> on_action) {
  on_event_ = std::move(on_event);
  on_action_ = std::move(on_action);
}

CallId Simulation::enter(const ClientCall& mine) {
  const CallId id = mine.id;  // the call may be over when the core has heard of it
  const Call& ask = mine.call;
  const std::string fault = core::fault_of(ask.attachments);
  handle(core::CallSubmitted{.call = id,
                             .function = ask.function,
                             .session = ask.session,
                             .affinity = ask.affinity,
                             .open = ask.open,
                             .fence = ask.expect_epoch,
                             .deadline = ask.deadline,
                             .priority = ask.priority,
                             .idempotent = ask.idempotent,
                             .stream = mine.item != nullptr,
                             .idempotency_key = ask.idempotency_key,
                             .fingerprint = fingerprint(ask),
                             .payload_bytes = ask.payload.size(),
                             .attachment_bytes = core::bytes_of(ask.attachments),
                             .attachment_fault = fault,
                             .batch_key = ask.batch_key,
                             .attachment_kinds = core::kinds_of(ask.attachments),
                             .parent = CallId{ask.parent}});
  return id;
}

// The worker hears how the call ended in a step of its own.
void Simulation::make_nested(Said& said) {
  said.nested.parent = said.call.value;
  ClientCall& nested =
      calls_.add(std::move(said.nested), nullptr,
                 [this, worker = said.worker, parent = said.call](Outcome&& outcome) {
                   at(now_, [this, worker, parent, outcome = std::move(outcome)] {
                     crew_.nested_ended(now_, worker, parent, outcome);
                   });
                 });
  nested.nested = true;
  enter(nested);
}

CallId Simulation::stream(Call call, OnItem item, OnOutcome done) {
  return submit(std::move(call), std::move(done), std::make_shared<OnItem>(std::move(item)));
}

void Simulation::grant(CallId call, std::uint32_t items) {
  ClientCall* stream = calls_.find(call);
  if (stream == nullptr || stream->item == nullptr) return;
  stream->granted += std::min(items, UINT32_MAX - stream->granted);
  crew_.grant(now_, stream->worker, call, items);
  handle(core::StreamGranted{call, items});
}

bool Simulation::cancel(CallId call) {
  const ClientCall* mine = calls_.find(call);
  if (mine == nullptr || mine->told) return false;
  handle(core::CallCancelled{call});
  return true;
}

void Simulation::configure(const Settings& settings) {
  crew_.set_result_max(settings.calls.payload_max.count);
  crew_.set_loop_lag_warn(settings.workers.loop_lag_warn);
  handle(core::ConfigChanged{settings});
}

bool Simulation::apply(const core::Event& event) {
  if (!pool_.knows(now_, event)) return false;
  handle(event);
  return true;
}

void Simulation::reload(std::move_only_function<void(std::string)> done) {
  const Duration takes = model().start.sample(crew_.prng());
  at(now_ + takes, [this, done = std::move(done)]() mutable {
    if (model().start_failure > 0 && crew_.prng().chance(model().start_failure)) {
      calls_.deliver_later([done = std::move(done)]() mutable {
        done("the new code failed in setup: the model's worker_setup raised");
      });
      return;
    }
    announce();
    waiting_for_reload_.push_back(std::move(done));
    handle(core::ReloadRequested{});
  });
}

void Simulation::drain(Duration limit, Hook done) {
  if (drained_) {
    calls_.deliver_later(std::move(done));
    return;
  }
  waiting_for_drain_.push_back(std::move(done));
  handle(core::DrainRequested{limit});
}

std::optional<Time> Simulation::next_due() const {
  const auto due = schedule_.next();
  const auto deadline = pool_.next_deadline();
  if (!due || !deadline) return due ? due : deadline;
  return std::min(*due, *deadline);
}

bool Simulation::step() {
  const auto due = schedule_.next();
  const auto deadline = pool_.next_deadline();
  if (!due && !deadline) return false;
  if (deadline && (!due || *deadline < *due)) {
    if (*deadline > now_) ticks_in_place_ = 0;
    CHECK(++ticks_in_place_ < kTicksInPlaceMax);
    now_ = std::max(now_, *deadline);
    handle(core::Tick{});
    return true;
  }
  const Due next = schedule_.pop();
  if (next.at > now_) ticks_in_place_ = 0;
  now_ = std::max(now_, next.at);
  if (next.kind == Due::Kind::kHook) {
    const auto it = hooks_.find(next.token);
    Hook hook = std::move(it->second);
    hooks_.erase(it);
    hook();
  } else {
    hear(crew_.fire(next));
  }
  return true;
}

void Simulation::step_until(Time until) {
  while (true) {
    const auto due = next_due();
    if (!due || *due > until) break;
    step();
  }
  now_ = std::max(now_, until);
}

void Simulation::run_until(Time until) {
  deliver();
  while (true) {
    const auto next = next_due();
    if (!next || *next > until) break;
    step();
    deliver();
  }
  now_ = std::max(now_, until);
}

bool Simulation::run_while_not(const std::function<bool()>& done, Time limit) {
  deliver();
  while (!done()) {
    const auto next = next_due();
    if (!next || *next > limit) {
      now_ = std::max(now_, limit);
      return done();
    }
    step();
    deliver();
  }
  return true;
}

void Simulation::at(Time when, Hook hook) {
  hooks_.emplace(++last_hook_, std::move(hook));
  schedule_.add(std::max(when, now_), Due::Kind::kHook, 0, last_hook_);
}

bool Simulation::kill(std::uint32_t slot, bool blameless) {
  const WorkerId worker = crew_.newest(slot);
  if (!worker) return false;
  if (blameless) handle(core::DeathOrdered{worker});
  crew_.kill(now_, worker, /*ours=*/false);
  return true;
}

bool Simulation::freeze(std::uint32_t slot, Duration spell) {
  const WorkerId worker = crew_.newest(slot);
  if (worker) crew_.freeze(now_, worker, spell);
  return static_cast<bool>(worker);
}

void Simulation::handle(const core::Event& event) {
  CHECK(!handling_);
  handling_ = true;
  trace_.add(now_, event);
  if (on_event_) on_event_(now_, event);
  actions_.clear();
  pool_.handle(now_, event, actions_);
  ++events_;
  for (core::Action& action : actions_) {
    trace_.add(action);
    if (on_action_) on_action_(now_, action);
    perform(action);
  }
  handling_ = false;
  if (check_invariants_) pool_.check_invariants();
}

void Simulation::perform(core::Action& action) {
  std::visit(Overloaded{
                 [this](core::Dispatch& a) { dispatch(a); },
                 [this](core::SaveSession& a) { save(a); },
                 [this](core::CheckWorker& a) {
                   at(now_ + model().overhead,
                      [this, a] { handle(core::WorkerChecked{.worker = a.worker}); });
                 },
                 [this](core::KeepSnapshot& a) { keep(a); },
                 [this](core::DropSnapshot& a) { drop(a); },
                 [this](core::Resolve& a) { calls_.resolve(now_, a); },
                 [this](core::TellCaller& a) { calls_.tell(a); },
                 [this](core::ReplayOutcome& a) { calls_.replay(a); },
                 [this](core::ForgetOutcome& a) { calls_.forget(a.call); },
                 [this](core::CancelCall& a) {
                   crew_.cancel(now_, a.worker, a.call);
                   const ClientCall* mine = calls_.find(a.call);
                   if (mine != nullptr && !mine->alone) crew_.ping_loop(now_, a.worker);
                 },
                 [this](core::InterruptCall& a) { crew_.interrupt(now_, a.worker, a.call); },
                 [this](core::DumpWorker& a) {
                   ClientCall* mine = calls_.find(a.call);
                   if (mine != nullptr) mine->dump = crew_.dump(now_, a.worker, a.call);
                 },
                 [this](core::KillWorker& a) { crew_.kill(now_, a.worker, /*ours=*/true); },
                 [this](core::StartWorker& a) { crew_.start(now_, a.worker); },
                 [this](core::StopWorker& a) { crew_.stop(now_, a.worker); },
                 [](core::AbandonWorker&) {},  // its exit, late as it is, still comes
                 [](core::SessionGone&) {},    // nobody else knows its sessions
                 [this](core::EndSession& a) { crew_.end_session(a.worker, a.session, a.birth); },
                 [this](core::Drained&) {
                   drained_ = true;
                   for (Hook& hook : std::exchange(waiting_for_drain_, {})) {
                     calls_.deliver_later(std::move(hook));
                   }
                 },
                 [this](core::Reloaded& a) {
                   for (auto& done : std::exchange(waiting_for_reload_, {})) {
                     calls_.deliver_later(
                         [done = std::move(done), error = a.error]() mutable { done(error); });
                   }
                 },
                 [this](core::Notice& a) { note(a); },
             },
             action);
}

void Simulation::dispatch(core::Dispatch& dispatch) {
  ClientCall* mine = calls_.find(dispatch.call);
  CHECK(mine != nullptr);  // a call is dispatched before its Resolve only
  mine->worker = dispatch.worker;
  mine->alone = dispatch.alone || dispatch.batch.size > 0;
  mine->answer.clear();
  const SessionState* restored = nullptr;
  if (dispatch.session && dispatch.session->restore != 0) {
    restored = &shelf_.restored(*dispatch.session);
    if (model().store_failure > 0 && crew_.prng().chance(model().store_failure)) {
      shelf_.drop(dispatch.session->birth);
      return at(now_, [this, worker = dispatch.worker, call = dispatch.call] {
        handle(core::RestoreFailed{worker, call, true});
      });
    }
  }
  crew_.dispatch(now_, dispatch, mine->call, mine->item != nullptr, restored);
  crew_.grant(now_, dispatch.worker, dispatch.call, mine->granted);
}

void Simulation::save(core::SaveSession& save) {
  at(now_ + model().overhead, [this, save] {
    const auto state = crew_.state_of(save.worker, save.session);
    if (!state) return;  // its exit says so
    const bool taken = !state->spoilt && state->birth == save.birth;
    if (taken) shelf_.park(save.birth, *state);
    handle(core::SessionSaved{save.worker, save.session, save.birth, taken,
                              taken ? "" : "the model's state is spoilt"});
    shelf_.unpark(save.birth);
  });
}

void Simulation::keep(core::KeepSnapshot& keep) {
  const SessionState& state = shelf_.parked(keep.birth);
  at(shelf_.done_at(now_, model().store.sample(crew_.prng())), [this, keep, state] {
    const bool failed = model().store_failure > 0 && crew_.prng().chance(model().store_failure);
    handle(shelf_.keep(keep, state, failed));
  });
}

void Simulation::drop(core::DropSnapshot& drop) {
  at(shelf_.done_at(now_, model().store.sample(crew_.prng())), [this, drop] {
    shelf_.drop(drop.birth);
    if (drop.number == 0) return;
    handle(core::SnapshotSettled{
        .call = drop.call, .session = drop.session, .birth = drop.birth, .number = drop.number});
  });
}

void Simulation::note(core::Notice& notice) {
  if (notice.stack_of) {
    const std::string stack = crew_.loop_stack(now_, notice.stack_of);
    if (!stack.empty()) notice.text += "\n" + stack;
  }
  if (notices_.size() == kNoticesKept) notices_.pop_front();
  notices_.push_back(notice);
}

void Simulation::announce() {
  announced_ = true;
  crew_.reload();
  handle(core::FunctionsAnnounced{crew_.application().functions()});
}

void Simulation::hear(Said said) {
  switch (said.kind) {
    case Said::Kind::kNothing:
      return;
    case Said::Kind::kReady:
      if (!announced_) announce();
      handle(core::WorkerReady{said.worker});
      return;
    case Said::Kind::kItem:
      calls_.item(said.call, std::move(said.payload));
      handle(core::StreamMoved{said.worker, said.call});
      return;
    case Said::Kind::kNested:
      make_nested(said);
      return;
    case Said::Kind::kReplied: {
      const std::uint64_t bytes = said.payload.size() + core::bytes_of(said.attachments) +
                                  said.python.message.size() + said.python.type.size() +
                                  said.python.traceback.size() + said.python.errors.size();
      calls_.answered(said);
      const std::uint64_t birth = said.state.birth;
      if (said.snapshot == core::Snapshot::kTaken) shelf_.park(birth, said.state);
      handle(core::WorkerReplied{said.worker, said.call, said.reply, said.clean, said.interrupted,
                                 bytes, said.snapshot, "the model's state is spoilt"});
      shelf_.unpark(birth);
      return;
    }
    case Said::Kind::kExited:
      handle(core::WorkerExited{said.worker, std::move(said.death), std::move(said.started),
                                said.culprit});
      return;
    case Said::Kind::kTurned:
      handle(core::LoopTurned{said.worker});
      return;
    case Said::Kind::kBlocked:
      loop_lag_.observe(said.lag);
      handle(core::LoopBlocked{said.worker, said.call, said.since, said.lag});
      return;
  }
}

}  // namespace keelback::sim
