#include "wire/frame.h"

#include "base/check.h"
#include "wire/bytes.h"

namespace keelback::wire {
namespace {

constexpr std::uint32_t kAny = UINT32_MAX;

// One row for each type: who receives it, and how long its body may be.
struct Rule {
  Type type;
  std::string_view name;
  Link link;
  std::uint32_t body_min;
  std::uint32_t body_max;
};
constexpr Rule kRules[] = {
    {Type::kCall, "CALL", Link::kWorkerData, 32, kAny},
    {Type::kSessionEnd, "SESSION_END", Link::kWorkerData, 9, 9 + UINT16_MAX},
    {Type::kShutdown, "SHUTDOWN", Link::kWorkerData, 0, 0},
    {Type::kCredit, "CREDIT", Link::kWorkerData, 4, 4},
    {Type::kRestore, "RESTORE", Link::kWorkerData, 1, kAny},
    {Type::kSave, "SAVE", Link::kWorkerData, 12, 12 + UINT16_MAX},
    {Type::kSlab, "SLAB", Link::kWorkerData, 13, 13},
    {Type::kAttach, "ATTACH", Link::kWorkerData, 28, kAny},
    {Type::kCheck, "CHECK", Link::kWorkerData, 0, 0},
    {Type::kBatch, "BATCH", Link::kWorkerData, 4, 4},
    {Type::kOutcome, "OUTCOME", Link::kWorkerData, 17, kAny},
    {Type::kConnect, "CONNECT", Link::kSupervisorData, 4, 4},
    {Type::kHello, "HELLO", Link::kSupervisorData, 2, kAny},
    {Type::kReady, "READY", Link::kSupervisorData, 0, 0},
    {Type::kStartFailed, "START_FAILED", Link::kSupervisorData, 2, kAny},
    {Type::kResult, "RESULT", Link::kSupervisorData, 0, kAny},
    {Type::kError, "ERROR", Link::kSupervisorData, 1, kAny},
    {Type::kItem, "ITEM", Link::kSupervisorData, 0, kAny},
    {Type::kEnd, "END", Link::kSupervisorData, 0, 0},
    {Type::kSaved, "SAVED", Link::kSupervisorData, 8, kAny},
    {Type::kSnapshot, "SNAPSHOT", Link::kSupervisorData, 16, kAny},
    {Type::kSlabWanted, "SLAB_WANTED", Link::kSupervisorData, 8, 8},
    {Type::kAttached, "ATTACHED", Link::kSupervisorData, 28, kAny},
    {Type::kSlabKept, "SLAB_KEPT", Link::kSupervisorData, 4, 4},
    {Type::kSlabFreed, "SLAB_FREED", Link::kSupervisorData, 4, 4},
    {Type::kChecked, "CHECKED", Link::kSupervisorData, 1, kAny},
    {Type::kRetire, "RETIRE", Link::kSupervisorData, 1, kAny},
    {Type::kNested, "NESTED", Link::kSupervisorData, 25, kAny},
    {Type::kNestedCancel, "NESTED_CANCEL", Link::kSupervisorData, 8, 8},
    {Type::kPing, "PING", Link::kWorkerControl, 8, 8},
    {Type::kPong, "PONG", Link::kSupervisorControl, 16, 16},
    {Type::kCancel, "CANCEL", Link::kWorkerControl, 0, 0},
    {Type::kInterrupt, "INTERRUPT", Link::kWorkerControl, 0, 0},
};

const Rule* rule_of(std::uint8_t type) {
  for (const Rule& rule : kRules) {
    if (static_cast<std::uint8_t>(rule.type) == type) return &rule;
  }
  return nullptr;
}

}  // namespace

std::string_view to_string(Type type) {
  const Rule* rule = rule_of(static_cast<std::uint8_t>(type));
  return rule == nullptr ? "?" : rule->name;
}

std::string_view to_string(Error error) {
  switch (error) {
    case Error::kLengthTooSmall:
      return "a frame shorter than its header";
    case Error::kLengthTooLarge:
      return "a frame longer than the limit";
    case Error::kUnknownType:
      return "a frame of unknown type";
    case Error::kUnexpectedType:
      return "a frame that this end does not receive on this socket";
    case Error::kRow:
      return "a frame with a row that it cannot have";
    case Error::kBodySize:
      return "a frame whose body has the wrong size";
    case Error::kBodyContent:
      return "a frame whose body makes no sense";
  }
  return "?";
}

std::expected<Header, Error> parse_header(std::string_view bytes, Link link,
                                          std::uint32_t frame_bytes_max) {
  CHECK(bytes.size() == kHeaderBytes);
  const auto length = load<std::uint32_t>(bytes, 0);
  const auto type = load<std::uint8_t>(bytes, 4);
  if (length < kHeaderBytes) return std::unexpected(Error::kLengthTooSmall);
  const Rule* rule = rule_of(type);
  if (rule == nullptr) return std::unexpected(Error::kUnknownType);
  const auto row = load<std::uint16_t>(bytes, 6);
  if (row > (rule->type == Type::kCall ? kRowsMax : 0)) return std::unexpected(Error::kRow);
  if (rule->link != link) return std::unexpected(Error::kUnexpectedType);
  if (length > frame_bytes_max) return std::unexpected(Error::kLengthTooLarge);
  const auto body_bytes = static_cast<std::uint32_t>(length - kHeaderBytes);
  if (body_bytes < rule->body_min || body_bytes > rule->body_max) {
    return std::unexpected(Error::kBodySize);
  }
  return Header{.type = rule->type,
                .flags = load<std::uint8_t>(bytes, 5),
                .row = row,
                .body_bytes = body_bytes,
                .call = load<std::uint64_t>(bytes, 8)};
}

void write_header(char* out, const Header& header) {
  store<std::uint32_t>(out, static_cast<std::uint32_t>(kHeaderBytes + header.body_bytes));
  store<std::uint8_t>(out + 4, static_cast<std::uint8_t>(header.type));
  store<std::uint8_t>(out + 5, header.flags);
  store<std::uint16_t>(out + 6, header.row);
  store<std::uint64_t>(out + 8, header.call);
}

}  // namespace keelback::wire
