// A call in flight, as the engine and its crew know it, and what a thread has booked for it.
//
// The record of a blocking caller lies on its stack. Its word is the last thing that others touch,
// under the host's lock; after it they know the address only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/action.h"
#include "core/call_table.h"
#include "core/event.h"
#include "host/driver.h"
#include "host/host_lock.h"
#include "host/providers.h"

namespace keelback::host {

// A worker, as the engine knows it: a name. What its crew keeps of it derives from this.
struct CrewWorker {
  explicit CrewWorker(WorkerId worker) : id(worker) {}
  CrewWorker(const CrewWorker&) = delete;
  CrewWorker& operator=(const CrewWorker&) = delete;
  virtual ~CrewWorker() = default;

  const WorkerId id;
};

struct CallRecord {
  static constexpr std::uint32_t kRead = 1;  // `reading` is yours: receive
  static constexpr std::uint32_t kDone = 2;  // `outcome` is there

  CallRecord(CallId call_id, Call&& asked) : id(call_id), call(std::move(asked)) {}

  const CallId id;
  std::uint64_t fingerprint = 0;
  Call call;  // its payload is in large_payload, if that is set
  std::shared_ptr<const std::string> large_payload;  // shared with the channel that sends it
  std::shared_ptr<const Attachments> attachments;    // shared likewise; null: there are none
  std::uint64_t attachment_bytes = 0;
  std::string attachment_fault;
  std::uint64_t attachment_kinds = 0;
  std::uint64_t quick_print = 0;  // with attachments only: see request_print.h
  bool blocking = false;
  bool streaming = false;
  OnItem item;
  OnOutcome done;

  // It has the call now, or had it last.
  std::shared_ptr<CrewWorker> worker GUARDED_BY(host_state);
  std::shared_ptr<CrewWorker> reading GUARDED_BY(host_state);  // a blocked caller reads this one
  core::Answer answer GUARDED_BY(host_state);
  // Its caller heard at the deadline. This record took the place of the caller's and lies on the
  // heap; it stays until the call ends.
  bool told GUARDED_BY(host_state) = false;
  // It was told to stop: what it asks of host functions is refused.
  bool stopping GUARDED_BY(host_state) = false;
  Time deadline GUARDED_BY(host_state) = Time::max();  // of a call that was dispatched
  bool alone GUARDED_BY(host_state) = true;            // in its worker
  bool batched GUARDED_BY(host_state) = false;
  bool dump_asked GUARDED_BY(host_state) = false;
  std::size_t dump_from GUARDED_BY(host_state) = 0;  // earlier dumps of that worker end here
  std::string dump_note GUARDED_BY(host_state);      // why there is none
  // All the credit that its stream was given. Each attempt gets it anew: one that follows another
  // has nothing of the stream behind it (the core runs no stream again that has spoken).
  std::uint32_t granted GUARDED_BY(host_state) = 0;

  // For its blocked caller, which has seen kRead: until it gives the reading up, nobody changes
  // these.
  std::pair<std::shared_ptr<CrewWorker>, Time> to_read() const
      KEELBACK_TS(no_thread_safety_analysis) {
    return {reading, deadline};
  }

  Outcome outcome;
  std::atomic<std::uint32_t> word = 0;  // what a blocked caller sleeps on
};

// Up to here a payload is copied behind its head and travels in one piece; beyond, it is sent from
// where it lies.
inline constexpr std::size_t kCopyMax = 16 << 10;

// What takes time and needs no lock: the request's fingerprint, and where its payload lies. Of
// attachments it knows nothing.
void prepare(CallRecord& record);
// What the core hears of a prepared call.
core::CallSubmitted event_of(const CallRecord& record);

// What a thread has booked under the lock and performs after it.
struct Effects {
  core::Actions actions;  // scratch
  std::string frame;      // scratch: of a call that is being dispatched
  // For the crew: workers whose frames are to be sent, and workers that the loop is to read.
  std::vector<std::shared_ptr<CrewWorker>> flush;
  std::vector<std::shared_ptr<CrewWorker>> arm;
  std::vector<const std::atomic<std::uint32_t>*> wake;  // addresses only
  std::vector<ProviderNews> news;
  bool poke = false;  // the loop has something to do
};

// The calling thread's own, kept for its capacity.
Effects& effects_of_thread();

}  // namespace keelback::host
