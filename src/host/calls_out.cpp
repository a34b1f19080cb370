#include "host/calls_out.h"

#include <fmt/format.h>

#include "base/json_text.h"
#include "host/engine.h"
#include "host/outcome_json.h"

namespace keelback::host {
namespace {

// The name under which nested calls of sessions are asked for. No function has it.
constexpr const char* kSessionCalls = "\n";

}  // namespace

// ---- functions of the application

void CallsOut::route_sessions(std::shared_ptr<Provider> provider) {
  static_cast<void>(provide({kSessionCalls}, std::move(provider)));
  routes_sessions_.store(true, std::memory_order_release);
}

void CallsOut::prepare(const CrewWorker& worker, CallId parent, WorkerAsk& ask) {
  if (ask.target != wire::NestedTarget::kFunction) return;
  if (!ask.call.session.empty() && routes_sessions_.load(std::memory_order_acquire)) return;
  ask.call.parent = parent.value;
  ask.record = std::make_unique<CallRecord>(engine_.next_call(), std::move(ask.call));
  ask.record->done = [this, asker = Asker{worker.id, parent, ask.request}](Outcome&& outcome) {
    child_ended(asker, std::move(outcome));
  };
  host::prepare(*ask.record);
}

void CallsOut::take(const CrewWorker& worker, CallId parent, WorkerAsk& ask, CallRecord* self,
                    Effects& effects) {
  const Asker asker{worker.id, parent, ask.request};
  const CallRecord* caller = engine_.calls().find(parent);
  if (ask.record == nullptr) return ask_host(asker, ask, caller, effects);
  if (caller != nullptr) ask.record->call.traceparent = caller->call.traceparent;
  CallRecord& record = *ask.record.release();  // the call table's, until its Completion
  children_[{parent, ask.request}] = record.id;
  engine_.calls().table().insert(record);
  engine_.step(event_of(record), self, effects);
}

void CallsOut::child_ended(const Asker& asker, Outcome&& outcome) {
  HostReply reply = reply_of(std::move(outcome));
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    children_.erase({asker.call, asker.request});
    engine_.crew().tell_outcome(asker, reply.ok, std::move(reply.ok ? reply.result : reply.outcome),
                                effects);
  }
  engine_.perform(effects);
}

// ---- functions that the program provides

void CallsOut::ask_host(const Asker& asker, WorkerAsk& ask, const CallRecord* parent,
                        Effects& effects) {
  if (parent == nullptr || parent->told || parent->stopping) {
    return refuse(asker, "cancelled", "The call that asks is to stop.", effects);
  }
  const std::uint64_t bytes_max = engine_.calls().payload_max();
  if (ask.call.payload.size() > bytes_max) {
    return refuse(asker, "too_large",
                  fmt::format("The arguments have {} bytes; calls.payload_max allows {}.",
                              ask.call.payload.size(), bytes_max),
                  effects);
  }
  const bool nested = ask.target == wire::NestedTarget::kFunction;
  const std::string name = nested ? kSessionCalls : ask.call.function;
  HostRequest request;
  request.name = name;
  if (nested) request.function = std::move(ask.call.function);
  request.into = std::move(ask.call.session);
  request.arguments = std::move(ask.call.payload);
  request.call = asker.call;
  request.session = parent->call.session;
  request.deadline = parent->deadline;
  const Time now = Engine::now();
  if (ask.call.deadline && *ask.call.deadline < request.deadline - now) {
    request.deadline = now + *ask.call.deadline;
  }
  request.traceparent = parent->call.traceparent;
  auto news = providers_.ask(asker, std::move(request));
  if (news) return effects.news.push_back(std::move(*news));
  if (news.error() == Providers::Refusal::kTooMany) {
    return refuse(asker, "overloaded", "Too many requests for host functions are open.", effects);
  }
  refuse(asker, "host_gone", fmt::format("Nobody provides \"{}\".", name), effects);
}

void CallsOut::refuse(const Asker& asker, std::string_view outcome, std::string_view message,
                      Effects& effects) {
  engine_.crew().tell_outcome(asker, false, outcome_json(outcome, Effect::kNone, message), effects);
}

ProviderId CallsOut::provide(const std::vector<std::string>& names,
                             std::shared_ptr<Provider> provider) {
  const Locked locked(engine_.lock);
  return providers_.add(names, std::move(provider));
}

void CallsOut::withdraw(ProviderId provider) {
  std::shared_ptr<Provider> removed;  // ends after the lock
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    std::vector<Asker> askers;
    removed = providers_.remove(provider, askers);
    for (const Asker& asker : askers) {
      engine_.crew().tell_outcome(asker, false,
                                  outcome_json("host_gone", Effect::kMaybe,
                                               "Its provider went away before it had answered."),
                                  effects);
    }
  }
  engine_.perform(effects);
}

bool CallsOut::answer(std::uint64_t request, HostReply reply) {
  const auto fail = [&reply](std::string type, std::string message) {
    reply = {.ok = false, .error_type = std::move(type), .error_message = std::move(message)};
  };
  if (reply.ok && !is_json(reply.result)) fail("ValueError", "The host function gave no JSON.");
  Effects& effects = effects_of_thread();
  bool waited = false;
  {
    const Locked locked(engine_.lock);
    const std::uint64_t bytes_max = engine_.calls().payload_max();
    if (reply.ok && reply.result.size() > bytes_max) {
      fail("keelback.ResultTooLarge",
           fmt::format("the result has {} bytes; calls.payload_max allows {}", reply.result.size(),
                       bytes_max));
    }
    const std::optional<Asker> asker = providers_.take(request);
    waited = asker.has_value();
    if (waited) {
      engine_.crew().tell_outcome(
          *asker, reply.ok, reply.ok ? std::move(reply.result) : outcome_json(reply), effects);
    }
  }
  engine_.perform(effects);
  return waited;
}

// ---- ends

void CallsOut::cancel(const CrewWorker& worker, CallId parent, std::uint64_t request,
                      CallRecord* self, Effects& effects) {
  const Asker asker{worker.id, parent, request};
  if (const auto child = children_.find({parent, request}); child != children_.end()) {
    const CallRecord* record = engine_.calls().find(child->second);
    if (record == nullptr || record->told) return;
    return engine_.step(core::CallCancelled{record->id}, self, effects);
  }
  auto news = providers_.cancel(asker);
  if (!news) return;  // it has ended
  effects.news.push_back(std::move(*news));
  engine_.crew().tell_outcome(
      asker, false, outcome_json("cancelled", Effect::kMaybe, "Nobody waits for it."), effects);
}

void CallsOut::stops(CallId parent, Effects& effects) {
  if (CallRecord* record = engine_.calls().find(parent)) record->stopping = true;
  if (providers_.open() == 0) return;
  for (const Asker& asker : providers_.cancel_call(parent, effects.news)) {
    engine_.crew().tell_outcome(
        asker, false, outcome_json("cancelled", Effect::kMaybe, "The call that asks is to stop."),
        effects);
  }
}

}  // namespace keelback::host
