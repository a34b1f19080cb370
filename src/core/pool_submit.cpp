// Whether a call comes in. Every check that can refuse stands before the first change of state.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

constexpr std::size_t kNameMax = 256;  // bytes of a session id, a function name, a key

bool known_function(const Function* function) { return function && function->known; }

}  // namespace

void Pool::Impl::on(const CallSubmitted& event) {
  if (UNEXPECTED(!event.call || calls_.contains(event.call.value))) return;
  ++frame_.counters.accepted;
  retry_budget_.count_call(frame_.now);
  Function* function = nullptr;
  Session* session = nullptr;
  std::optional<Refusal> refusal = check_request(event, function);
  if (!refusal && !function) function = &functions_.trust(event.function);
  if (!refusal && !check_key(event, *function, refusal) && !refusal) return;
  if (!refusal) refusal = check_function(event, *function);
  if (!refusal && !event.session.empty()) refusal = check_session(event, session);
  if (!refusal) refusal = check_queue(event, *function, session);
  if (refusal) {
    if (function) {  // a name taken on trust stays only while a call of it waits
      functions_.acquire(*function);
      functions_.release(*function);
    }
    return refuse(event, std::move(*refusal));
  }
  accept(event, *function, session);
}

std::optional<Refusal> Pool::Impl::check_request(const CallSubmitted& event, Function*& function) {
  using enum OutcomeKind;
  if (draining_) {
    return Refusal{kShuttingDown, "The pool is shutting down and takes no new calls.", {}, {}};
  }
  if (event.session.size() > kNameMax || event.function.size() > kNameMax ||
      event.idempotency_key.size() > kNameMax) {
    return Refusal{kBadRequest,
                   "Session ids, function names and idempotency keys have at most 256 bytes.",
                   {},
                   {}};
  }
  if (event.payload_bytes > frame_.settings.calls.payload_max.count) {
    return Refusal{kTooLarge,
                   fmt::format("The arguments have {} bytes; calls.payload_max allows {}.",
                               event.payload_bytes, frame_.settings.calls.payload_max.count),
                   {},
                   {}};
  }
  if (event.attachment_bytes > 0 || !event.attachment_fault.empty()) {
    if (auto refusal = check_attachments(event)) return refusal;
  }
  function = functions_.find(event.function);
  if (functions_.announced() && !known_function(function)) {
    function = nullptr;
    return Refusal{kUnknownFunction,
                   fmt::format("The application has no function \"{}\".", event.function),
                   {},
                   {}};
  }
  return std::nullopt;
}

std::string Pool::Impl::quarantine_words(std::uint64_t fingerprint) const {
  const Quarantine::Limits held = frame_.quarantine_limits();
  return fmt::format(
      "This very request killed {} workers in a row and is quarantined for another {}; release it "
      "or change it.",
      held.deaths, describe(quarantine_.remaining(frame_.now, fingerprint, held)));
}

std::optional<Refusal> Pool::Impl::check_attachments(const CallSubmitted& event) {
  using enum OutcomeKind;
  if (!event.attachment_fault.empty()) {
    return Refusal{kBadRequest, std::string(event.attachment_fault), {}, {}};
  }
  const auto& [max, budget, keep] = frame_.settings.attachments;
  switch (carried_.judge(event.attachment_bytes, {max.count, budget.count})) {
    case CarriedBytes::Verdict::kFits:
      break;
    case CarriedBytes::Verdict::kTooLarge:
      return Refusal{kTooLarge,
                     fmt::format("The attachments have {} bytes; attachments.max allows {}, "
                                 "attachments.budget {}.",
                                 event.attachment_bytes, max.count, budget.count),
                     {},
                     {}};
    case CarriedBytes::Verdict::kFull:
      return Refusal{kOverloaded,
                     fmt::format("Unfinished calls carry {} bytes of attachments, {} more are over "
                                 "attachments.budget ({}).",
                                 carried_.total(), event.attachment_bytes, budget.count),
                     queue_.retry_after(workers_.up()),
                     {}};
  }
  return std::nullopt;
}

