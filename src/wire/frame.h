// The frame of the worker protocol (docs/protocol.md): its header, its types, who may send which
// type, how long a body may be, and what can be wrong with a frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

namespace keelback::wire {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kPacketMax = 64 << 10;  // senders: bytes in one packet
// What a frame may hold beside its payload: header, names, trace context.
inline constexpr std::size_t kHeadMax = 64 << 10;

enum class Type : std::uint8_t {
  kCall = 1,
  kSessionEnd = 2,
  kShutdown = 3,
  kCredit = 4,
  kRestore = 5,
  kSave = 6,
  kSlab = 7,
  kAttach = 8,
  kCheck = 9,
  kBatch = 10,
  kOutcome = 11,
  kConnect = 16,
  kHello = 17,
  kReady = 18,
  kStartFailed = 19,
  kResult = 20,
  kError = 21,
  kItem = 22,
  kEnd = 23,
  kSaved = 24,
  kSnapshot = 25,
  kSlabWanted = 28,
  kAttached = 29,
  kSlabKept = 30,
  kSlabFreed = 31,
  kChecked = 32,
  kRetire = 33,
  kNested = 34,
  kNestedCancel = 35,
  kPing = 48,
  kPong = 49,
  kCancel = 50,
  kInterrupt = 51,
};
std::string_view to_string(Type type);  // "CALL", …; "?" for what is none of them

// Flags of RESULT, ERROR, END and SAVED. Unclean: after the call there are threads or tasks that
// were not there before it. Interrupted: our interrupt was raised in the code of the call, even if
// that code has caught it.
inline constexpr std::uint8_t kFlagUnclean = 1;
inline constexpr std::uint8_t kFlagInterrupted = 2;
constexpr std::uint8_t reply_flags(bool unclean, bool interrupted) {
  return static_cast<std::uint8_t>((unclean ? kFlagUnclean : 0) |
                                   (interrupted ? kFlagInterrupted : 0));
}

// Flag of PING and PONG: the worker's event loop is to answer, has answered.
inline constexpr std::uint8_t kFlagLoop = 1;
inline constexpr std::uint8_t kFlagWho = 2;

// Calls that a worker runs beside others or in a batch, at most; each has a row of the marks, from
// 1.
inline constexpr std::uint16_t kRowsMax = 1024;

// Which end receives, and on which socket. It accepts only what the other end may send.
enum class Link : std::uint8_t {
  kWorkerData,         // in a worker: CALL … OUTCOME
  kWorkerControl,      // in a worker: PING, CANCEL, INTERRUPT
  kSupervisorData,     // in the supervisor: CONNECT … NESTED_CANCEL
  kSupervisorControl,  // in the supervisor: PONG
};

enum class Error : std::uint8_t {
  kLengthTooSmall,  // of the frame: under 16
  kLengthTooLarge,  // of the frame: over the receiver's limit
  kUnknownType,     // no such type
  kUnexpectedType,  // such a type, but not from that end or on that socket
  kRow,             // a row where none belongs, or that is none
  kBodySize,        // not a length that this type can have
  kBodyContent,     // fields of the body contradict each other or name nothing
};
std::string_view to_string(Error error);  // one clause for people; static storage

struct Header {
  Type type{};
  std::uint8_t flags = 0;
  std::uint16_t row = 0;  // of a CALL that runs beside others or in a batch; 0: it runs alone
  std::uint32_t body_bytes = 0;
  std::uint64_t call = 0;
  friend bool operator==(const Header&, const Header&) = default;
};

// The length of the longest frame that carries a payload of `payload_max` bytes, but never more
// than the length field can hold.
constexpr std::uint32_t frame_max(std::uint64_t payload_max) {
  constexpr std::uint64_t kMost = UINT32_MAX;
  return static_cast<std::uint32_t>(payload_max > kMost - kHeadMax ? kMost
                                                                   : payload_max + kHeadMax);
}

// `bytes` holds exactly kHeaderBytes.
std::expected<Header, Error> parse_header(std::string_view bytes, Link link,
                                          std::uint32_t frame_bytes_max);
void write_header(char* out, const Header& header);

// A received frame. `body` is borrowed: see Decoder::next().
struct Frame {
  Header header;
  std::string_view body;

  Type type() const { return header.type; }
  std::uint64_t call() const { return header.call; }
  bool unclean() const { return (header.flags & kFlagUnclean) != 0; }
  bool loop() const { return (header.flags & kFlagLoop) != 0; }
  bool interrupted() const { return (header.flags & kFlagInterrupted) != 0; }
};

}  // namespace keelback::wire
