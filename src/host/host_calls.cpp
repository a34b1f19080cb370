// The callers' side: any thread. A blocking caller writes its call, reads its answer, and on the
// way dispatches the next call to the worker it has freed.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/check.h"
#include "core/attachment_rules.h"
#include "host/fingerprint.h"
#include "host/host_impl.h"

namespace keelback::host {
namespace {

// Up to here a payload is copied behind its head and travels in one piece; beyond, it is sent from
// where it lies.
constexpr std::size_t kCopyMax = 16 << 10;
constexpr std::size_t kTraceMax = 512;

core::CallSubmitted event_of(const CallRecord& record) {
  const Call& call = record.call;
  const std::string& payload = record.large_payload ? *record.large_payload : call.payload;
  core::CallSubmitted event;
  event.call = record.id;
  event.function = call.function;
  event.session = call.session;
  event.affinity = call.affinity;
  event.open = call.open;
  event.fence = call.expect_epoch;
  event.deadline = call.deadline;
  event.priority = call.priority;
  event.idempotent = call.idempotent;
  event.stream = record.streaming;
  event.idempotency_key = call.idempotency_key;
  event.fingerprint = record.fingerprint;
  event.payload_bytes = payload.size();
  event.attachment_bytes = record.attachment_bytes;
  event.attachment_fault = record.attachment_fault;
  return event;
}

}  // namespace

void HostImpl::prepare(CallRecord& record) {
  if (record.call.traceparent.size() > kTraceMax) record.call.traceparent.clear();
  record.fingerprint = fingerprint(record.call.function, record.call.session, record.call.payload);
  if (record.call.payload.size() > kCopyMax) {
    record.large_payload = std::make_shared<const std::string>(std::move(record.call.payload));
  }
  if (!record.call.attachments.empty()) prepare_attachments(record);
}

void HostImpl::prepare_attachments(CallRecord& record) {
  const Call& call = record.call;
  record.attachment_fault = core::fault_of(call.attachments);
  record.attachment_bytes = core::bytes_of(call.attachments);
  record.quick_print = quick_print(record.fingerprint, call.attachments);
  bool all_of_it = !call.idempotency_key.empty();
  if (!all_of_it) {
    const Locked lock(lock_);
    all_of_it = suspects_.contains(record.quick_print);
  }
  record.fingerprint =
      all_of_it ? full_print(record.quick_print, call.attachments) : record.quick_print;
  record.attachments = std::make_shared<const Attachments>(std::move(record.call.attachments));
}

void HostImpl::begin(CallRecord& record, Effects& effects) {
  calls_.insert(record);
  step(event_of(record), &record, effects);
  settle(effects);
}

Outcome HostImpl::call(Call call) {
  // The loop must go on for any call to end, so it cannot wait for one.
  CHECK(!on_loop_thread());
  CallRecord record(CallId{++last_call_}, std::move(call));
  record.blocking = true;
  prepare(record);
  Effects& effects = effects_of_thread();
  {
    const Locked lock(lock_);
    begin(record, effects);
  }
  perform(effects);
  await(record);
  return std::move(record.outcome);
}

void HostImpl::await(CallRecord& record) {
  for (;;) {
    const std::uint32_t word = record.word.load(std::memory_order_acquire);
    if ((word & CallRecord::kRead) != 0) {
      read_as_caller(record);
    } else if ((word & CallRecord::kDone) != 0) {
      return;
    } else {
      os::futex_wait(record.word, word);
    }
  }
}

// Reads until the answer is there, the worker has no more to say, or the deadline has passed and
// the caller has heard so; see host_impl.h on who may take the reading away (nobody).
void HostImpl::read_as_caller(CallRecord& record) {
  thread_local std::vector<WorkerMessage> messages;
  Effects& effects = effects_of_thread();
  auto [worker, until] = record.to_read();
  for (;;) {
    if (worker->channel.has_pending()) {
      // One that cannot be waited for is as good as broken: its answer will not come before the
      // rest of its call has gone out.
      const auto ready = os::wait_read_or_write(worker->channel.fd(), until - now());
      if (!ready || (ready->writable && worker->channel.flush() == Channel::Flushed::kBroken)) {
        boost::asio::post(loop_, alive_.guard([this, worker] { kill_if_it_lives(worker); }));
      }
      if (ready && !ready->readable && now() < until) continue;
    }
    messages.clear();
    const Channel::Received received = worker->channel.receive(until, messages);
    if (received == Channel::Received::kSome && messages.empty()) continue;
    bool released = false;
    {
      const Locked lock(lock_);
      if (received != Channel::Received::kNothing) {
        take_all(worker, messages, received, &record, effects);
      } else if (now() >= until) {
        step(core::Tick{}, &record, effects);
        const bool done = (record.word.load(std::memory_order_relaxed) & CallRecord::kDone) != 0;
        if (done && record.reading == worker) leave_to_loop(record, effects);
        until = Time::max();  // calls.answer_at = end
      }
      released = (record.word.load(std::memory_order_relaxed) & CallRecord::kRead) == 0 ||
                 record.reading != worker;
      settle(effects);
    }
    perform(effects);
    if (released) return;
  }
}

CallId HostImpl::enter(std::unique_ptr<CallRecord> record) {
  prepare(*record);
  const CallId id = record->id;
  Effects& effects = effects_of_thread();
  {
    const Locked lock(lock_);
    begin(*record.release(), effects);  // the call table's, until its Completion
  }
  perform(effects);
  return id;
}

CallId HostImpl::submit(Call call, OnOutcome done) {
  auto record = std::make_unique<CallRecord>(CallId{++last_call_}, std::move(call));
  record->done = std::move(done);
  return enter(std::move(record));
}

CallId HostImpl::stream(Call call, OnItem item, OnOutcome done) {
  auto record = std::make_unique<CallRecord>(CallId{++last_call_}, std::move(call));
  record->streaming = true;
  record->item = std::move(item);
  record->done = std::move(done);
  return enter(std::move(record));
}

void HostImpl::grant(CallId call, std::uint32_t items) {
  Effects& effects = effects_of_thread();
  {
    const Locked lock(lock_);
    CallRecord* record = find(call);
    if (record == nullptr || record->told || !record->streaming || items == 0) return;
    record->granted += std::min(items, UINT32_MAX - record->granted);
    // Else it is sent behind the call.
    if (record->worker != nullptr && record->worker->running == call &&
        record->worker->unsent == nullptr) {
      std::string frame;
      wire::append_credit(frame, call.value, items);
      record->worker->channel.push(std::move(frame));
      effects.flush.push_back(record->worker);
    }
    step(core::StreamGranted{call, items}, nullptr, effects);
    settle(effects);
  }
  perform(effects);
}

bool HostImpl::cancel(CallId call) {
  Effects& effects = effects_of_thread();
  {
    const Locked lock(lock_);
    const CallRecord* record = find(call);
    if (record == nullptr || record->told) return false;
    step(core::CallCancelled{call}, nullptr, effects);
    settle(effects);
  }
  perform(effects);
  return true;
}

std::optional<std::string> HostImpl::dump(CallId call) {
  const Locked lock(lock_);
  return late_dumps_.find(now(), call);
}

void HostImpl::encode(const CallRecord& record, const core::Dispatch& dispatch,
                      std::string& frame) const {
  wire::CallMessage message;
  message.call = record.id.value;
  message.deadline_ns = dispatch.deadline.time_since_epoch().count();
  message.attempt = dispatch.attempt;
  message.stream = record.streaming;
  message.attached = record.attachments != nullptr;
  message.function = record.call.function;
  message.trace = record.call.traceparent;
  if (dispatch.session) {
    message.session = dispatch.session->id;
    message.birth = dispatch.session->birth;
    message.epoch = dispatch.session->epoch;
    message.opens = dispatch.session->opens;
    message.restores = dispatch.session->restore != 0;
    message.saves = dispatch.session->saves;
  }
  message.payload = record.large_payload ? *record.large_payload : record.call.payload;
  frame.clear();
  frame.reserve(256 + (record.large_payload ? 0 : message.payload.size()));
  // The core admits no name of more than 256 bytes, and no payload beyond payload_max.
  CHECK(wire::append_call_head(frame, message));
  if (!record.large_payload) frame.append(message.payload);
}

}  // namespace keelback::host
