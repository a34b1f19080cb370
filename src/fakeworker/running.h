// A call while its function runs, as the function sees it: what it was asked, what it may use, and
// how it is told to stop. It runs alone (alone.h) or beside others (shared.h).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "fakeworker/answer.h"
#include "fakeworker/attachments.h"
#include "fakeworker/channel.h"
#include "fakeworker/loop.h"
#include "fakeworker/marks.h"
#include "fakeworker/sessions.h"
#include "wire/process.h"

namespace keelback::fakeworker {

struct Function;

// What a worker has for its calls; lives as long as the process.
struct Place {
  Marks& marks;
  Channel& channel;
  Attachments& attachments;
  Sessions& sessions;
  Loop& loop;
  std::atomic<std::uint64_t>& last_request;  // of what calls have asked for
};

// What a call was asked.
struct Asked {
  std::uint64_t call = 0;
  std::uint16_t row = 0;  // 0: it runs alone
  const Function* function = nullptr;
  bool stream = false;          // its caller takes one
  bool saves = false;           // its session's state goes with the answer
  SessionPtr session;           // null: it has none
  std::vector<Json> arguments;  // in the order of the parameters; null: not given
  std::vector<Carried> carried;
};

// Its own thread's, but what subclasses say.
class Running {
 public:
  using Clock = std::chrono::steady_clock;

  Running(Place has, Asked was_asked) : place(has), asked(std::move(was_asked)) {}
  virtual ~Running() = default;
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  Place place;
  Asked asked;
  bool unclean = false;      // a function sets it: something of it is left
  bool interrupted = false;  // stopped() has said so

  // With what the call is to end now; nullopt: it goes on. heeds_cancel: not only an interrupt ends
  // it.
  std::optional<Raised> stopped(bool heeds_cancel);
  // Waits `ms`, less if the call is stopped.
  std::optional<Raised> wait(std::int64_t ms, bool heeds_cancel);
  // Sends one item, waiting for credit. Something in the answer: the stream is over with that.
  std::optional<Raised> put_item(std::string_view json);
  // Asks for another call and waits for its outcome: its result, or what the function raises. Of
  // `nested` the function says target, name, session, timeout and payload.
  Answer call_out(wire::NestedMessage nested);

 protected:
  virtual bool told_to_cancel() = 0;
  virtual bool told_to_interrupt() = 0;
  // Until `end`, or until it may have been told to stop.
  virtual void rest_until(Clock::time_point end) = 0;
  // Until credit has come, which is the answer, or until it may have been told to stop.
  virtual std::uint64_t await_credit() = 0;
  // Until the outcome of the request has come, or until it may have been told to stop: nullopt.
  virtual std::optional<Heard> await_outcome(std::uint64_t request) = 0;

 private:
  std::uint64_t credit_ = wire::kStreamCredit;
};

}  // namespace keelback::fakeworker
