#include "core/admission.h"

#include <fmt/format.h>

#include <limits>
#include <string>
#include <utility>

#include "base/check.h"
#include "core/calls.h"
#include "core/keys.h"
#include "core/nesting.h"
#include "core/readiness.h"
#include "core/runs.h"
#include "core/sessions.h"
#include "core/waiting.h"
#include "core/wording.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

constexpr std::size_t kNameMax = 256;  // bytes of a session id, a function name, a key

bool known_function(const Function* function) { return function && function->known; }

}  // namespace

void Admission::on(const CallSubmitted& event) {
  if (UNEXPECTED(!event.call || calls_.find(event.call))) return;
  ++frame_.counters.accepted;
  runs_.note_call();
  Function* function = nullptr;
  Session* session = nullptr;
  std::optional<Ending> refusal = check_request(event, function);
  if (!refusal && event.parent) refusal = nesting_.check(event);
  if (!refusal && !function) function = &calls_.functions().trust(event.function);
  if (!refusal && !keys_.check(event, *function, refusal) && !refusal) return;
  if (!refusal) refusal = check_function(event, *function);
  if (!refusal && !event.session.empty()) refusal = check_session(event, *function, session);
  if (!refusal) refusal = check_queue(event, *function, session);
  if (refusal) {
    if (function) {  // a name taken on trust stays only while a call of it waits
      calls_.functions().acquire(*function);
      calls_.functions().release(*function);
    }
    return refuse(event, std::move(*refusal));
  }
  accept(event, *function, session);
}

std::optional<Ending> Admission::check_request(const CallSubmitted& event, Function*& function) {
  using enum OutcomeKind;
  // What a call that runs waits for is part of it.
  if (frame_.draining() && !(event.parent && frame_.phase == Phase::kDraining)) {
    return Ending{kShuttingDown, "The pool is shutting down and takes no new calls."};
  }
  if (event.session.size() > kNameMax || event.function.size() > kNameMax ||
      event.idempotency_key.size() > kNameMax || event.batch_key.size() > kNameMax) {
    return Ending{kBadRequest,
                  "Session ids, function names, idempotency keys and batch keys have at most 256 "
                  "bytes."};
  }
  if (event.payload_bytes > frame_.settings.calls.payload_max.count) {
    return Ending{kTooLarge,
                  fmt::format("The arguments have {} bytes; calls.payload_max allows {}.",
                              event.payload_bytes, frame_.settings.calls.payload_max.count)};
  }
  if (event.attachment_bytes > 0 || !event.attachment_fault.empty()) {
    if (auto refusal = check_attachments(event)) return refusal;
  }
  function = calls_.functions().find(event.function);
  if (calls_.functions().announced() && !known_function(function)) {
    function = nullptr;
    return Ending{kUnknownFunction,
                  fmt::format("The application has no function \"{}\".", event.function)};
  }
  return std::nullopt;
}

std::optional<Ending> Admission::check_attachments(const CallSubmitted& event) {
  using enum OutcomeKind;
  if (!event.attachment_fault.empty()) {
    return Ending{kBadRequest, std::string(event.attachment_fault)};
  }
  const auto& [max, budget, keep] = frame_.settings.attachments;
  switch (calls_.carried().judge(event.attachment_bytes, {max.count, budget.count})) {
    case CarriedBytes::Verdict::kFits:
      break;
    case CarriedBytes::Verdict::kTooLarge:
      return Ending{kTooLarge,
                    fmt::format("The attachments have {} bytes; attachments.max allows {}, "
                                "attachments.budget {}.",
                                event.attachment_bytes, max.count, budget.count)};
    case CarriedBytes::Verdict::kFull:
      return Ending{kOverloaded,
                    fmt::format("Unfinished calls carry {} bytes of attachments, {} more are over "
                                "attachments.budget ({}).",
                                calls_.carried().total(), event.attachment_bytes, budget.count),
                    waiting_.retry_after()};
  }
  return std::nullopt;
}

std::optional<Ending> Admission::check_function(const CallSubmitted& event, Function& function) {
  using enum OutcomeKind;
  if (readiness_.not_ready()) return readiness_.refusal();
  const Quarantine::Limits held = frame_.quarantine_limits();
  if (quarantine_.holds(frame_.now, event.fingerprint, held)) {
    return Ending{kQuarantined, held_back(held.deaths, quarantine_.remaining(
                                                           frame_.now, event.fingerprint, held))};
  }
  if (const auto wait = function.breaker.refusal(frame_.now, frame_.breaker_limits())) {
    return Ending{
        kCircuitOpen,
        fmt::format("Function \"{}\" failed too often; its circuit is open.", function.spec.name),
        wait};
  }
  return std::nullopt;
}

