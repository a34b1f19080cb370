#include "host/call_record.h"

#include "host/fingerprint.h"

namespace keelback::host {
namespace {

constexpr std::size_t kTraceMax = 512;

}  // namespace

Effects& effects_of_thread() {
  thread_local Effects effects;
  return effects;
}

void prepare(CallRecord& record) {
  if (record.call.traceparent.size() > kTraceMax) record.call.traceparent.clear();
  record.fingerprint = fingerprint(record.call.function, record.call.session, record.call.payload);
  if (record.call.payload.size() > kCopyMax) {
    record.large_payload = std::make_shared<const std::string>(std::move(record.call.payload));
  }
}

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
  event.batch_key = call.batch_key;
  event.attachment_kinds = record.attachment_kinds;
  event.parent = CallId{call.parent};
  return event;
}

}  // namespace keelback::host
