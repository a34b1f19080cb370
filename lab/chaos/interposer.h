// Stands between workers and the supervisor and knows where a frame begins and ends: passes every
// byte on, until it is told to misbehave with a worker's answers. One thread of its own; nothing
// here blocks on a worker or on the pool.
//
// It lives in the laboratory's process, so nothing of it can outlive the run: its end is the end of
// the sockets, which the pool knows as the death of a channel.
#pragma once

#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/id.h"
#include "base/time.h"
#include "os/fd.h"

namespace keelback::chaos {

// How a worker's answers may go wrong on their way.
enum class Misdeed : std::uint8_t {
  kGarbage,     // bytes that are no frame, instead of the answer
  kHeader,      // the answer with a type that does not exist
  kHalfStall,   // half the answer, then silence
  kHalfClose,   // half the answer, then the end of the socket
  kClose,       // the end of the socket instead of the answer
  kDuplicate,   // the answer twice
  kStale,       // first the answer before this one, again
  kUnknown,     // the answer to a call that nobody made, before the answer
  kLate,        // the answer after `delay`
  kDrip,        // the answer in pieces of `bytes`, `delay` apart
  kDrop,        // no answer
  kVersion,     // of a starting worker: CONNECT speaks another version
  kHalfGreet,   // … half a CONNECT, then silence
  kNoGreeting,  // … no CONNECT, and silence
};

struct ChannelOrder {
  std::string fault;  // counted under this name
  Misdeed what = Misdeed::kGarbage;
  Duration delay{0};
  std::uint32_t bytes = 1;
  std::uint32_t answers = 0;  // so many of each worker; 0: all
};

class Interposer {
 public:
  [[nodiscard]] static std::expected<std::unique_ptr<Interposer>, std::string> start();
  Interposer(const Interposer&) = delete;
  ~Interposer();  // closes what is left; the pool must be gone

  // Takes the worker's end of its data socket, gives what the worker gets instead. Any thread.
  os::Fd stand_between(WorkerId worker, os::Fd theirs);

  // For a living worker; false: there is no such worker.
  bool order(WorkerId worker, const ChannelOrder& order);
  // For those that start from now on.
  void order_start(const ChannelOrder& order);
  // Takes back what starting workers are told of that fault; those that have started stay as told.
  void lift_start(const std::string& fault);
  // Takes the fault's orders back. What was held back for it is let go.
  void lift(const std::string& fault);
  // How many answers (or greetings) the fault has hit.
  std::uint64_t hits(const std::string& fault) const;

 private:
  struct Piece {
    std::string bytes;
    Time not_before{};
  };
  // One way through a link.
  struct Way {
    int from = -1, to = -1;
    std::deque<Piece> queue;
    std::size_t queued_bytes = 0;
    std::string partial;  // of a frame, towards the supervisor
    bool ended = false;   // `from` is at its end
  };
  struct Link {
    WorkerId worker;
    os::Fd supervisor, process;
    Way up, down;  // towards the supervisor, towards the worker
    std::string last_answer;
    std::vector<ChannelOrder> orders;  // `answers` counts down; one at 1 is over after the next
    std::string stalled_by;            // nothing more of the worker's passes
    bool close_when_empty = false;
    bool closed = false;
  };

  Interposer() = default;
  void run();
  // Until when the thread may sleep.
  Time turn(Time now);
  void read(Link& link, Way& way, Time now);
  void frame(Link& link, std::string frame, Time now);
  void misbehave(Link& link, const ChannelOrder& order, std::string frame, Time now);
  void push(Way& way, std::string bytes, Time not_before);
  void write(Link& link, Way& way, Time now);
  void close(Link& link);
  void wake();

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Link>> links_;  // guarded by mutex_, as all below
  std::vector<ChannelOrder> for_starts_;
  std::map<std::string, std::uint64_t> hits_;
  bool stop_ = false;
  os::Pipe waker_;
  std::thread thread_;
};

}  // namespace keelback::chaos