std::optional<Ending> Admission::check_session(const CallSubmitted& event, Function& function,
                                               Session*& session) {
  using enum OutcomeKind;
  if (function.batches()) return Ending{kBadRequest, no_session_of_batch(function.spec.name)};
  session = sessions_.find_live(event.session);
  if (session) return check_live_session(event, function, *session);

  if (event.parent && event.birth == 0 && !frame_.settings.cluster.store.empty()) {
    return Ending{kNotReady,
                  fmt::format("Session \"{}\" is not open at this node, and a call out of "
                              "Python goes to no other node.",
                              event.session)};
  }
  const bool strict = event.affinity.value_or(frame_.settings.sessions.mode) != Affinity::kHint;
  // Who gives the birth has told what became of an earlier session.
  Tombstone* stone =
      event.birth == 0 ? sessions_.tombstones().find(frame_.now, event.session) : nullptr;
  if (stone) {
    const bool tell = event.open == SessionOpen::kExisting ||
                      (event.open == SessionOpen::kAny && strict && !stone->told);
    if (tell) {
      stone->told = true;
      return Ending{stone->why == SessionOver::kLost ? kSessionLost : kSessionExpired,
                    session_over(stone->why, event.session, stone->limit, stone->death.get()),
                    {},
                    stone->death};
    }
  }
  if (event.open == SessionOpen::kExisting) {
    return Ending{kBadRequest,
                  fmt::format("There is no session \"{}\", and the call asked for an existing one.",
                              event.session)};
  }
  if (event.fence) {
    return Ending{kStaleEpoch, fmt::format("Session \"{}\" is not open, so epoch {} of it is gone.",
                                           event.session, event.fence->epoch)};
  }
  if (sessions_.table().attached() >= frame_.settings.sessions.max) {
    return Ending{
        kSessionLimit,
        fmt::format("All {} sessions (sessions.max) are in use.", frame_.settings.sessions.max),
        waiting_.retry_after()};
  }
  return std::nullopt;
}

// Makes `probe` stand for the newcomer: would it start at once?
void Admission::stand_for(Call& probe, const CallSubmitted& event, Function& function,
                          const Session* session) const {
  probe.function = &function;
  probe.session = const_cast<Session*>(session);
  probe.traits.fenced = event.fence.has_value();
  probe.fingerprint = event.fingerprint;
  probe.rank = event.priority;
  if (event.parent) {
    probe.rank = Priority::kHigh;
    probe.ahead = true;
  }
  probe.stamp = std::numeric_limits<std::uint64_t>::max();
  waiting_.classify(probe);
}

std::optional<Ending> Admission::check_live_session(const CallSubmitted& event, Function& function,
                                                    Session& session) {
  using enum OutcomeKind;
  if (event.open == SessionOpen::kNew) {
    return Ending{kBadRequest,
                  fmt::format("Session \"{}\" is open already, and the call asked for a new one.",
                              event.session)};
  }
  if (event.fence && (event.fence->epoch != session.epoch ||
                      (event.fence->birth != 0 && event.fence->birth != session.birth))) {
    return Ending{kStaleEpoch,
                  fmt::format("Session \"{}\" is at epoch {}, not at the one the call expects.",
                              event.session, session.epoch)};
  }
  const bool in_use = session.lane && !session.lane->empty();
  if (session.mode == Affinity::kStrictFailFast) {
    const Worker* home = session.home ? session.home->owner : nullptr;
    Call probe;
    stand_for(probe, event, function, &session);
    if (in_use || (home && !home->takes(probe))) {
      return Ending{
          kSessionBusy,
          fmt::format("The worker of session \"{}\" is busy (strict_fail_fast).", event.session)};
    }
  }
  if (in_use && waiting_.queue().lane_full(*session.lane)) {
    return Ending{kOverloaded,
                  fmt::format("Session \"{}\" has {} calls waiting (sessions.queue_max; of what "
                              "pool.queue_max leaves, half at most).",
                              event.session, session.lane->waiting.size()),
                  waiting_.queue().retry_after(1)};
  }
  return std::nullopt;
}

std::optional<Ending> Admission::check_queue(const CallSubmitted& event, Function& function,
                                             const Session* session) {
  Call probe;
  stand_for(probe, event, function, session);
  const bool behind = session && session->lane && !session->lane->empty();
  if (!behind && waiting_.would_start(probe)) return std::nullopt;
  const CallQueue& queue = waiting_.queue();
  const auto retry_after = waiting_.retry_after();
  if (queue.full()) {
    return Ending{OutcomeKind::kOverloaded,
                  fmt::format("{} calls are waiting (pool.queue_max).", queue.waiting()),
                  retry_after};
  }
  if (event.parent) return nesting_.check_wait(event, probe);
  const std::uint32_t up = workers_.table().up();
  if (behind || Placement::waits_for(probe) || up == 0) return std::nullopt;
  const Duration delay = queue.delay(frame_.now, event.priority, up);
  if (queue.too_slow(delay, event.priority)) {
    return Ending{
        OutcomeKind::kOverloaded,
        fmt::format("Calls wait {} at the moment (pool.queue_delay_max).", describe(delay)),
        retry_after};
  }
  const Duration limit = calls_.time_limit(function, event.deadline.value_or(Duration::max()));
  if (CallQueue::hopeless(delay, limit)) {
    return Ending{OutcomeKind::kOverloaded,
                  fmt::format("Calls wait {} at the moment, and this one may take {} in all.",
                              describe(delay), describe(limit)),
                  retry_after};
  }
  return std::nullopt;
}

void Admission::refuse(const CallSubmitted& event, Ending&& refusal) {
  ++frame_.counters.outcomes[static_cast<int>(refusal.kind)];
  Resolve resolve;
  resolve.call = event.call;
  resolve.kind = refusal.kind;
  resolve.retry_after = refusal.retry_after;
  resolve.message = std::move(refusal.message);
  resolve.key_reused = refusal.key_reused;
  resolve.reason = refusal.reason;
  if (refusal.death) resolve.death = *refusal.death;
  frame_.emit(std::move(resolve));
}

void Admission::accept(const CallSubmitted& event, Function& function, Session* session) {
  Call& call = calls_.make(event, function);
  waiting_.queue().count_in(call);
  call.probe = function.breaker.enter(frame_.breaker_limits());
  keys_.lead(event, call);
  if (!event.session.empty()) sessions_.enter(event, session, call);
  waiting_.enter(call);
}

}  // namespace keelback::core
