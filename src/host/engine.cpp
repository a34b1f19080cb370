// Events go in and actions are booked, under the lock; then, after it, they are performed.
#include "host/engine.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/overloaded.h"
#include "core/attachment_rules.h"
#include "host/hello.h"
#include "host/snapshot_keeper.h"

namespace keelback::host {

Engine::Engine(EngineConfig config)
    : config_(std::move(config)),
      keeper_(std::make_unique<SnapshotKeeper>(*this)),
      calls_(*this, config_.settings),
      pool_(config_.settings, config_.seed) {}

Engine::~Engine() = default;

void Engine::log(core::Notice::Level level, const std::string& text) {
  switch (level) {
    case core::Notice::Level::kDebug:
      return logger().debug("{}", text);
    case core::Notice::Level::kInfo:
      return logger().info("{}", text);
    case core::Notice::Level::kWarn:
      return logger().warn("{}", text);
    case core::Notice::Level::kError:
      return logger().error("{}", text);
  }
}

// ---- events

void Engine::step(const core::Event& event, CallRecord* self, Effects& effects) {
  effects.actions.clear();
  pool_.handle(now(), event, effects.actions);
  for (core::Action& action : effects.actions) book(action, self, effects);
  if (!owed_.empty()) follow_up(self, effects);
}

void Engine::follow_up(CallRecord* self, Effects& effects) {
  while (!owed_.empty()) {
    const std::vector<core::Event> events = std::exchange(owed_, {});
    for (const core::Event& event : events) {
      effects.actions.clear();
      pool_.handle(now(), event, effects.actions);
      for (core::Action& action : effects.actions) book(action, self, effects);
    }
  }
}

void Engine::settle(Effects& effects) {
  const auto next = pool_.next_deadline();
  if (!next || *next >= timer_at_) return;
  timer_at_ = *next;
  timer_wanted_ = true;
  if (!std::exchange(poked_, true)) effects.poke = true;
}

void Engine::perform(Effects& effects) {
  if (!effects.flush.empty() || !effects.arm.empty()) crew_->perform(effects);
  for (const std::atomic<std::uint32_t>* word : effects.wake) os::futex_wake(word);
  if (effects.poke) post([this] { empty_inbox(); });
  effects.flush.clear();
  effects.arm.clear();
  effects.wake.clear();
  effects.poke = false;
  if (!effects.news.empty()) tell_providers(effects);
}

// A provider may use the driver, and so this thread's effects, while it is told.
void Engine::tell_providers(Effects& effects) {
  std::vector<ProviderNews> news;
  news.swap(effects.news);
  for (ProviderNews& each : news) each.tell();
  news.clear();
  if (effects.news.empty()) effects.news.swap(news);  // its memory
}

void Engine::feed(const core::Event& event) {
  Effects& effects = effects_of_thread();
  {
    const Locked locked(lock);
    step(event, nullptr, effects);
    settle(effects);
  }
  perform(effects);
}

void Engine::begin(CallRecord& record, const core::CallSubmitted& event, Effects& effects) {
  calls_.table().insert(record);
  const auto expected =
      event.session.empty() ? expected_births_.end() : expected_births_.find(event.session);
  if (expected == expected_births_.end()) {
    step(event, &record, effects);
  } else {
    core::CallSubmitted known = event;
    known.birth = expected->second;
    step(known, &record, effects);
    if (pool_.knows(now(), core::SessionEnded{event.session})) expected_births_.erase(expected);
  }
  settle(effects);
}

// ---- actions, under the lock

void Engine::for_loop(InboxItem item, Effects& effects) {
  inbox_.push_back(std::move(item));
  if (!std::exchange(poked_, true)) effects.poke = true;
}

void Engine::book(core::Action& any, CallRecord* self, Effects& effects) {
  // Annotated lambdas: the lock is held throughout.
  std::visit(
      Overloaded{
          [&](core::Dispatch& action) REQUIRES(host_state) { dispatch(action, self, effects); },
          [&](core::Resolve& action)
              REQUIRES(host_state) { calls_.resolve(action, self, effects); },
          [&](core::TellCaller& action)
              REQUIRES(host_state) { calls_.tell(action, self, effects); },
          [&](core::ReplayOutcome& action)
              REQUIRES(host_state) { calls_.replay(action, self, effects); },
          [&](core::ForgetOutcome& action)
              REQUIRES(host_state) { calls_.table().forget(action.call); },
          [&](core::StopWorker& action)
              REQUIRES(host_state) { crew_->stop_worker(action, effects); },
          [&](core::EndSession& action)
              REQUIRES(host_state) { crew_->end_session(action, effects); },
          [&](core::CancelCall& action) REQUIRES(host_state) {
            crew_->mark_cancelled(action);
            calls_out_.stops(action.call, effects);
            for_loop(std::move(any), effects);
          },
          [&](core::SaveSession& action)
              REQUIRES(host_state) { crew_->save_session(action, effects); },
          [&](core::KeepSnapshot& action) REQUIRES(host_state) { keeper_->keep(action, *crew_); },
          [&](core::DropSnapshot& action) REQUIRES(host_state) { keeper_->drop(action); },
          [&](auto&) REQUIRES(host_state) { for_loop(std::move(any), effects); },
      },
      any);
}

void Engine::dispatch(const core::Dispatch& action, CallRecord* self, Effects& effects) {
  CallRecord* record = calls_.find(action.call);
  if (UNEXPECTED(record == nullptr)) return;
  record->answer.clear();
  record->alone = action.alone;
  record->batched = action.batch.size > 0;
  record->stopping = false;
  record->dump_asked = false;
  record->dump_note.clear();
  record->deadline = action.deadline;
  crew_->dispatch(action, *record, self, effects);
}

// ---- what the crew reports

void Engine::answered(Reply& reply, CallRecord* self, Effects& effects) {
  calls_out_.ended(reply.call, effects);
  const std::uint64_t held_bytes = calls_.take_answer(reply);
  step(core::WorkerReplied{reply.worker, reply.call, reply.answer.kind, reply.clean,
                           reply.interrupted, held_bytes, reply.snapshot, reply.snapshot_error,
                           reply.retire_reason, reply.started},
       self, effects);
}

bool Engine::item(WorkerId worker, CallId call, std::string&& bytes, CallRecord* self,
                  Effects& effects) {
  CallRecord* record = calls_.find(call);
  if (record == nullptr) return true;  // its outcome was due before
  if (!record->streaming) return false;
  if (record->told) return true;
  for_loop(Item{record, std::move(bytes)}, effects);
  step(core::StreamMoved{worker, call}, self, effects);
  return true;
}

void Engine::hear_later(CrewNews news, Effects& effects) { for_loop(std::move(news), effects); }

void Engine::announce(const std::string& hello_json) {
  auto application = parse_application(hello_json);
  if (!application) return log(core::Notice::Level::kError, "a HELLO that says nothing");
  const core::FunctionsAnnounced announced = functions_of(*application);
  {
    const Locked locked(lock);
    application_ = std::make_shared<const Application>(std::move(*application));
  }
  feed(announced);
}

std::shared_ptr<const Application> Engine::application() {
  const Locked locked(lock);
  return application_;
}

// ---- operators

void Engine::configure(const Settings& settings) {
  {
    const Locked locked(lock);
    calls_.limit(settings);
    crew_->limit(settings);
  }
  store().set_bytes_max(settings.sessions.store_max.count);
  feed(core::ConfigChanged{settings});
  post([this, settings] { crew_->configure(settings); });
}

void Engine::drain(Duration limit, std::move_only_function<void()> done) {
  post([this, limit, done = std::move(done)]() mutable {
    if (drained_) return done();
    on_drained_.push_back(std::move(done));
    feed(core::DrainRequested{limit});
  });
}

// ---- the loop thread

void Engine::empty_inbox() {
  for (;;) {
    std::vector<InboxItem> batch;
    bool timer_wanted = false;
    {
      const Locked locked(lock);
      batch.swap(inbox_);
      timer_wanted = std::exchange(timer_wanted_, false);
      poked_ = false;
    }
    if (timer_wanted) arm_timer();
    if (batch.empty()) return;
    for (InboxItem& item : batch) {
      std::visit(Overloaded{
                     [&](core::Action& action) { perform_on_loop(action); },
                     [&](Completion& completion) {
                       completion.record->done(std::move(completion.record->outcome));
                     },
                     [&](Item& piece) { piece.record->item(std::move(piece.bytes)); },
                     [&](CrewNews& news) { crew_->heard(news); },
                 },
                 item);
    }
  }
}

void Engine::perform_on_loop(core::Action& any) {
  std::visit(Overloaded{
                 [&](core::Drained&) {
                   drained_ = true;
                   for (auto& done : std::exchange(on_drained_, {})) done();
                 },
                 [&](core::Reloaded& action) { crew_->reloaded(action.error); },
                 [&](core::SessionGone& action) {
                   if (on_session_gone_) on_session_gone_(action);
                 },
                 [&](core::Notice& action) {
                   if (action.stack_of) return crew_->perform(any);
                   log(action.level, action.text);
                 },
                 [&](auto&) { crew_->perform(any); },
             },
             any);
}

void Engine::arm_timer() {
  Time at;
  {
    const Locked locked(lock);
    at = timer_at_;
  }
  timer_.expires_at(std::chrono::steady_clock::time_point(at.time_since_epoch()));
  timer_.async_wait(guard([this](const boost::system::error_code& error) {
    if (error) return;
    {
      const Locked locked(lock);
      timer_at_ = Time::max();  // settle() sets the next one
    }
    feed(core::Tick{});
  }));
}

// ---- the end

// The engine's last turn of the loop. What is booked by now - the last outcomes - is still
// performed.
void Engine::leave_loop() {
  empty_inbox();
  alive_.end();
  timer_.cancel();
}

}  // namespace keelback::host
