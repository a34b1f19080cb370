// A worker's data socket, shared by the threads that write to it and the one that reads it.
//
// Writing: any thread pushes whole frames and flushes. Frames leave in the order of the pushes,
// without blocking; what the socket does not take stays here, and whoever owns the reading (or the
// loop, if nobody does) flushes again when it can be written to.
//
// Reading: by one owner at a time, see Reader in worker_process.h. The owner receives until it has
// what it wants and takes every frame that came with it, so that no borrowed byte is left when the
// reading passes to somebody else.
//
// Attachments are copied into the worker's slabs by whoever flushes their call, and out of them by
// the reader: never under the host's lock. What the worker says about slabs is answered here; the
// host sees attachments only.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/slabs.h"
#include "host/worker_ask.h"
#include "keelback/attachment.h"
#include "keelback/outcome.h"
#include "os/fd.h"
#include "os/mutex.h"
#include "os/socket.h"
#include "wire/decoder.h"
#include "wire/messages.h"
#include "wire/process.h"

namespace keelback::host {

// A session's state, from SAVED or SNAPSHOT.
struct WorkerState {
  wire::StateFormat format{};
  std::string bytes;    // kNone: why there is none
  std::string session;  // of SNAPSHOT
  std::uint64_t birth = 0;
};

// A frame from the worker, on its own.
struct WorkerMessage {
  wire::Type type{};
  bool unclean = false;      // of RESULT, ERROR, END, like the next
  bool interrupted = false;  // the interrupt was raised in the call's code
  std::uint64_t call = 0;
  wire::ErrorKind error_kind{};      // of ERROR
  std::string body;                  // RESULT, ITEM: the bytes; HELLO, START_FAILED: the JSON
  std::optional<PythonError> error;  // of ERROR
  // What came as SAVED is its answer, with this; SNAPSHOT is this alone.
  std::unique_ptr<WorkerState> state;
  std::unique_ptr<WorkerAsk> ask;      // of NESTED, NESTED_CANCEL
  Attachments attachments;             // of RESULT
  std::uint64_t attachment_bytes = 0;  // of RESULT; over the limit, they are not kept
  bool healthy = true;                 // of CHECKED
  std::string retire_reason;  // what a RETIRE before the answer said; empty: there was none
};

class Channel {
 public:
  // `slab_budget` outlives the channel.
  Channel(os::Fd socket, std::uint32_t frame_bytes_max, SlabBudget& slab_budget);

  int fd() const { return socket_.get(); }

  // ---- writing: any thread
  // `head` is a frame, or its beginning if `payload` is the rest. Comes back: an empty string,
  // maybe with the memory of one that was sent. Who makes the next frame in it allocates nothing.
  std::string push(std::string head, std::shared_ptr<const std::string> payload = nullptr);
  // The same, with attachments in front of it; inlined: none of them in slabs.
  std::string push(std::uint64_t call, std::string head, std::shared_ptr<const std::string> payload,
                   std::shared_ptr<const Attachments> attachments, bool inlined);
  enum class Flushed : std::uint8_t { kAll, kBlocked, kBroken };
  Flushed flush();
  bool has_pending() const;

  // ---- slabs: any thread
  // Takes the slabs away that nobody has used since `limit`; the caller empties them. To be
  // flushed. Requires: the worker has no call, and gets none meanwhile.
  Slabs::Dropped shrink_slabs(Time limit);
  void drop_slabs();  // the worker is gone
  std::uint64_t slab_bytes() const;
  std::size_t slab_count() const;

  // ---- reading: its owner
  enum class Received : std::uint8_t {
    kSome,       // a packet, maybe not yet a frame
    kNothing,    // there is none, or not yet
    kEnd,        // the worker's end is closed, or shutdown_reading() was called
    kViolation,  // what came is not the protocol: violation() says what
  };
  // Receives one packet and appends the frames it completes.
  Received receive(os::Wait wait, std::vector<WorkerMessage>& out);
  // Blocks for it, at the latest until `until` (and a tick of the kernel): kNothing.
  Received receive(Time until, std::vector<WorkerMessage>& out);
  const std::string& violation() const { return violation_; }
  // From any thread: what a frame may have from now on.
  void set_frame_max(std::uint32_t bytes) { frame_bytes_max_ = bytes; }
  // From any thread: bytes that the attachments of a result may have together.
  void set_attached_max(std::uint64_t bytes) { attached_max_ = bytes; }
  // From any thread: the reader gets what has arrived, then the end.
  void shutdown_reading() { os::shutdown_reading(socket_.get()); }

 private:
  struct Outgoing {
    std::string head;
    std::shared_ptr<const std::string> payload;  // shared with the call, which may be retried
    wire::Packets plan;                          // borrows both: set when its turn comes
    bool planned = false;
    std::uint64_t call = 0;                          // whose attachments these are
    std::shared_ptr<const Attachments> attachments;  // shared likewise; not yet in place
    bool inlined = false;                            // they stay out of slabs
    os::Fd fd;                                       // goes with the packet
  };
  using Queue = std::list<Outgoing>;  // each stays where it is: its plan borrows from it
  bool take_frames(std::vector<WorkerMessage>& out);
  bool take_state(const wire::Frame& frame, WorkerMessage& message);
  bool take_ask(const wire::Frame& frame, WorkerMessage& message);
  bool take_error(const wire::Frame& frame, WorkerMessage& message);
  bool take_slab_frame(const wire::Frame& frame, bool& answer);
  bool take_attached(const wire::Frame& frame);
  bool complete(WorkerMessage& message);
  // In front of `where`: one that was sent earlier and is used again, or a new one.
  Outgoing& make(Queue::iterator where) REQUIRES(mutex_);
  void retire_front() REQUIRES(mutex_);
  void put_in_place(Outgoing& next) REQUIRES(mutex_);
  void push(std::vector<SlabNews> news) REQUIRES(mutex_);
  os::Result<void> send(const Outgoing& next) REQUIRES(mutex_);

  const os::Fd socket_;
  std::atomic<std::uint32_t> frame_bytes_max_;
  mutable os::Mutex mutex_;
  Queue out_ GUARDED_BY(mutex_);
  Queue used_ GUARDED_BY(mutex_);  // sent: empty, with the memory that they had
  bool broken_ GUARDED_BY(mutex_) = false;
  Slabs slabs_ GUARDED_BY(mutex_);
  std::atomic<std::uint64_t> attached_max_ = wire::kAttachedMaxDefault;

  wire::Decoder decoder_;                 // the reading owner's
  std::unique_ptr<std::byte[]> scratch_;  // the reading owner's: one packet
  std::string retire_reason_;             // until the call's answer comes
  std::string violation_;
  Duration timeout_ = Duration::max();  // the reading owner's: of a blocking receive
  Attachments attached_;                // the reading owner's: of the result that is to come
  std::uint64_t attached_call_ = 0;     // whose they are; 0: none have come
  std::size_t attached_count_ = 0;
  std::uint64_t attached_bytes_ = 0;
};

}  // namespace keelback::host
