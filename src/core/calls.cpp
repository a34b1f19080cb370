#include "core/calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "core/blocks.h"
#include "core/idempotency.h"
#include "core/keys.h"
#include "core/wording.h"

namespace keelback::core {

void Calls::clear() {
  functions_.each([](Function& function) { function.parked.clear(); });
  index_.each([this](Call& call) { slab_.free(&call); });
}

Call& Calls::make(const CallSubmitted& event, Function& function) {
  Call& call = *slab_.make();
  call.id = event.call;
  index_.insert(call);
  call.function = &function;
  functions_.acquire(function);
  call.priority = event.priority;
  call.rank = event.priority;
  call.traits = {.idempotent = event.idempotent || function.spec.idempotent,
                 .asked_idempotent = event.idempotent,
                 .stream = event.stream,
                 .fenced = event.fence.has_value()};
  call.fingerprint = event.fingerprint;
  call.payload_bytes = event.payload_bytes;
  if (!event.batch_key.empty() || event.attachment_kinds != 0) {
    call.batch_print = seeded_hash(event.batch_key, batch_seed_ ^ event.attachment_kinds);
  }
  call.attachment_bytes = event.attachment_bytes;
  carried_.add(call.attachment_bytes);
  call.accepted = frame_.now;
  call.caller_limit = event.deadline.value_or(Duration::max());
  if (const Call* parent = event.parent ? find(event.parent) : nullptr) {
    call.parent = parent->id;
    call.depth = parent->depth + 1;
    call.latest = parent->deadline;
    call.priority = call.rank = Priority::kHigh;
    family_.add(parent->id, call.id);
  }
  set_deadline(call);
  return call;
}

Duration Calls::time_limit(const Function& function, Duration caller_limit) const {
  const Duration own = function.spec.timeout.value_or(frame_.settings.calls.deadline);
  return std::min({own, caller_limit, frame_.settings.calls.deadline_max});
}

void Calls::set_deadline(Call& call) {
  const Duration limit = time_limit(*call.function, call.caller_limit);
  const Duration own = call.function->spec.timeout.value_or(frame_.settings.calls.deadline);
  call.limit = limit == own ? Call::Limit::kFunction : Call::Limit::kCaller;
  call.deadline = call.accepted + std::max(limit, Duration{0});
  if (call.latest >= call.deadline) return;
  call.deadline = call.latest;
  call.limit = Call::Limit::kCaller;
}

std::vector<CallId> Calls::orphan(const Call& parent) {
  const auto children = family_.children(parent.id);
  std::vector<CallId> orphans(children.begin(), children.end());
  for (const CallId id : orphans) {
    family_.remove(parent.id, id);
    find(id)->parent = CallId{};
  }
  return orphans;
}

void Calls::discard(Call& call) {
  if (call.parent) family_.remove(call.parent, call.id);
  functions_.release(*call.function);
  carried_.remove(call.attachment_bytes);
  index_.erase(call);
  slab_.free(&call);
}

void Calls::resolve(Call& call, Ending&& ending, std::uint64_t reply_bytes) {
  Resolve action = report(call, std::move(ending));
  const OutcomeKind kind = action.kind;
  const Effect effect = action.effect;
  IdempotencyEntry* key = call.key;
  if (key) {
    key->shared = effect == Effect::kNone && !key->followers.empty();
    action.retain = effect != Effect::kNone || key->shared;
  }
  frame_.timers.disarm(call);
  if (call.told) --frame_.counters.late;
  frame_.emit(std::move(action));
  discard(call);
  if (key) keys_.settle(*key, kind, effect, reply_bytes);
}

void Calls::tell(Call& call, Ending&& ending) {
  CHECK(!call.told);
  call.undecided = !call.alone && ending.breaker == Breaker::Result::kFailure;
  TellCaller action{report(call, std::move(ending)), {}};
  if (action.answer.effect == Effect::kMaybe && call.effect_min == Effect::kNone) {
    action.if_never_started = timeout_ending(call, Effect::kNone).message;
  }
  frame_.emit(std::move(action));
  call.told = true;
  ++frame_.counters.late;
}

void Calls::decide(Call& call) {
  call.undecided = false;
  const Breaker::Result result = timeout_ending(call, Effect::kMaybe).breaker;
  call.function->breaker.settle(frame_.now, result, call.probe, frame_.breaker_limits());
}

Resolve Calls::report(Call& call, Ending&& ending) {
  const bool answered = ending.kind == OutcomeKind::kOk || ending.kind == OutcomeKind::kError;
  if (const Lane* lane = call.session ? call.session->lane : nullptr;
      lane && answered && !lane->taken_by.empty()) {
    ending.kind = lane->may_be_kept ? OutcomeKind::kTimeout : OutcomeKind::kSessionLost;
    ending.message = lane->taken_by;
    if (lane->may_be_kept) ending.effect = Effect::kMaybe;
  }
  if (call.effect_min != Effect::kNone && ending.effect == Effect::kNone) {
    ending.effect = Effect::kMaybe;
    // These words promise that nothing ran; an earlier attempt of this call may have.
    if (ending.kind != OutcomeKind::kTimeout && ending.kind != OutcomeKind::kCancelled) {
      ending.kind = OutcomeKind::kWorkerDied;
      ending.death = call.last_death;
    }
  }
  if (!call.told) {
    if (!call.undecided) {
      call.function->breaker.settle(frame_.now, ending.breaker, call.probe,
                                    frame_.breaker_limits());
    }
    ++frame_.counters.outcomes[static_cast<int>(ending.kind)];
  }
  Resolve action;
  action.call = call.id;
  action.kind = ending.kind;
  action.effect = ending.effect;
  action.worker = call.last_worker;
  action.attempts = call.attempts;
  action.birth = call.birth;
  action.epoch = call.epoch;
  action.queued = (call.attempts > 0 ? call.dispatched : frame_.now) - call.accepted;
  action.ran = call.attempts > 0 ? frame_.now - call.dispatched : Duration{0};
  action.retry_after = ending.retry_after;
  action.message = std::move(ending.message);
  action.reason = ending.reason;
  if (ending.death) {
    action.death = *ending.death;
    action.death->role = ending.role;
  }
  return action;
}

Ending Calls::timeout_ending(const Call& call, Effect effect) const {
  Ending ending;
  ending.kind = OutcomeKind::kTimeout;
  ending.effect = effect;
  const std::string limit = describe(call.deadline - call.accepted);
  const Time until = call.alone ? frame_.now : std::min(frame_.now, call.deadline);
  const HeldUp held_up = Blocks::held_up(call, frame_.now);
  if (call.limit == Call::Limit::kSilence) {
    ending.message = fmt::format("The stream sent nothing for calls.stream_idle ({}).",
                                 describe(frame_.settings.calls.stream_idle));
    if (!held_up.at_deadline) ending.breaker = Breaker::Result::kFailure;
  } else if (call.last_worker && call.in<Call::Running>()) {
    ending.message = fmt::format(
        "The deadline ({}) passed {}.", limit,
        effect == Effect::kNone ? "before the call had begun in its worker" : "while the call ran");
    // A caller's tiny deadline, or one that went by in the queue or while another call blocked the
    // worker's event loop, says nothing about the function.
    const Duration own = until - call.dispatched - held_up.time;
    const bool fair = call.limit == Call::Limit::kFunction && !held_up.at_deadline &&
                      own * 2 >= call.deadline - call.accepted;
    ending.breaker = fair ? Breaker::Result::kFailure : Breaker::Result::kNeutral;
  } else {
    ending.message = fmt::format("The deadline ({}) passed while the call waited.", limit);
  }
  return ending;
}

Ending Calls::reply_ending(const Call& call, Call::Reply reply, bool late) const {
  using enum OutcomeKind;
  const ReplyKind kind = reply.kind;
  const bool answered = kind == ReplyKind::kOk || kind == ReplyKind::kError;
  const bool refused =
      kind == ReplyKind::kBadRequest || kind == ReplyKind::kUnknownFunction || !reply.started;
  // A caller who has heard at the deadline hears no more. The key's next caller gets the real
  // answer.
  if (late && (!call.told || kind == ReplyKind::kCancelled)) {
    return timeout_ending(call, refused    ? Effect::kNone
                                : answered ? Effect::kDone
                                           : Effect::kMaybe);
  }
  Ending ending;
  ending.breaker = Breaker::Result::kSuccess;
  switch (kind) {
    case ReplyKind::kOk:
      ending.kind = kOk;
      ending.effect = Effect::kDone;
      break;
    case ReplyKind::kError:
      ending.kind = kError;
      ending.effect = reply.started ? Effect::kDone : Effect::kNone;
      ending.message = fmt::format("Function \"{}\" raised an error.", call.function->spec.name);
      break;
    case ReplyKind::kCancelled:
      ending.kind = kCancelled;
      ending.effect = reply.started ? Effect::kMaybe : Effect::kNone;
      ending.message = fmt::format("The call was cancelled {}.",
                                   reply.started ? "while it ran" : "before it began");
      ending.breaker = Breaker::Result::kNeutral;
      break;
    case ReplyKind::kBadRequest:
      ending.kind = kBadRequest;
      ending.message =
          fmt::format("The arguments do not fit function \"{}\".", call.function->spec.name);
      break;
    case ReplyKind::kUnknownFunction:
      ending.kind = kUnknownFunction;
      ending.message =
          fmt::format("The worker's application has no function \"{}\".", call.function->spec.name);
      ending.breaker = Breaker::Result::kNeutral;
      break;
  }
  return ending;
}

std::vector<CallId> Calls::in_order() const {
  std::vector<CallId> ids;
  ids.reserve(index_.size());
  index_.each([&](const Call& call) { ids.push_back(call.id); });
  std::sort(ids.begin(), ids.end());
  return ids;
}

Call* Calls::find_waiting(CallId id) const {
  Call* call = index_.find(id.value);
  return call && call->waits() ? call : nullptr;
}

}  // namespace keelback::core
