// The calls in flight of an engine, and how they end: what their callers get, and when. Everything
// here is under the host's lock, unless it says otherwise.
#pragma once

#include <cstdint>

#include "base/settings.h"
#include "core/action.h"
#include "core/call_table.h"
#include "host/call_record.h"
#include "host/host_lock.h"
#include "host/request_print.h"

namespace keelback::host {

class Engine;
struct Reply;

class CallBook {
 public:
  CallBook(Engine& engine, const Settings& settings);

  CallRecord* find(CallId call) REQUIRES(host_state) { return table_.find(call); }
  core::CallTable<CallRecord>& table() REQUIRES(host_state) { return table_; }
  void limit(const Settings& settings) REQUIRES(host_state);  // sizes of answers, from now on
  std::uint64_t payload_max() const REQUIRES(host_state) { return payload_max_; }
  std::uint64_t take_answer(Reply& reply) REQUIRES(host_state);

  // ---- the core's last word on a call, or its first at the deadline
  void resolve(core::Resolve& action, CallRecord* self, Effects& effects) REQUIRES(host_state);
  void replay(const core::ReplayOutcome& action, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  void tell(core::TellCaller& action, CallRecord* self, Effects& effects) REQUIRES(host_state);
  // A worker that does not die may have kept calls from ending: at the engine's end.
  void end_remaining() EXCLUDES(host_state);

  // ---- requests with attachments that killed a worker
  bool is_suspect(std::uint64_t quick_print) REQUIRES(host_state) {
    return suspects_.contains(quick_print);
  }
  // The call that dies with its worker, if it carries attachments: from now on every byte of it and
  // of its like counts. 0: it carries none.
  std::uint64_t print_of_victim(CallId call) EXCLUDES(host_state);

 private:
  void end_told(CallRecord& record, core::Resolve& action, Effects& effects) REQUIRES(host_state);
  void complete(CallRecord& record, CallRecord* self, Effects& effects) REQUIRES(host_state);

  Engine& engine_;
  core::CallTable<CallRecord> table_ GUARDED_BY(host_state);
  SuspectPrints suspects_ GUARDED_BY(host_state);
  std::uint64_t payload_max_ GUARDED_BY(host_state) = 0;
  std::uint64_t attached_max_ GUARDED_BY(host_state) = 0;
};

}  // namespace keelback::host