std::optional<Refusal> Pool::Impl::check_function(const CallSubmitted& event, Function& function) {
  using enum OutcomeKind;
  if (not_ready_) return not_ready();
  const Quarantine::Limits held = frame_.quarantine_limits();
  if (quarantine_.holds(frame_.now, event.fingerprint, held)) {
    return Refusal{kQuarantined, quarantine_words(event.fingerprint), {}, {}};
  }
  if (const auto wait = function.breaker.refusal(frame_.now, frame_.breaker_limits())) {
    return Refusal{
        kCircuitOpen,
        fmt::format("Function \"{}\" failed too often; its circuit is open.", function.spec.name),
        wait,
        {}};
  }
  return std::nullopt;
}

std::optional<Refusal> Pool::Impl::check_session(const CallSubmitted& event, Session*& session) {
  using enum OutcomeKind;
  session = sessions_.find(event.session);
  if (session) {
    if (const auto verdict = sessions_.judge(*session, frame_.now);
        verdict != SessionTable::Verdict::kLive) {
      end_session(*session, verdict);
      session = nullptr;
    } else if (!session->lane && is_leaving(*session)) {
      move_out(*session);
    }
  }
  if (session) return check_live_session(event, *session);

  const bool strict = event.affinity.value_or(frame_.settings.sessions.mode) != Affinity::kHint;
  if (Tombstone* stone = tombstones_.find(frame_.now, event.session)) {
    const bool tell = event.open == SessionOpen::kExisting ||
                      (event.open == SessionOpen::kAny && strict && !stone->told);
    if (tell) {
      stone->told = true;
      return Refusal{stone->why == SessionOver::kLost ? kSessionLost : kSessionExpired,
                     session_over(stone->why, event.session, stone->limit, stone->death.get()),
                     {},
                     stone->death};
    }
  }
  if (event.open == SessionOpen::kExisting) {
    return Refusal{
        kBadRequest,
        fmt::format("There is no session \"{}\", and the call asked for an existing one.",
                    event.session),
        {},
        {}};
  }
  if (event.fence) {
    return Refusal{kStaleEpoch,
                   fmt::format("Session \"{}\" is not open, so epoch {} of it is gone.",
                               event.session, event.fence->epoch),
                   {},
                   {}};
  }
  if (sessions_.attached() >= frame_.settings.sessions.max) {
    return Refusal{
        kSessionLimit,
        fmt::format("All {} sessions (sessions.max) are in use.", frame_.settings.sessions.max),
        queue_.retry_after(workers_.up()),
        {}};
  }
  return std::nullopt;
}

std::optional<Refusal> Pool::Impl::check_live_session(const CallSubmitted& event,
                                                      Session& session) {
  using enum OutcomeKind;
  if (event.open == SessionOpen::kNew) {
    return Refusal{kBadRequest,
                   fmt::format("Session \"{}\" is open already, and the call asked for a new one.",
                               event.session),
                   {},
                   {}};
  }
  if (event.fence && (event.fence->epoch != session.epoch ||
                      (event.fence->birth != 0 && event.fence->birth != session.birth))) {
    return Refusal{kStaleEpoch,
                   fmt::format("Session \"{}\" is at epoch {}, not at the one the call expects.",
                               event.session, session.epoch),
                   {},
                   {}};
  }
  const bool in_use = session.lane && !session.lane->empty();
  if (session.mode == Affinity::kStrictFailFast) {
    const Worker* home = session.home ? session.home->owner : nullptr;
    if (in_use || (home && !home->free())) {
      return Refusal{
          kSessionBusy,
          fmt::format("The worker of session \"{}\" is busy (strict_fail_fast).", event.session),
          {},
          {}};
    }
  }
  if (in_use && queue_.lane_full(*session.lane)) {
    return Refusal{kOverloaded,
                   fmt::format("Session \"{}\" has {} calls waiting (sessions.queue_max; of what "
                               "pool.queue_max leaves, half at most).",
                               event.session, session.lane->waiting.size()),
                   queue_.retry_after(1),
                   {}};
  }
  return std::nullopt;
}

