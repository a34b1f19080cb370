#include "sim/trace.h"

#include <bit>
#include <cstring>
#include <type_traits>

#include "base/hash.h"

namespace keelback::sim {
namespace {

// Adds fields one by one; strings with their length, optionals with their presence.
class Fields {
 public:
  explicit Fields(TraceHash& hash) : hash_(hash) {}

  template <class... T>
  void operator()(const T&... fields) {
    (one(fields), ...);
  }

 private:
  void one(std::string_view text) { hash_.mix(text); }
  void one(Time time) { hash_.mix(static_cast<std::uint64_t>(time.time_since_epoch().count())); }
  void one(Duration duration) { hash_.mix(static_cast<std::uint64_t>(duration.count())); }
  void one(WorkerId worker) { hash_.mix(std::uint64_t{worker.slot} << 32 | worker.generation); }
  void one(CallId call) { hash_.mix(call.value); }
  void one(const Fence& fence) { (*this)(fence.birth, fence.epoch); }
  void one(const Death& d) {
    (*this)(std::string_view(d.cause), d.signal, d.exit_code, d.oom_suspected,
            std::string_view(d.step), std::string_view(d.detail));
  }
  void one(const core::SessionTicket& t) {
    (*this)(std::string_view(t.id), t.birth, t.epoch, t.opens, t.saves, t.restore);
  }
  template <class T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>)
  void one(T word) {
    hash_.mix(static_cast<std::uint64_t>(word));
  }
  template <class T>
  void one(const std::optional<T>& field) {
    hash_.mix(field ? 1 : 0);
    if (field) one(*field);
  }

