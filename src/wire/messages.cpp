#include "wire/messages.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/dtype.h"
#include "wire/bytes.h"

namespace keelback::wire {
namespace {

constexpr std::uint16_t kCallOpens = 1;
constexpr std::uint16_t kCallStream = 2;
constexpr std::uint16_t kCallRestores = 8;
constexpr std::uint16_t kCallSaves = 16;
constexpr std::uint16_t kCallAttached = 4;
constexpr std::size_t kSessionEndFixedBytes = 9;
constexpr std::size_t kSaveFixedBytes = 12;
constexpr std::size_t kSavedFixedBytes = 8;
constexpr std::size_t kSnapshotFixedBytes = 16;
constexpr std::size_t kNestedFixedBytes = 24;
constexpr std::size_t kOutcomeFixedBytes = 16;

std::optional<StateFormat> format_of(std::uint8_t value) {
  if (value > static_cast<std::uint8_t>(StateFormat::kBytes)) return std::nullopt;
  return static_cast<StateFormat>(value);
}

void append_header(std::string& out, Type type, std::uint64_t call, std::uint64_t body_bytes,
                   std::uint8_t flags = 0, std::uint16_t row = 0) {
  CHECK(body_bytes <= UINT32_MAX - kHeaderBytes);
  char bytes[kHeaderBytes];
  write_header(bytes, {.type = type,
                       .flags = flags,
                       .row = row,
                       .body_bytes = static_cast<std::uint32_t>(body_bytes),
                       .call = call});
  out.append(bytes, kHeaderBytes);
}

}  // namespace

bool append_call_head(std::string& out, const CallMessage& message) {
  const std::size_t head_bytes = kHeaderBytes + kCallFixedBytes + message.function.size() +
                                 message.session.size() + message.trace.size();
  const bool fits = message.function.size() <= UINT16_MAX && message.session.size() <= UINT16_MAX &&
                    message.trace.size() <= UINT16_MAX && head_bytes <= kHeadMax &&
                    message.payload.size() <= UINT32_MAX - kHeadMax;
  if (!fits) return false;
  append_header(out, Type::kCall, message.call, head_bytes - kHeaderBytes + message.payload.size(),
                /*flags=*/0, message.row);
  append(out, message.deadline_ns);
  append(out, message.birth);
  append(out, message.epoch);
  append(out, message.attempt);
  append(out, static_cast<std::uint16_t>(message.function.size()));
  append(out, static_cast<std::uint16_t>(message.session.size()));
  append(out, static_cast<std::uint16_t>(message.trace.size()));
  append(out, static_cast<std::uint16_t>(
                  (message.opens ? kCallOpens : 0) | (message.stream ? kCallStream : 0) |
                  (message.attached ? kCallAttached : 0) | (message.restores ? kCallRestores : 0) |
                  (message.saves ? kCallSaves : 0)));
  out.append(message.function).append(message.session).append(message.trace);
  return true;
}

std::expected<CallMessage, Error> decode_call(const Frame& frame) {
  const std::string_view body = frame.body;
  if (body.size() < kCallFixedBytes) return std::unexpected(Error::kBodySize);
  const std::size_t function_bytes = load<std::uint16_t>(body, 24);
  const std::size_t session_bytes = load<std::uint16_t>(body, 26);
  const std::size_t trace_bytes = load<std::uint16_t>(body, 28);
  const auto flags = load<std::uint16_t>(body, 30);
  if (kCallFixedBytes + function_bytes + session_bytes + trace_bytes > body.size()) {
    return std::unexpected(Error::kBodyContent);
  }
  std::size_t at = kCallFixedBytes;
  const auto text = [&](std::size_t bytes) {
    const std::string_view part = body.substr(at, bytes);
    at += bytes;
    return part;
  };
  CallMessage message{.call = frame.header.call,
                      .row = frame.header.row,
                      .deadline_ns = load<std::int64_t>(body, 0),
                      .birth = load<std::uint64_t>(body, 8),
                      .epoch = load<std::uint32_t>(body, 16),
                      .attempt = load<std::uint32_t>(body, 20),
                      .opens = (flags & kCallOpens) != 0,
                      .stream = (flags & kCallStream) != 0,
                      .attached = (flags & kCallAttached) != 0,
                      .restores = (flags & kCallRestores) != 0,
                      .saves = (flags & kCallSaves) != 0};
  message.function = text(function_bytes);
  message.session = text(session_bytes);
  message.trace = text(trace_bytes);
  message.payload = body.substr(at);
  return message;
}

bool append_session_end(std::string& out, const SessionEndMessage& message) {
  if (message.session.size() > UINT16_MAX) return false;
  append_header(out, Type::kSessionEnd, 0, kSessionEndFixedBytes + message.session.size());
  append(out, message.birth);
  append(out, static_cast<std::uint8_t>(message.reason));
  out.append(message.session);
  return true;
}

std::expected<SessionEndMessage, Error> decode_session_end(const Frame& frame) {
  if (frame.body.size() < kSessionEndFixedBytes) return std::unexpected(Error::kBodySize);
  const auto reason = load<std::uint8_t>(frame.body, 8);
  if (reason > static_cast<std::uint8_t>(SessionEnd::kMoved)) {
    return std::unexpected(Error::kBodyContent);
  }
  return SessionEndMessage{.birth = load<std::uint64_t>(frame.body, 0),
                           .reason = static_cast<SessionEnd>(reason),
                           .session = frame.body.substr(kSessionEndFixedBytes)};
}

void append_restore_head(std::string& out, std::uint64_t call, StateFormat format,
                         std::uint64_t state_bytes) {
  append_header(out, Type::kRestore, call, 1 + state_bytes);
  append(out, static_cast<std::uint8_t>(format));
}
std::expected<RestoreMessage, Error> decode_restore(const Frame& frame) {
  if (frame.body.empty()) return std::unexpected(Error::kBodySize);
  const auto format = format_of(load<std::uint8_t>(frame.body, 0));
  if (!format || *format == StateFormat::kNone) return std::unexpected(Error::kBodyContent);
  return RestoreMessage{.format = *format, .state = frame.body.substr(1)};
}

bool append_save(std::string& out, const SaveMessage& message) {
  if (message.session.size() > UINT16_MAX) return false;
  append_header(out, Type::kSave, 0, kSaveFixedBytes + message.session.size());
  append(out, message.birth);
  append(out, message.epoch);
  out.append(message.session);
  return true;
}
std::expected<SaveMessage, Error> decode_save(const Frame& frame) {
  if (frame.body.size() < kSaveFixedBytes) return std::unexpected(Error::kBodySize);
  return SaveMessage{.birth = load<std::uint64_t>(frame.body, 0),
                     .epoch = load<std::uint32_t>(frame.body, 8),
                     .session = frame.body.substr(kSaveFixedBytes)};
}

void append_saved(std::string& out, std::uint64_t call, const SavedMessage& message,
                  std::uint8_t flags) {
  append_header(out, Type::kSaved, call,
                kSavedFixedBytes + message.state.size() + message.body.size(), flags);
  append(out, static_cast<std::uint8_t>(message.answer));
  append(out, static_cast<std::uint8_t>(message.format));
  append(out, std::uint16_t{0});
  append(out, static_cast<std::uint32_t>(message.state.size()));
  out.append(message.state).append(message.body);
}
std::expected<SavedMessage, Error> decode_saved(const Frame& frame) {
  const std::string_view body = frame.body;
  if (body.size() < kSavedFixedBytes) return std::unexpected(Error::kBodySize);
  const auto answer = static_cast<Type>(load<std::uint8_t>(body, 0));
  const auto format = format_of(load<std::uint8_t>(body, 1));
  const std::size_t state_bytes = load<std::uint32_t>(body, 4);
  const bool known = answer == Type::kResult || answer == Type::kError || answer == Type::kEnd;
  if (!known || !format || load<std::uint16_t>(body, 2) != 0 ||
      state_bytes > body.size() - kSavedFixedBytes) {
    return std::unexpected(Error::kBodyContent);
  }
  return SavedMessage{.answer = answer,
                      .format = *format,
                      .state = body.substr(kSavedFixedBytes, state_bytes),
                      .body = body.substr(kSavedFixedBytes + state_bytes)};
}

void append_snapshot(std::string& out, const SnapshotMessage& message) {
  CHECK(message.session.size() <= UINT16_MAX);
  append_header(out, Type::kSnapshot, 0,
                kSnapshotFixedBytes + message.session.size() + message.state.size());
  append(out, message.birth);
  append(out, message.epoch);
  append(out, static_cast<std::uint16_t>(message.session.size()));
  append(out, static_cast<std::uint8_t>(message.format));
  append(out, std::uint8_t{0});
  out.append(message.session).append(message.state);
}
std::expected<SnapshotMessage, Error> decode_snapshot(const Frame& frame) {
  const std::string_view body = frame.body;
  if (body.size() < kSnapshotFixedBytes) return std::unexpected(Error::kBodySize);
  const std::size_t session_bytes = load<std::uint16_t>(body, 12);
  const auto format = format_of(load<std::uint8_t>(body, 14));
  if (!format || load<std::uint8_t>(body, 15) != 0 ||
      session_bytes > body.size() - kSnapshotFixedBytes) {
    return std::unexpected(Error::kBodyContent);
  }
  return SnapshotMessage{.birth = load<std::uint64_t>(body, 0),
                         .epoch = load<std::uint32_t>(body, 8),
                         .format = *format,
                         .session = body.substr(kSnapshotFixedBytes, session_bytes),
                         .state = body.substr(kSnapshotFixedBytes + session_bytes)};
}

void append_batch(std::string& out, std::uint64_t call, std::uint32_t calls) {
  append_header(out, Type::kBatch, call, sizeof calls);
  append(out, calls);
}
std::expected<std::uint32_t, Error> decode_batch(const Frame& frame) {
  if (frame.body.size() != 4) return std::unexpected(Error::kBodySize);
  const auto calls = load<std::uint32_t>(frame.body, 0);
  if (calls == 0 || calls > kRowsMax) return std::unexpected(Error::kBodyContent);
  return calls;
}

bool append_nested_head(std::string& out, const NestedMessage& message) {
  const std::size_t head_bytes =
      kHeaderBytes + kNestedFixedBytes + message.name.size() + message.session.size();
  const bool fits = message.name.size() <= UINT16_MAX && message.session.size() <= UINT16_MAX &&
                    head_bytes <= kHeadMax && message.payload.size() <= UINT32_MAX - kHeadMax;
  if (!fits) return false;
  append_header(out, Type::kNested, message.parent,
                head_bytes - kHeaderBytes + message.payload.size());
  append(out, message.request);
  append(out, message.timeout_ns);
  append(out, static_cast<std::uint16_t>(message.name.size()));
  append(out, static_cast<std::uint16_t>(message.session.size()));
  append(out, static_cast<std::uint8_t>(message.target));
  append(out, std::uint8_t{0});
  append(out, std::uint16_t{0});
  out.append(message.name).append(message.session);
  return true;
}
std::expected<NestedMessage, Error> decode_nested(const Frame& frame) {
  const std::string_view body = frame.body;
  if (body.size() < kNestedFixedBytes) return std::unexpected(Error::kBodySize);
  const std::size_t name_bytes = load<std::uint16_t>(body, 16);
  const std::size_t session_bytes = load<std::uint16_t>(body, 18);
  const auto target = static_cast<NestedTarget>(load<std::uint8_t>(body, 20));
  const bool zeros = load<std::uint8_t>(body, 21) == 0 && load<std::uint16_t>(body, 22) == 0;
  const bool function = target == NestedTarget::kFunction;
  const bool known = function || (target == NestedTarget::kHost && session_bytes == 0);
  NestedMessage message{.parent = frame.header.call,
                        .request = load<std::uint64_t>(body, 0),
                        .timeout_ns = load<std::int64_t>(body, 8),
                        .target = target};
  if (!zeros || !known || name_bytes == 0 || message.parent == 0 || message.request == 0 ||
      message.timeout_ns < 0 || kNestedFixedBytes + name_bytes + session_bytes > body.size()) {
    return std::unexpected(Error::kBodyContent);
  }
  message.name = body.substr(kNestedFixedBytes, name_bytes);
  message.session = body.substr(kNestedFixedBytes + name_bytes, session_bytes);
  message.payload = body.substr(kNestedFixedBytes + name_bytes + session_bytes);
  return message;
}

void append_nested_cancel(std::string& out, std::uint64_t parent, std::uint64_t request) {
  append_header(out, Type::kNestedCancel, parent, sizeof request);
  append(out, request);
}
std::expected<std::uint64_t, Error> decode_nested_cancel(const Frame& frame) {
  if (frame.body.size() != 8) return std::unexpected(Error::kBodySize);
  const auto request = load<std::uint64_t>(frame.body, 0);
  if (request == 0 || frame.header.call == 0) return std::unexpected(Error::kBodyContent);
  return request;
}

void append_outcome_head(std::string& out, const OutcomeMessage& message) {
  append_header(out, Type::kOutcome, message.parent, kOutcomeFixedBytes + message.json.size());
  append(out, message.request);
  append(out, static_cast<std::uint8_t>(message.ok ? 1 : 0));
  out.append(7, '\0');
}
std::expected<OutcomeMessage, Error> decode_outcome(const Frame& frame) {
  const std::string_view body = frame.body;
  if (body.size() <= kOutcomeFixedBytes) return std::unexpected(Error::kBodySize);
  const auto flags = load<std::uint64_t>(body, 8);  // ok, and the zeros behind it
  const auto request = load<std::uint64_t>(body, 0);
  if (flags > 1 || request == 0 || frame.header.call == 0) {
    return std::unexpected(Error::kBodyContent);
  }
  return OutcomeMessage{.parent = frame.header.call,
                        .request = request,
                        .ok = flags == 1,
                        .json = body.substr(kOutcomeFixedBytes)};
}

void append_check(std::string& out) { append_header(out, Type::kCheck, 0, 0); }

void append_checked(std::string& out, const CheckedMessage& message) {
  append_header(out, Type::kChecked, 0, 1 + message.reason.size());
  append(out, static_cast<std::uint8_t>(message.healthy ? 1 : 0));
  out.append(message.reason);
}
std::expected<CheckedMessage, Error> decode_checked(const Frame& frame) {
  if (frame.body.empty()) return std::unexpected(Error::kBodySize);
  const auto healthy = load<std::uint8_t>(frame.body, 0);
  if (healthy > 1) return std::unexpected(Error::kBodyContent);
  return CheckedMessage{.healthy = healthy == 1, .reason = frame.body.substr(1)};
}

void append_shutdown(std::string& out) { append_header(out, Type::kShutdown, 0, 0); }

void append_credit(std::string& out, std::uint64_t call, std::uint32_t items) {
  append_header(out, Type::kCredit, call, sizeof items);
  append(out, items);
}
std::expected<std::uint32_t, Error> decode_credit(const Frame& frame) {
  if (frame.body.size() != 4) return std::unexpected(Error::kBodySize);
  return load<std::uint32_t>(frame.body, 0);
}

void append_ping(std::string& out, std::uint64_t token, std::uint8_t flags) {
  append_header(out, Type::kPing, 0, sizeof token, flags);
  append(out, token);
}
std::expected<std::uint64_t, Error> decode_ping(const Frame& frame) {
  if (frame.body.size() != 8) return std::unexpected(Error::kBodySize);
  return load<std::uint64_t>(frame.body, 0);
}

void append_cancel(std::string& out, std::uint64_t call) {
  append_header(out, Type::kCancel, call, 0);
}

void append_interrupt(std::string& out, std::uint64_t call) {
  append_header(out, Type::kInterrupt, call, 0);
}

bool append_attachment_head(std::string& out, Type type, const AttachmentMessage& message) {
  const std::size_t inlined = message.slab == 0 ? message.bytes : 0;
  const std::size_t body = kAttachmentFixedBytes + 8 * message.shape.size() + message.dtype.size() +
                           message.name.size() + message.filename.size() +
                           message.content_type.size() + inlined;
  const bool fits =
      message.name.size() <= kAttachmentNameMax && message.dtype.size() <= kAttachmentDtypeMax &&
      message.filename.size() <= kAttachmentFilenameMax &&
      message.content_type.size() <= kAttachmentContentTypeMax &&
      message.shape.size() <= kAttachmentDimsMax && inlined <= UINT32_MAX - kHeadMax &&
      is_whole_array(message.dtype, message.shape, message.bytes);
  if (!fits) return false;
  append_header(out, type, message.call, body);
  append(out, message.slab);
  append(out, static_cast<std::uint8_t>(message.dtype.size()));
  append(out, static_cast<std::uint8_t>(message.shape.size()));
  append(out, static_cast<std::uint16_t>(message.name.size()));
  append(out, message.offset);
  append(out, message.bytes);
  append(out, static_cast<std::uint16_t>(message.filename.size()));
  append(out, static_cast<std::uint16_t>(message.content_type.size()));
  for (const std::uint64_t extent : message.shape) append(out, extent);
  out.append(message.dtype).append(message.name).append(message.filename);
  out.append(message.content_type);
  return true;
}

std::expected<AttachmentMessage, Error> decode_attachment(const Frame& frame) {
  const std::string_view body = frame.body;
  if (body.size() < kAttachmentFixedBytes) return std::unexpected(Error::kBodySize);
  AttachmentMessage message{.call = frame.header.call,
                            .slab = load<std::uint32_t>(body, 0),
                            .offset = load<std::uint64_t>(body, 8),
                            .bytes = load<std::uint64_t>(body, 16)};
  const std::size_t dtype_bytes = load<std::uint8_t>(body, 4);
  const std::size_t dims = load<std::uint8_t>(body, 5);
  const std::size_t name_bytes = load<std::uint16_t>(body, 6);
  const std::size_t filename_bytes = load<std::uint16_t>(body, 24);
  const std::size_t type_bytes = load<std::uint16_t>(body, 26);
  const std::size_t texts = kAttachmentFixedBytes + 8 * dims;
  const std::size_t head = texts + dtype_bytes + name_bytes + filename_bytes + type_bytes;
  if (dtype_bytes > kAttachmentDtypeMax || dims > kAttachmentDimsMax ||
      name_bytes > kAttachmentNameMax || filename_bytes > kAttachmentFilenameMax ||
      type_bytes > kAttachmentContentTypeMax || head > body.size()) {
    return std::unexpected(Error::kBodyContent);
  }
  message.shape.reserve(dims);
  for (std::size_t i = 0; i < dims; ++i) {
    message.shape.push_back(load<std::uint64_t>(body, kAttachmentFixedBytes + 8 * i));
  }
  message.dtype = body.substr(texts, dtype_bytes);
  message.name = body.substr(texts + dtype_bytes, name_bytes);
  message.filename = body.substr(head - type_bytes - filename_bytes, filename_bytes);
  message.content_type = body.substr(head - type_bytes, type_bytes);
  message.inlined = body.substr(head);
  const bool whole =
      message.slab == 0
          ? message.offset == 0 && message.inlined.size() == message.bytes
          : message.inlined.empty() && message.offset + message.bytes >= message.offset;
  if (!whole || !is_whole_array(message.dtype, message.shape, message.bytes)) {
    return std::unexpected(Error::kBodyContent);
  }
  return message;
}

void append_slab(std::string& out, const SlabMessage& message) {
  append_header(out, Type::kSlab, 0, 13);
  append(out, static_cast<std::uint8_t>(message.op));
  append(out, message.slab);
  append(out, message.bytes);
}
std::expected<SlabMessage, Error> decode_slab(const Frame& frame) {
  if (frame.body.size() != 13) return std::unexpected(Error::kBodySize);
  const auto op = load<std::uint8_t>(frame.body, 0);
  if (op < static_cast<std::uint8_t>(SlabOp::kComing) ||
      op > static_cast<std::uint8_t>(SlabOp::kNone)) {
    return std::unexpected(Error::kBodyContent);
  }
  return SlabMessage{.op = static_cast<SlabOp>(op),
                     .slab = load<std::uint32_t>(frame.body, 1),
                     .bytes = load<std::uint64_t>(frame.body, 5)};
}

void append_slab_wanted(std::string& out, std::uint64_t call, std::uint64_t bytes) {
  append_header(out, Type::kSlabWanted, call, sizeof bytes);
  append(out, bytes);
}
std::expected<std::uint64_t, Error> decode_slab_wanted(const Frame& frame) {
  if (frame.body.size() != 8) return std::unexpected(Error::kBodySize);
  return load<std::uint64_t>(frame.body, 0);
}

void append_slab_note(std::string& out, Type type, std::uint64_t call, std::uint32_t slab) {
  append_header(out, type, call, sizeof slab);
  append(out, slab);
}
std::expected<std::uint32_t, Error> decode_slab_note(const Frame& frame) {
  if (frame.body.size() != 4) return std::unexpected(Error::kBodySize);
  return load<std::uint32_t>(frame.body, 0);
}

void append_connect(std::string& out, std::uint32_t version) {
  append_header(out, Type::kConnect, 0, sizeof version);
  append(out, version);
}
std::expected<std::uint32_t, Error> decode_connect(const Frame& frame) {
  if (frame.body.size() != 4) return std::unexpected(Error::kBodySize);
  return load<std::uint32_t>(frame.body, 0);
}

void append_ready(std::string& out) { append_header(out, Type::kReady, 0, 0); }

void append_end(std::string& out, std::uint64_t call, std::uint8_t flags) {
  append_header(out, Type::kEnd, call, 0, flags);
}

void append_payload_head(std::string& out, Type type, std::uint64_t call, std::uint64_t body_bytes,
                         std::uint8_t flags) {
  append_header(out, type, call, body_bytes, flags);
}

void append_error_head(std::string& out, std::uint64_t call, const ErrorMessage& message,
                       std::uint8_t flags) {
  append_header(out, Type::kError, call, 1 + message.json.size(), flags);
  append(out, static_cast<std::uint8_t>(message.kind));
}
std::expected<ErrorMessage, Error> decode_error(const Frame& frame) {
  if (frame.body.empty()) return std::unexpected(Error::kBodySize);
  const auto kind = load<std::uint8_t>(frame.body, 0);
  if (kind < static_cast<std::uint8_t>(ErrorKind::kError) ||
      kind > static_cast<std::uint8_t>(ErrorKind::kUnknownFunction)) {
    return std::unexpected(Error::kBodyContent);
  }
  return ErrorMessage{.kind = static_cast<ErrorKind>(kind), .json = frame.body.substr(1)};
}

void append_pong(std::string& out, const PongMessage& message, bool loop) {
  append_header(out, Type::kPong, 0, 16, loop ? kFlagLoop : 0);
  append(out, message.token);
  append(out, message.running);
}
std::expected<PongMessage, Error> decode_pong(const Frame& frame) {
  if (frame.body.size() != 16) return std::unexpected(Error::kBodySize);
  return PongMessage{.token = load<std::uint64_t>(frame.body, 0),
                     .running = load<std::uint64_t>(frame.body, 8)};
}

Packets::Packet Packets::packet() const {
  CHECK(!done());
  Packet packet;
  const std::string_view head = head_.substr(0, kPacketMax);
  const std::string_view payload = payload_.substr(0, kPacketMax - head.size());
  if (!head.empty()) packet.parts[packet.count++] = head;
  if (!payload.empty()) packet.parts[packet.count++] = payload;
  return packet;
}

void Packets::sent() {
  CHECK(!done());
  const std::size_t head_bytes = std::min(head_.size(), kPacketMax);
  head_.remove_prefix(head_bytes);
  payload_.remove_prefix(std::min(payload_.size(), kPacketMax - head_bytes));
}

}  // namespace keelback::wire