std::optional<Refusal> Pool::Impl::check_queue(const CallSubmitted& event, Function& function,
                                               const Session* session) {
  Call probe;  // stands for the newcomer: would it start at once?
  probe.session = const_cast<Session*>(session);
  probe.fenced = event.fence.has_value();
  const bool behind = session && session->lane && !session->lane->empty();
  if (!behind && function.has_room() && placement_.choose(probe)) return std::nullopt;
  const auto retry_after = queue_.retry_after(workers_.up());
  if (queue_.full()) {
    return Refusal{OutcomeKind::kOverloaded,
                   fmt::format("{} calls are waiting (pool.queue_max).", queue_.waiting()),
                   retry_after,
                   {}};
  }
  if (behind || Placement::waits_for(probe) || workers_.up() == 0) return std::nullopt;
  const Duration delay = queue_.delay(frame_.now, event.priority, workers_.up());
  if (queue_.too_slow(delay, event.priority)) {
    return Refusal{
        OutcomeKind::kOverloaded,
        fmt::format("Calls wait {} at the moment (pool.queue_delay_max).", describe(delay)),
        retry_after,
        {}};
  }
  const Duration limit = time_limit(function, event.deadline.value_or(Duration::max()));
  if (CallQueue::hopeless(delay, limit)) {
    return Refusal{OutcomeKind::kOverloaded,
                   fmt::format("Calls wait {} at the moment, and this one may take {} in all.",
                               describe(delay), describe(limit)),
                   retry_after,
                   {}};
  }
  return std::nullopt;
}

void Pool::Impl::refuse(const CallSubmitted& event, Refusal&& refusal) {
  ++frame_.counters.outcomes[static_cast<int>(refusal.kind)];
  Resolve resolve;
  resolve.call = event.call;
  resolve.kind = refusal.kind;
  resolve.retry_after = refusal.retry_after;
  resolve.message = std::move(refusal.message);
  resolve.key_reused = refusal.key_reused;
  if (refusal.death) resolve.death = *refusal.death;
  frame_.emit(std::move(resolve));
}

Call& Pool::Impl::make_call(const CallSubmitted& event, Function& function) {
  Call& call = *call_slab_.make();
  call.id = event.call;
  calls_.insert(call);
  call.function = &function;
  functions_.acquire(function);
  call.priority = event.priority;
  call.rank = event.priority;
  call.asked_idempotent = event.idempotent;
  call.idempotent = event.idempotent || function.spec.idempotent;
  call.stream = event.stream;
  call.fenced = event.fence.has_value();
  call.fingerprint = event.fingerprint;
  call.attachment_bytes = event.attachment_bytes;
  carried_.add(call.attachment_bytes);
  call.accepted = frame_.now;
  call.caller_limit = event.deadline.value_or(Duration::max());
  set_deadline(call);
  queue_.count_in(call);
  return call;
}

void Pool::Impl::accept(const CallSubmitted& event, Function& function, Session* session) {
  Call& call = make_call(event, function);
  call.probe = function.breaker.enter(frame_.breaker_limits());
  if (!event.idempotency_key.empty() && frame_.settings.calls.idempotency_ttl > Duration{0}) {
    call.key = &idempotency_.lead(event.idempotency_key, event.fingerprint, call.id);
  }
  if (!event.session.empty()) {
    if (session) {
      sessions_.enter(*session);
    } else {
      tombstones_.remove(event.session);
      session = &sessions_.open(frame_.now, event.session,
                                event.affinity.value_or(frame_.settings.sessions.mode),
                                frame_.prng.next());
      ++frame_.counters.opened;
    }
    call.session = session;
    call.birth = session->birth;
    call.epoch = session->epoch;
    queue_.append(*session->lane, call);
  }
  if (call.deadline <= frame_.now) return end_waiting(call, timeout_ending(call, Effect::kNone));
  frame_.timers.arm(call, call.deadline);
  if (!session) {
    queue_.make_head(call, nullptr, frame_.now);
    place(call);
  } else if (&session->lane->waiting.front() == &call && !session->lane->running) {
    queue_.make_head(call, session->lane, frame_.now);
    place(call);
  }
}

Duration Pool::Impl::time_limit(const Function& function, Duration caller_limit) const {
  const Duration own = function.spec.timeout.value_or(frame_.settings.calls.deadline);
  return std::min({own, caller_limit, frame_.settings.calls.deadline_max});
}

void Pool::Impl::set_deadline(Call& call) {
  const Duration limit = time_limit(*call.function, call.caller_limit);
  call.own_limit = limit == call.function->spec.timeout.value_or(frame_.settings.calls.deadline);
  call.deadline = call.accepted + std::max(limit, Duration{0});
}

}  // namespace keelback::core