  TraceHash& hash_;
};

struct EventFields {
  Fields& f;
  void operator()(const core::CallSubmitted& e) {
    f(e.call, e.function, e.session, e.affinity, e.open, e.fence, e.deadline, e.priority,
      e.idempotent, e.stream, e.idempotency_key, e.fingerprint, e.payload_bytes, e.attachment_bytes,
      e.attachment_fault, e.batch_key, e.attachment_kinds);
  }
  void operator()(const core::CallCancelled& e) { f(e.call); }
  void operator()(const core::StartModeChanged& e) { f(e.exec, e.exec_concurrency); }
  void operator()(const core::FunctionsAnnounced& e) {
    for (const auto& spec : e.functions) {
      f(std::string_view(spec.name), spec.idempotent, spec.stream, spec.timeout, spec.max_workers,
        spec.concurrency, spec.interruptible, spec.batch, spec.batch_wait);
    }
  }
  void operator()(const core::WorkerReady& e) { f(e.worker); }
  void operator()(const core::WorkerReplied& e) {
    f(e.worker, e.call, e.kind, e.clean, e.interrupted, e.result_bytes, e.snapshot);
  }
  void operator()(const core::WorkerChecked& e) { f(e.worker, e.healthy, e.over, e.reason); }
  void operator()(const core::SessionSaved& e) { f(e.worker, e.session, e.birth, e.taken); }
  void operator()(const core::SnapshotSettled& e) {
    f(e.worker, e.call, std::string_view(e.session), e.birth, e.number, e.kept, e.failed);
  }
  void operator()(const core::RestoreFailed& e) { f(e.worker, e.call, e.gone); }
  void operator()(const core::SessionsFound& e) {
    for (const auto& found : e.sessions) f(std::string_view(found.id), found.birth, found.number);
    for (const std::string& id : e.lost) f(std::string_view(id));
  }
  void operator()(const core::StreamMoved& e) { f(e.worker, e.call); }
  void operator()(const core::StreamGranted& e) { f(e.call, e.items); }
  void operator()(const core::WorkerExited& e) {
    f(e.worker, e.death, e.culprit);
    for (const core::StartedCall& each : e.started) f(each.call, each.fingerprint);
  }
  // The settings a run was given are part of its plan; the sizes that steer it suffice here.
  void operator()(const core::ConfigChanged& e) {
    f(e.settings.pool.workers, e.settings.pool.queue_max, e.settings.sessions.idle_ttl,
      e.settings.sessions.max_age, e.settings.calls.deadline);
  }
  void operator()(const core::SessionEnded& e) { f(e.session); }
  void operator()(const core::SessionTaken& e) { f(e.session, e.birth); }
  void operator()(const core::DeathOrdered& e) { f(e.worker); }
  void operator()(const core::LoopTurned& e) { f(e.worker); }
  void operator()(const core::LoopBlocked& e) { f(e.worker, e.by, e.since, e.lag); }
  void operator()(const core::QuarantineReleased& e) { f(e.fingerprint); }
  void operator()(const core::RecycleRequested& e) { f(e.slot); }
  void operator()(const core::ReloadRequested&) {}
  void operator()(const core::DrainRequested& e) { f(e.limit); }
  void operator()(const core::Tick&) {}
  void operator()(const core::LoadFailed& e) { f(e.death); }
};

struct ActionFields {
  Fields& f;
  void operator()(const core::Dispatch& a) {
    f(a.worker, a.call, a.attempt, a.alone, a.batch.size, a.batch.index, a.deadline, a.session);
  }
  void operator()(const core::Resolve& a) {
    f(a.call, a.kind, a.effect, a.worker, a.attempts, a.birth, a.epoch, a.queued, a.ran,
      a.retry_after, std::string_view(a.message), a.death, a.retain);
  }
  void operator()(const core::TellCaller& a) { (*this)(a.answer); }
  void operator()(const core::ReplayOutcome& a) { f(a.call, a.of, a.kind, a.effect); }
  void operator()(const core::ForgetOutcome& a) { f(a.call); }
  void operator()(const core::CancelCall& a) { f(a.worker, a.call, a.dispatched); }
  void operator()(const core::InterruptCall& a) { f(a.worker, a.call); }
  void operator()(const core::DumpWorker& a) { f(a.worker, a.call); }
  void operator()(const core::KillWorker& a) { f(a.worker); }
  void operator()(const core::StartWorker& a) { f(a.worker); }
  void operator()(const core::StopWorker& a) { f(a.worker); }
  void operator()(const core::AbandonWorker& a) { f(a.worker); }
  void operator()(const core::EndSession& a) {
    f(a.worker, std::string_view(a.session), a.birth, a.reason);
  }
  void operator()(const core::SessionGone& a) { f(std::string_view(a.session), a.birth, a.how); }
  void operator()(const core::SaveSession& a) {
    f(a.worker, std::string_view(a.session), a.birth, a.epoch);
  }
  void operator()(const core::KeepSnapshot& a) {
    f(a.worker, a.call, std::string_view(a.session), a.birth, a.epoch, a.number, a.mode, a.age);
  }
  void operator()(const core::DropSnapshot& a) {
    f(a.call, std::string_view(a.session), a.birth, a.number);
  }
  void operator()(const core::CheckWorker& a) { f(a.worker); }
  void operator()(const core::Drained&) {}
  void operator()(const core::Reloaded& a) { f(std::string_view(a.error)); }
  void operator()(const core::Notice& a) { f(a.level, std::string_view(a.text)); }
};

}  // namespace

void TraceHash::mix(std::uint64_t word) {
  state_ = std::rotl(state_, 29) ^ multiply_and_fold(state_ ^ word, 0xd6e8feb86659fd93ULL);
}

void TraceHash::mix(std::string_view text) {
  mix(text.size());
  while (!text.empty()) {
    std::uint64_t word = 0;
    const std::size_t take = text.size() < 8 ? text.size() : 8;
    std::memcpy(&word, text.data(), take);
    mix(word);
    text.remove_prefix(take);
  }
}

void TraceHash::add(Time now, const core::Event& event) {
  mix(static_cast<std::uint64_t>(now.time_since_epoch().count()));
  mix(0x100 + event.index());
  Fields fields(*this);
  std::visit(EventFields{fields}, event);
}

void TraceHash::add(const core::Action& action) {
  mix(0x200 + action.index());
  Fields fields(*this);
  std::visit(ActionFields{fields}, action);
}

}  // namespace keelback::sim
