// The bodies of the frames as types. An encoder appends to a buffer of the caller. It never copies
// a payload: encode the head, then send head and payload in the parts that Packets plans. A decoder
// borrows from the frame's body. JSON (HELLO, START_FAILED, ERROR) stays text here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/frame.h"

namespace keelback::wire {

// ---- from the supervisor

inline constexpr std::size_t kCallFixedBytes = 32;  // of the body, before the strings

struct CallMessage {
  std::uint64_t call = 0;
  std::uint16_t row = 0;         // 0: it runs alone; else its row of the marks
  std::int64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint32_t attempt = 1;
  bool opens = false;     // the call opens its session's epoch on this worker
  bool stream = false;    // the caller takes a stream
  bool attached = false;  // ATTACH frames came before it
  bool restores = false;  // it opens the epoch with the state of the RESTORE before it
  bool saves = false;     // the answer is to be SAVED: it brings the session's state
  std::string_view function;
  std::string_view session;  // empty: stateless
  std::string_view trace;
  std::string_view payload;
  friend bool operator==(const CallMessage&, const CallMessage&) = default;
};
// Appends everything but the payload. False: nothing was appended, because the names together are
// longer than kHeadMax, or the payload is longer than a frame can be (4 GiB).
[[nodiscard]] bool append_call_head(std::string& out, const CallMessage& message);
std::expected<CallMessage, Error> decode_call(const Frame& frame);

// The numbers of docs/protocol.md. The pool sends neither kLost nor kEvicted; workers know them.
enum class SessionEnd : std::uint8_t { kExpired, kEnded, kLost, kEvicted, kDrained, kMoved };
struct SessionEndMessage {
  std::uint64_t birth = 0;
  SessionEnd reason = SessionEnd::kExpired;
  std::string_view session;
  friend bool operator==(const SessionEndMessage&, const SessionEndMessage&) = default;
};
// False, and nothing appended: the id is longer than 65535 bytes.
[[nodiscard]] bool append_session_end(std::string& out, const SessionEndMessage& message);
std::expected<SessionEndMessage, Error> decode_session_end(const Frame& frame);

void append_shutdown(std::string& out);
void append_credit(std::string& out, std::uint64_t call, std::uint32_t items);
std::expected<std::uint32_t, Error> decode_credit(const Frame& frame);

// flags: kFlagLoop, the event loop is to answer; kFlagWho, whose code it runs is asked for.
void append_ping(std::string& out, std::uint64_t token, std::uint8_t flags = 0);
std::expected<std::uint64_t, Error> decode_ping(const Frame& frame);
void append_cancel(std::string& out, std::uint64_t call);
void append_interrupt(std::string& out, std::uint64_t call);

// How a session's state is written down. Same values as store::Format.
enum class StateFormat : std::uint8_t {
  kNone = 0,  // it cannot be written down; the bytes are a text that says why
  kJson = 1,
  kBytes = 2,  // whatever @keelback.snapshot returned
};
struct RestoreMessage {
  StateFormat format = StateFormat::kJson;  // never kNone
  std::string_view state;
  friend bool operator==(const RestoreMessage&, const RestoreMessage&) = default;
};
// Everything but the state, which follows it as the payload. Requires: it fits a length.
void append_restore_head(std::string& out, std::uint64_t call, StateFormat format,
                         std::uint64_t state_bytes);
std::expected<RestoreMessage, Error> decode_restore(const Frame& frame);

struct SaveMessage {
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::string_view session;
  friend bool operator==(const SaveMessage&, const SaveMessage&) = default;
};
// False, and nothing appended: the id is longer than 65535 bytes.
[[nodiscard]] bool append_save(std::string& out, const SaveMessage& message);
std::expected<SaveMessage, Error> decode_save(const Frame& frame);
// ---- attachments, in both directions

inline constexpr std::size_t kAttachmentsMax = 64;      // of one call, of one result
inline constexpr std::size_t kAttachmentNameMax = 256;  // bytes
inline constexpr std::size_t kAttachmentDtypeMax = 32;  // bytes
inline constexpr std::size_t kAttachmentDimsMax = 16;
inline constexpr std::size_t kAttachmentFilenameMax = 1024;
inline constexpr std::size_t kAttachmentContentTypeMax = 256;
inline constexpr std::size_t kAttachmentFixedBytes = 28;  // of the body
inline constexpr std::size_t kSlabFrom = 64 << 10;  // an attachment of so many bytes wants a slab

// ATTACH and ATTACHED: one attachment of the call, whose CALL or RESULT follows.
struct AttachmentMessage {
  std::uint64_t call = 0;
  std::uint32_t slab = 0;    // 0: the bytes are in the frame
  std::uint64_t offset = 0;  // in the slab
  std::uint64_t bytes = 0;
  std::vector<std::uint64_t> shape;
  std::string_view dtype;
  std::string_view name;
  std::string_view filename;
  std::string_view content_type;
  std::string_view inlined;  // the bytes, if they are in the frame
  friend bool operator==(const AttachmentMessage&, const AttachmentMessage&) = default;
};
// Appends everything but the inlined bytes, which follow it. False: nothing was appended, because a
// text or a shape is too long, the bytes do not fit into a frame, or the array is not valid
// (base/dtype.h).
[[nodiscard]] bool append_attachment_head(std::string& out, Type type,
                                          const AttachmentMessage& message);
std::expected<AttachmentMessage, Error> decode_attachment(const Frame& frame);

enum class SlabOp : std::uint8_t {
  kComing = 1,  // the next packet is kHere, with the descriptor beside it
  kHere = 2,
  kGone = 3,  // unmap it
  kNone = 4,  // SLAB_WANTED is refused: send the bytes in the frame
};
struct SlabMessage {
  SlabOp op = SlabOp::kNone;
  std::uint32_t slab = 0;  // kNone: 0
  std::uint64_t bytes = 0;
  friend bool operator==(const SlabMessage&, const SlabMessage&) = default;
};
void append_slab(std::string& out, const SlabMessage& message);
std::expected<SlabMessage, Error> decode_slab(const Frame& frame);

void append_slab_wanted(std::string& out, std::uint64_t call, std::uint64_t bytes);
std::expected<std::uint64_t, Error> decode_slab_wanted(const Frame& frame);
// SLAB_KEPT, SLAB_FREED.
void append_slab_note(std::string& out, Type type, std::uint64_t call, std::uint32_t slab);
std::expected<std::uint32_t, Error> decode_slab_note(const Frame& frame);

// ---- from the worker

// RESULT, ERROR or END of the frame's call, and the state that its session has after it.
struct SavedMessage {
  Type answer = Type::kResult;
  StateFormat format = StateFormat::kJson;
  std::string_view state;
  std::string_view body;  // as the answer's own frame would have it
  friend bool operator==(const SavedMessage&, const SavedMessage&) = default;
};
// The whole frame; `flags` as reply_flags() makes them. Requires: it fits a length.
void append_saved(std::string& out, std::uint64_t call, const SavedMessage& message,
                  std::uint8_t flags);
std::expected<SavedMessage, Error> decode_saved(const Frame& frame);

// The answer to SAVE.
struct SnapshotMessage {
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  StateFormat format = StateFormat::kJson;
  std::string_view session;
  std::string_view state;
  friend bool operator==(const SnapshotMessage&, const SnapshotMessage&) = default;
};
// The whole frame. Requires: it fits a length, and the id is of at most 65535 bytes.
void append_snapshot(std::string& out, const SnapshotMessage& message);
std::expected<SnapshotMessage, Error> decode_snapshot(const Frame& frame);

// So many of the CALLs that follow, each with a row, are one batch. `call` is the first of them.
void append_batch(std::string& out, std::uint64_t call, std::uint32_t calls);
// From 1 to kRowsMax.
std::expected<std::uint32_t, Error> decode_batch(const Frame& frame);

void append_check(std::string& out);
// The answer to CHECK.
struct CheckedMessage {
  bool healthy = true;
  std::string_view reason;  // what failed
  friend bool operator==(const CheckedMessage&, const CheckedMessage&) = default;
};
void append_checked(std::string& out, const CheckedMessage& message);
std::expected<CheckedMessage, Error> decode_checked(const Frame& frame);

// ---- calls that a running call makes, its parent; the frame's call is the parent

enum class NestedTarget : std::uint8_t {
  kFunction = 1,  // of the application
  kHost = 2,      // a function that the program provides
};
struct NestedMessage {
  std::uint64_t parent = 0;
  std::uint64_t request = 0;    // the worker's number for it, never 0, never used twice
  std::int64_t timeout_ns = 0;  // from now on; 0: none of its own
  NestedTarget target = NestedTarget::kFunction;
  std::string_view name;     // never empty
  std::string_view session;  // empty: stateless; always so for a host function
  std::string_view payload;
  friend bool operator==(const NestedMessage&, const NestedMessage&) = default;
};
// Appends everything but the payload. False: nothing was appended, because the names together are
// longer than kHeadMax, or the payload is longer than a frame can be (4 GiB).
[[nodiscard]] bool append_nested_head(std::string& out, const NestedMessage& message);
std::expected<NestedMessage, Error> decode_nested(const Frame& frame);
void append_nested_cancel(std::string& out, std::uint64_t parent, std::uint64_t request);
std::expected<std::uint64_t, Error> decode_nested_cancel(const Frame& frame);

// How a NESTED ended, for its parent. From the supervisor.
struct OutcomeMessage {
  std::uint64_t parent = 0;
  std::uint64_t request = 0;
  bool ok = false;
  std::string_view json;  // ok: the result; else a description
  friend bool operator==(const OutcomeMessage&, const OutcomeMessage&) = default;
};
// Everything but the JSON, which follows it as the payload. Requires: it fits a length.
void append_outcome_head(std::string& out, const OutcomeMessage& message);
std::expected<OutcomeMessage, Error> decode_outcome(const Frame& frame);

void append_connect(std::string& out, std::uint32_t version);
std::expected<std::uint32_t, Error> decode_connect(const Frame& frame);
void append_ready(std::string& out);
void append_end(std::string& out, std::uint64_t call, std::uint8_t flags);

// The header of a frame whose body is `body_bytes` of payload: HELLO, START_FAILED, RESULT, ITEM.
// Requires: kHeaderBytes + body_bytes fits a length.
void append_payload_head(std::string& out, Type type, std::uint64_t call, std::uint64_t body_bytes,
                         std::uint8_t flags = 0);

enum class ErrorKind : std::uint8_t {
  kError = 1,
  kCancelled = 2,
  kBadRequest = 3,
  kUnknownFunction = 4,
};
struct ErrorMessage {
  ErrorKind kind = ErrorKind::kError;
  std::string_view json;  // {type, message, traceback, errors}
  friend bool operator==(const ErrorMessage&, const ErrorMessage&) = default;
};
// The head with the kind; message.json is the payload that follows it.
void append_error_head(std::string& out, std::uint64_t call, const ErrorMessage& message,
                       std::uint8_t flags);
std::expected<ErrorMessage, Error> decode_error(const Frame& frame);

struct PongMessage {
  std::uint64_t token = 0;
  // The call that runs alone; to a PING with kFlagWho, the shared call whose code the event loop
  // runs. 0: none.
  std::uint64_t running = 0;
  friend bool operator==(const PongMessage&, const PongMessage&) = default;
};
void append_pong(std::string& out, const PongMessage& message, bool loop = false);
std::expected<PongMessage, Error> decode_pong(const Frame& frame);

// ---- into packets

// Splits one frame, given as head and payload, into packets of at most kPacketMax. A packet is sent
// whole or not at all (SOCK_SEQPACKET), so the plan moves by packets:
//
//   for (Packets plan(head, payload); !plan.done(); plan.sent()) send(plan.packet());
//
// Borrows both parts. Copy it to stop and go on later.
class Packets {
 public:
  struct Packet {
    std::array<std::string_view, 2> parts;  // the first `count`, none of them empty
    std::size_t count = 0;
    std::size_t bytes() const { return parts[0].size() + parts[1].size(); }
  };
  Packets() = default;
  explicit Packets(std::string_view head, std::string_view payload = {})
      : head_(head), payload_(payload) {}

  bool done() const { return head_.empty() && payload_.empty(); }
  Packet packet() const;  // the next one. Requires: !done().
  void sent();            // it was sent. Requires: !done().

 private:
  std::string_view head_;  // what is left
  std::string_view payload_;
};

}  // namespace keelback::wire
