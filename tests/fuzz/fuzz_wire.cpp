// What a process on the other end of a worker's sockets sends. The first byte says on which socket
// it arrives and in how large pieces. Beyond "does not crash": pieces never matter, however they
// are received; no frame is longer than the limit; what decodes encodes to the same bytes.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "wire/decoder.h"
#include "wire/messages.h"

namespace {

using namespace keelback::wire;

constexpr std::uint32_t kLimit = frame_max(4096);

struct Read {
  std::vector<std::pair<Header, std::string>> frames;
  std::optional<Error> error;
  bool at_boundary = false;
  friend bool operator==(const Read&, const Read&) = default;
};

// In packets of `piece` bytes; `in_place`: a body's rest is received into the decoder's own buffer.
Read read(std::string_view bytes, Link link, std::size_t piece, bool in_place) {
  Decoder decoder(link, kLimit);
  Read out;
  while (!bytes.empty() && !out.error) {
    const std::string packet(bytes.substr(0, piece));  // dies after the round, as a real one does
    bytes.remove_prefix(packet.size());
    const std::span<char> room = in_place ? decoder.room() : std::span<char>();
    const std::size_t direct = std::min(room.size(), packet.size());
    if (direct > 0) std::memcpy(room.data(), packet.data(), direct);
    decoder.filled(direct);
    decoder.feed(std::string_view(packet).substr(direct));
    while (true) {
      const auto frame = decoder.next();
      if (!frame) {
        out.error = frame.error();
        return out;
      }
      if (!*frame) break;
      CHECK((*frame)->body.size() == (*frame)->header.body_bytes);
      CHECK(kHeaderBytes + (*frame)->body.size() <= kLimit);
      out.frames.emplace_back((*frame)->header, decoder.take_body());
    }
  }
  out.at_boundary = !out.error && decoder.at_boundary();
  return out;
}

std::string encoded(const Frame& frame) {
  std::string out;
  switch (frame.type()) {
    case Type::kCall:
      if (const auto message = decode_call(frame)) {
        CHECK(append_call_head(out, *message) ||
              message->function.size() + message->session.size() + message->trace.size() >
                  kHeadMax - 48);
        if (!out.empty()) out += message->payload;
      }
      return out;
    case Type::kSessionEnd:
      if (const auto message = decode_session_end(frame)) CHECK(append_session_end(out, *message));
      return out;
    case Type::kRestore:
      if (const auto message = decode_restore(frame)) {
        append_restore_head(out, frame.call(), message->format, message->state.size());
        out += message->state;
      }
      return out;
    case Type::kSave:
      if (const auto message = decode_save(frame)) CHECK(append_save(out, *message));
      return out;
    case Type::kSaved:
      if (const auto message = decode_saved(frame)) {
        append_saved(out, frame.call(), *message,
                     reply_flags(frame.unclean(), frame.interrupted()));
      }
      return out;
    case Type::kSnapshot:
      if (const auto message = decode_snapshot(frame)) append_snapshot(out, *message);
      return out;
    case Type::kBatch:
      if (const auto calls = decode_batch(frame)) append_batch(out, frame.call(), *calls);
      return out;
    case Type::kNested:
      if (const auto message = decode_nested(frame)) {
        CHECK(append_nested_head(out, *message) ||
              message->name.size() + message->session.size() > kHeadMax - 64);
        if (!out.empty()) out.append(message->payload);
      }
      return out;
    case Type::kNestedCancel:
      if (const auto request = decode_nested_cancel(frame)) {
        append_nested_cancel(out, frame.call(), *request);
      }
      return out;
    case Type::kOutcome:
      if (const auto message = decode_outcome(frame)) {
        append_outcome_head(out, *message);
        out.append(message->json);
      }
      return out;
    case Type::kChecked:
      if (const auto message = decode_checked(frame)) append_checked(out, *message);
      return out;
    case Type::kError:
      if (const auto message = decode_error(frame)) {
        append_error_head(out, frame.call(), *message,
                          reply_flags(frame.unclean(), frame.interrupted()));
        out += message->json;
      }
      return out;
    case Type::kCredit:
      append_credit(out, frame.call(), decode_credit(frame).value());
      return out;
    case Type::kAttach:
    case Type::kAttached:
      if (const auto message = decode_attachment(frame)) {
        CHECK(message->slab != 0 || message->inlined.size() == message->bytes);
        CHECK(append_attachment_head(out, frame.type(), *message));
        out += message->inlined;
      }
      return out;
    case Type::kSlab:
      if (const auto message = decode_slab(frame)) append_slab(out, *message);
      return out;
    case Type::kSlabWanted:
      append_slab_wanted(out, frame.call(), decode_slab_wanted(frame).value());
      return out;
    case Type::kSlabKept:
    case Type::kSlabFreed:
      append_slab_note(out, frame.type(), frame.call(), decode_slab_note(frame).value());
      return out;
    case Type::kConnect:
      append_connect(out, decode_connect(frame).value());
      return out;
    case Type::kPing:
      append_ping(out, decode_ping(frame).value(), frame.loop());
      return out;
    case Type::kPong:
      append_pong(out, decode_pong(frame).value(), frame.loop());
      return out;
    case Type::kCancel:
      append_cancel(out, frame.call());
      return out;
    case Type::kInterrupt:
      append_interrupt(out, frame.call());
      return out;
    case Type::kCheck:
      append_check(out);
      return out;
    case Type::kShutdown:
      append_shutdown(out);
      return out;
    case Type::kReady:
      append_ready(out);
      return out;
    case Type::kEnd:
      append_end(out, frame.call(), reply_flags(frame.unclean(), frame.interrupted()));
      return out;
    case Type::kHello:
    case Type::kStartFailed:
    case Type::kResult:
    case Type::kItem:
    case Type::kRetire:
      append_payload_head(out, frame.type(), frame.call(), frame.body.size(),
                          reply_flags(frame.unclean(), frame.interrupted()));
      out += frame.body;
      return out;
  }
  return out;
}

// What a type gives a meaning to, beside its row: its call, and these flags.
struct Meaning {
  bool call = true;
  std::uint8_t flags = 0;
};
Meaning meaning_of(Type type) {
  switch (type) {
    case Type::kResult:
    case Type::kError:
    case Type::kEnd:
    case Type::kSaved:
      return {.flags = kFlagUnclean | kFlagInterrupted};
    case Type::kPing:
    case Type::kPong:
      return {.call = false, .flags = kFlagLoop};
    case Type::kSessionEnd:
    case Type::kShutdown:
    case Type::kSave:
    case Type::kSlab:
    case Type::kCheck:
    case Type::kConnect:
    case Type::kReady:
    case Type::kSnapshot:
    case Type::kChecked:
      return {.call = false};
    default:
      return {};
  }
}

// What means nothing is not kept, nor are a CALL's unknown flags: its body is compared outside of
// its last fixed word.
void use(const Frame& frame, Link link) {
  const std::string again = encoded(frame);
  if (again.empty()) return;
  CHECK(again.size() == kHeaderBytes + frame.body.size());
  const auto header = parse_header(std::string_view(again).substr(0, kHeaderBytes), link, kLimit);
  CHECK(header.has_value());
  CHECK(header->type == frame.type() && header->row == frame.header.row);
  CHECK(header->row <= (frame.type() == Type::kCall ? kRowsMax : 0));
  const Meaning meaning = meaning_of(frame.type());
  CHECK(!meaning.call || header->call == frame.call());
  CHECK((header->flags & meaning.flags) == (frame.header.flags & meaning.flags));
  const std::string_view body = std::string_view(again).substr(kHeaderBytes);
  if (frame.type() == Type::kCall) {
    CHECK(body.substr(0, 30) == frame.body.substr(0, 30));
    CHECK(body.substr(32) == frame.body.substr(32));
  } else {
    CHECK(body == frame.body);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto link = static_cast<Link>(data[0] & 3);
  const std::size_t piece = std::size_t{data[0]} / 4 + 1;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Read whole = read(bytes, link, std::max<std::size_t>(bytes.size(), 1), false);
  CHECK(read(bytes, link, piece, false) == whole);
  CHECK(read(bytes, link, piece, true) == whole);
  for (const auto& [header, body] : whole.frames) use({header, body}, link);
  for (Packets plan(bytes.substr(0, piece), bytes); !plan.done(); plan.sent()) {
    CHECK(plan.packet().bytes() > 0 && plan.packet().bytes() <= kPacketMax);
  }
  return 0;
}
