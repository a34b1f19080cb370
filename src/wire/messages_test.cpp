#include "wire/messages.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>
#include <vector>

#include "wire/bytes.h"
#include "wire/decoder.h"

namespace keelback::wire {
namespace {

// The one frame that `bytes` must be.
Frame only_frame(std::string_view bytes, Link link) {
  Decoder decoder(link, UINT32_MAX);
  decoder.feed(bytes);
  const auto next = decoder.next();
  EXPECT_TRUE(next && *next && decoder.at_boundary());
  return next && *next ? **next : Frame{};
}

std::string encoded(const CallMessage& message) {
  std::string bytes;
  EXPECT_TRUE(append_call_head(bytes, message));
  return bytes.append(message.payload);
}

// Goal: the bytes of a CALL are those of the table in docs/protocol.md, field by field.
TEST(Messages, WritesACallByteForByte) {
  const std::string bytes = encoded({.call = 0x0807060504030201,
                                     .deadline_ns = 0x11,
                                     .birth = 0x22,
                                     .epoch = 0x33,
                                     .attempt = 0x44,
                                     .opens = true,
                                     .stream = true,
                                     .function = "fn",
                                     .session = "s",
                                     .trace = "t0",
                                     .payload = "[1]"});
  using namespace std::string_literals;
  EXPECT_EQ(bytes,
            "\x38\0\0\0"s  // length 56
            "\x01\0\0\0"s  // CALL, no flags, zero
            "\x01\x02\x03\x04\x05\x06\x07\x08"s
            "\x11\0\0\0\0\0\0\0\x22\0\0\0\0\0\0\0\x33\0\0\0\x44\0\0\0"s
            "\x02\0\x01\0\x02\0\x03\0"s
            "fnst0[1]"s);
}

// Goal: a batch has from one call to as many as there are rows.
TEST(Messages, ABatchHasAsManyCallsAsThereAreRows) {
  for (const std::uint32_t calls : {1U, 2U, 1024U, 0U, 1025U}) {
    std::string bytes;
    append_batch(bytes, 7, calls);
    const Frame frame = only_frame(bytes, Link::kWorkerData);
    EXPECT_EQ(frame.type(), Type::kBatch);
    EXPECT_EQ(frame.call(), 7u);
    const auto decoded = decode_batch(frame);
    if (calls >= 1 && calls <= 1024) {
      EXPECT_EQ(decoded, calls);
    } else {
      EXPECT_FALSE(decoded);
    }
  }
}

// Goal: the bytes of an ATTACH are those of the table in docs/protocol.md, field by field.
TEST(Messages, WritesAnAttachmentByteForByte) {
  using namespace std::string_literals;
  std::string bytes;
  ASSERT_TRUE(append_attachment_head(bytes, Type::kAttach,
                                     {.call = 7,
                                      .bytes = 3,
                                      .shape = {3},
                                      .dtype = "u1",
                                      .name = "x",
                                      .filename = "f.b",
                                      .content_type = "a/b"}));
  bytes += "abc";
  EXPECT_EQ(bytes,
            "\x40\0\0\0\x08\0\0\0\x07\0\0\0\0\0\0\0"s  // length 64, ATTACH, call 7
            "\0\0\0\0\x02\x01\x01\0"s                  // slab, dtype_len, dims, name_len
            "\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0"s      // offset, bytes
            "\x03\0\x03\0"s                            // filename_len, type_len
            "\x03\0\0\0\0\0\0\0u1xf.ba/babc"s);
  const Frame frame = only_frame(bytes, Link::kWorkerData);
  const auto message = decode_attachment(frame);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->name, "x");
  EXPECT_EQ(message->dtype, "u1");
  EXPECT_EQ(message->shape, std::vector<std::uint64_t>{3});
  EXPECT_EQ(message->filename, "f.b");
  EXPECT_EQ(message->content_type, "a/b");
  EXPECT_EQ(message->inlined, "abc");
}

TEST(Messages, RoundTripsAnyAttachment) {
  const bool held = rc::check("attachment", [] {
    const auto name = *rc::gen::arbitrary<std::string>();
    const auto inlined = *rc::gen::arbitrary<std::string>();
    const auto filename = *rc::gen::arbitrary<std::string>();
    const auto content_type = *rc::gen::arbitrary<std::string>();
    RC_PRE(name.size() <= kAttachmentNameMax && content_type.size() <= kAttachmentContentTypeMax);
    const bool in_slab = *rc::gen::arbitrary<bool>();
    AttachmentMessage message{
        .call = *rc::gen::arbitrary<std::uint64_t>(),
        .slab = in_slab ? *rc::gen::inRange<std::uint32_t>(1, UINT32_MAX) : 0,
        .offset = in_slab ? *rc::gen::inRange<std::uint64_t>(0, 1ULL << 60) : 0,
        .bytes = in_slab ? *rc::gen::inRange<std::uint64_t>(0, 1ULL << 60) : inlined.size(),
        .name = name,
        .filename = filename,
        .content_type = content_type,
        .inlined = in_slab ? std::string_view{} : std::string_view(inlined)};
    if (*rc::gen::arbitrary<bool>()) {  // an array, in one piece or in more
      message.dtype = "uint8";
      message.shape = {message.bytes};
      const auto extents = *rc::gen::inRange<std::size_t>(1, kAttachmentDimsMax + 1);
      message.shape.insert(message.shape.begin(), extents - 1, 1);
    }
    std::string bytes;
    RC_ASSERT(append_attachment_head(bytes, Type::kAttached, message));
    bytes += message.inlined;
    const auto back = decode_attachment(only_frame(bytes, Link::kSupervisorData));
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == message);
  });
  EXPECT_TRUE(held);
}

// Goal: whatever a peer writes into the counts and offsets, nothing outside of the frame is meant.
TEST(Messages, RefusesAttachmentsThatContradictThemselves) {
  std::string good;
  ASSERT_TRUE(append_attachment_head(
      good, Type::kAttached, {.call = 7, .bytes = 3, .shape = {3}, .dtype = "u1", .name = "x"}));
  good += "abc";
  const auto refused = [&](std::size_t at, char value) {
    std::string bad = good;
    bad[kHeaderBytes + at] = value;
    return !decode_attachment(only_frame(bad, Link::kSupervisorData)).has_value();
  };
  EXPECT_FALSE(refused(0, 0));
  EXPECT_TRUE(refused(0, 1)) << "in a slab, and in the frame as well";
  EXPECT_TRUE(refused(4, 33)) << "dtype_len";
  EXPECT_TRUE(refused(4, 3)) << "one byte of the bytes is missing";
  EXPECT_TRUE(refused(5, 17)) << "dims";
  EXPECT_TRUE(refused(6, 100)) << "name_len beyond the frame";
  EXPECT_TRUE(refused(8, 1)) << "an offset into nothing";
  EXPECT_TRUE(refused(16, 4)) << "more bytes than there are";
  EXPECT_TRUE(refused(24, 1)) << "filename_len: one byte of the bytes is missing";
  EXPECT_TRUE(refused(25, 5)) << "filename_len beyond the maximum";
  EXPECT_TRUE(refused(26, 1)) << "type_len";
  EXPECT_TRUE(refused(27, 2)) << "type_len beyond the maximum";
  std::string wraps;
  ASSERT_TRUE(append_attachment_head(wraps, Type::kAttached,
                                     {.call = 7, .slab = 1, .offset = UINT64_MAX, .bytes = 2}));
  EXPECT_FALSE(decode_attachment(only_frame(wraps, Link::kSupervisorData)));
  std::string array;
  const AttachmentMessage none{.call = 7, .bytes = 8, .shape = {1}, .dtype = "object"};
  EXPECT_FALSE(append_attachment_head(array, Type::kAttach, none));
  std::string unknown = good;
  unknown[kHeaderBytes + kAttachmentFixedBytes + 8] = 'x';
  EXPECT_FALSE(decode_attachment(only_frame(unknown, Link::kSupervisorData))) << "dtype x1";
  EXPECT_TRUE(refused(kAttachmentFixedBytes, 4)) << "an extent too large";
  const std::string long_name(257, 'n');
  EXPECT_FALSE(append_attachment_head(wraps, Type::kAttach, {.name = long_name}));
  EXPECT_FALSE(append_attachment_head(wraps, Type::kAttach, {.content_type = long_name}));
  const std::string long_file(1025, 'n');
  EXPECT_FALSE(append_attachment_head(wraps, Type::kAttach, {.filename = long_file}));
}

TEST(Messages, RoundTripsWhatIsSaidOfSlabs) {
  std::string bytes;
  append_slab(bytes, {SlabOp::kComing, 9, 1 << 20});
  EXPECT_EQ(decode_slab(only_frame(bytes, Link::kWorkerData)),
            (SlabMessage{SlabOp::kComing, 9, 1 << 20}));
  bytes[kHeaderBytes] = 5;
  EXPECT_FALSE(decode_slab(only_frame(bytes, Link::kWorkerData))) << "no such op";
  bytes.clear();
  append_slab_wanted(bytes, 7, 65536);
  EXPECT_EQ(decode_slab_wanted(only_frame(bytes, Link::kSupervisorData)), 65536u);
  bytes.clear();
  append_slab_note(bytes, Type::kSlabKept, 7, 3);
  EXPECT_EQ(decode_slab_note(only_frame(bytes, Link::kSupervisorData)), 3u);
}

TEST(Messages, RoundTripsAnyCall) {
  const bool held = rc::check("call", [] {
    const auto function = *rc::gen::arbitrary<std::string>();
    const auto session = *rc::gen::arbitrary<std::string>();
    const auto trace = *rc::gen::arbitrary<std::string>();
    const auto payload = *rc::gen::arbitrary<std::string>();
    const CallMessage message{.call = *rc::gen::arbitrary<std::uint64_t>(),
                              .row = *rc::gen::inRange<std::uint16_t>(0, kRowsMax + 1),
                              .deadline_ns = *rc::gen::arbitrary<std::int64_t>(),
                              .birth = *rc::gen::arbitrary<std::uint64_t>(),
                              .epoch = *rc::gen::arbitrary<std::uint32_t>(),
                              .attempt = *rc::gen::arbitrary<std::uint32_t>(),
                              .opens = *rc::gen::arbitrary<bool>(),
                              .stream = *rc::gen::arbitrary<bool>(),
                              .attached = *rc::gen::arbitrary<bool>(),
                              .restores = *rc::gen::arbitrary<bool>(),
                              .saves = *rc::gen::arbitrary<bool>(),
                              .function = function,
                              .session = session,
                              .trace = trace,
                              .payload = payload};
    std::string bytes = "kept";  // encoders append
    RC_ASSERT(append_call_head(bytes, message));
    bytes += payload;
    const auto decoded =
        decode_call(only_frame(std::string_view(bytes).substr(4), Link::kWorkerData));
    RC_ASSERT(decoded.has_value());
    RC_ASSERT(*decoded == message);
  });
  EXPECT_TRUE(held);
}

// Goal: names up to what a head may hold, and not one byte more; nothing is written on refusal.
TEST(Messages, RefusesNamesThatDoNotFit) {
  constexpr std::size_t kRoom = kHeadMax - kHeaderBytes - kCallFixedBytes;
  const std::string most(kRoom, 'n');
  const std::string over(kRoom + 1, 'n');
  std::string bytes;
  EXPECT_TRUE(append_call_head(bytes, {.call = 1, .function = most}));
  EXPECT_EQ(bytes.size(), kHeadMax);
  const auto decoded = decode_call(only_frame(bytes, Link::kWorkerData));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->function, most);
  bytes.clear();
  EXPECT_FALSE(append_call_head(bytes, {.call = 1, .function = over}));
  EXPECT_FALSE(append_call_head(bytes, {.call = 1, .function = "f", .session = most}));
  EXPECT_FALSE(append_call_head(bytes, {.function = "f", .trace = std::string(65536, 't')}));
  EXPECT_FALSE(append_session_end(bytes, {.session = std::string(65536, 's')}));
  EXPECT_TRUE(bytes.empty());
}

// Goal: lengths that reach past the body are refused, whichever of them lies.
TEST(Messages, RefusesACallWhoseStringsReachPastItsEnd) {
  const std::string good = encoded({.call = 1, .function = "fn", .session = "s", .trace = "t"});
  ASSERT_TRUE(decode_call(only_frame(good, Link::kWorkerData)));
  for (const std::size_t field : {24, 26, 28}) {
    for (const std::uint16_t length : {5, 65535}) {
      std::string bad = good;
      store(bad.data() + kHeaderBytes + field, length);
      const auto decoded = decode_call(only_frame(bad, Link::kWorkerData));
      ASSERT_FALSE(decoded) << field;
      EXPECT_EQ(decoded.error(), Error::kBodyContent);
    }
  }
}

TEST(Messages, RoundTripsEveryOtherMessage) {
  std::string bytes;
  const auto one = [&](Link link) { return only_frame(bytes, link); };

  for (int reason = 0; reason <= 5; ++reason) {
    bytes.clear();
    const SessionEndMessage end{
        .birth = 1ull << 63, .reason = static_cast<SessionEnd>(reason), .session = "ann"};
    ASSERT_TRUE(append_session_end(bytes, end));
    EXPECT_EQ(decode_session_end(one(Link::kWorkerData)), end);
  }
  bytes[kHeaderBytes + 8] = 6;
  EXPECT_FALSE(decode_session_end(one(Link::kWorkerData)));

  bytes.clear();
  append_credit(bytes, 9, 0xfffffffe);
  EXPECT_EQ(decode_credit(one(Link::kWorkerData)), 0xfffffffeu);
  EXPECT_EQ(one(Link::kWorkerData).call(), 9u);

  for (const bool loop : {false, true}) {
    bytes.clear();
    append_ping(bytes, UINT64_MAX, loop);
    EXPECT_EQ(decode_ping(one(Link::kWorkerControl)), UINT64_MAX);
    EXPECT_EQ(one(Link::kWorkerControl).loop(), loop);
    bytes.clear();
    append_pong(bytes, {.token = 3, .running = 4}, loop);
    EXPECT_EQ(decode_pong(one(Link::kSupervisorControl)), (PongMessage{.token = 3, .running = 4}));
    EXPECT_EQ(one(Link::kSupervisorControl).loop(), loop);
  }
  bytes.clear();
  append_cancel(bytes, 12);
  EXPECT_EQ(one(Link::kWorkerControl).type(), Type::kCancel);
  EXPECT_EQ(one(Link::kWorkerControl).call(), 12u);
  bytes.clear();
  append_interrupt(bytes, 13);
  EXPECT_EQ(one(Link::kWorkerControl).type(), Type::kInterrupt);
  EXPECT_EQ(one(Link::kWorkerControl).call(), 13u);

  bytes.clear();
  append_check(bytes);
  EXPECT_EQ(one(Link::kWorkerData).type(), Type::kCheck);
  for (const bool healthy : {false, true}) {
    bytes.clear();
    const CheckedMessage checked{.healthy = healthy, .reason = healthy ? "" : "it fails"};
    append_checked(bytes, checked);
    EXPECT_EQ(decode_checked(one(Link::kSupervisorData)), checked);
  }
  bytes[kHeaderBytes] = 2;
  EXPECT_FALSE(decode_checked(one(Link::kSupervisorData)));

  bytes.clear();
  append_connect(bytes, kVersion);
  EXPECT_EQ(decode_connect(one(Link::kSupervisorData)), kVersion);
  bytes.clear();
  append_ready(bytes);
  EXPECT_EQ(one(Link::kSupervisorData).type(), Type::kReady);
  bytes.clear();
  append_shutdown(bytes);
  EXPECT_EQ(one(Link::kWorkerData).type(), Type::kShutdown);
  bytes.clear();
  append_end(bytes, 5, kFlagUnclean);
  EXPECT_TRUE(one(Link::kSupervisorData).unclean());
  EXPECT_FALSE(one(Link::kSupervisorData).interrupted());
  bytes.clear();
  append_end(bytes, 5, kFlagInterrupted);
  EXPECT_FALSE(one(Link::kSupervisorData).unclean());
  EXPECT_TRUE(one(Link::kSupervisorData).interrupted());

  for (const int kind : {1, 2, 3, 4}) {
    bytes.clear();
    const ErrorMessage error{.kind = static_cast<ErrorKind>(kind), .json = "{}"};
    append_error_head(bytes, 6, error, reply_flags(kind == 2, kind == 3));
    bytes += error.json;
    EXPECT_EQ(decode_error(one(Link::kSupervisorData)), error);
    EXPECT_EQ(one(Link::kSupervisorData).unclean(), kind == 2);
    EXPECT_EQ(one(Link::kSupervisorData).interrupted(), kind == 3);
  }
  for (const char kind : {'\0', '\5'}) {
    bytes[kHeaderBytes] = kind;
    EXPECT_FALSE(decode_error(one(Link::kSupervisorData))) << int{kind};
  }
}

TEST(Messages, RoundTripsWhatCarriesASessionsState) {
  std::string bytes;
  const auto one = [&](Link link) { return only_frame(bytes, link); };

  append_restore_head(bytes, 9, StateFormat::kBytes, 4);
  bytes.append("\0{}\xff", 4);
  EXPECT_EQ(decode_restore(one(Link::kWorkerData)),
            (RestoreMessage{.format = StateFormat::kBytes, .state = {"\0{}\xff", 4}}));
  EXPECT_EQ(one(Link::kWorkerData).call(), 9u);
  for (const char format : {'\0', '\3'}) {
    bytes[kHeaderBytes] = format;
    EXPECT_FALSE(decode_restore(one(Link::kWorkerData))) << int{format};
  }

  bytes.clear();
  const SaveMessage save{.birth = 1ull << 63, .epoch = 7, .session = "ann"};
  ASSERT_TRUE(append_save(bytes, save));
  EXPECT_EQ(decode_save(one(Link::kWorkerData)), save);

  for (const Type answer : {Type::kResult, Type::kError, Type::kEnd}) {
    bytes.clear();
    const SavedMessage saved{
        .answer = answer, .format = StateFormat::kNone, .state = "why", .body = "body"};
    append_saved(bytes, 5, saved, reply_flags(answer == Type::kError, answer == Type::kEnd));
    EXPECT_EQ(decode_saved(one(Link::kSupervisorData)), saved);
    EXPECT_EQ(one(Link::kSupervisorData).unclean(), answer == Type::kError);
    EXPECT_EQ(one(Link::kSupervisorData).interrupted(), answer == Type::kEnd);
  }
  for (const std::size_t at : {0u, 1u, 2u, 3u, 7u}) {  // answer, format, zero, a length beyond it
    std::string bad = bytes;
    bad[kHeaderBytes + at] = '\x7f';
    std::swap(bad, bytes);
    const auto decoded = decode_saved(one(Link::kSupervisorData));
    ASSERT_FALSE(decoded) << at;
    EXPECT_EQ(decoded.error(), Error::kBodyContent);
    std::swap(bad, bytes);
  }

  bytes.clear();
  const SnapshotMessage snapshot{.birth = 3,
                                 .epoch = 4,
                                 .format = StateFormat::kJson,
                                 .session = "bob",
                                 .state = R"({"calls":1})"};
  append_snapshot(bytes, snapshot);
  EXPECT_EQ(decode_snapshot(one(Link::kSupervisorData)), snapshot);
  for (const std::size_t at : {13u, 14u, 15u}) {  // a length beyond it, format, zero
    std::string bad = bytes;
    bad[kHeaderBytes + at] = '\x7f';
    std::swap(bad, bytes);
    const auto decoded = decode_snapshot(one(Link::kSupervisorData));
    ASSERT_FALSE(decoded) << at;
    EXPECT_EQ(decoded.error(), Error::kBodyContent);
    std::swap(bad, bytes);
  }
}

// Goal: the bytes of the frames of nested calls are those of docs/protocol.md, field by field.
TEST(Messages, WritesNestedCallsByteForByte) {
  using namespace std::string_literals;
  std::string bytes;
  ASSERT_TRUE(append_nested_head(bytes, {.parent = 7,
                                         .request = 0x0102,
                                         .timeout_ns = 0x11,
                                         .target = NestedTarget::kFunction,
                                         .name = "fn",
                                         .session = "s",
                                         .payload = "[1]"}));
  EXPECT_EQ(bytes.append("[1]"),
            "\x2e\0\0\0\x22\0\0\0\x07\0\0\0\0\0\0\0"s
            "\x02\x01\0\0\0\0\0\0\x11\0\0\0\0\0\0\0"s
            "\x02\0\x01\0\x01\0\0\0"s
            "fns[1]"s);
  bytes.clear();
  append_nested_cancel(bytes, 7, 0x0102);
  EXPECT_EQ(bytes, "\x18\0\0\0\x23\0\0\0\x07\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0"s);
  bytes.clear();
  append_outcome_head(bytes, {.parent = 7, .request = 0x0102, .ok = true, .json = "5"});
  EXPECT_EQ(bytes.append("5"),
            "\x21\0\0\0\x0b\0\0\0\x07\0\0\0\0\0\0\0"s
            "\x02\x01\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"s
            "5"s);
}

TEST(Messages, RoundTripsNestedCallsAndRefusesWhatTheyCannotBe) {
  std::string bytes;
  const auto one = [&](Link link) { return only_frame(bytes, link); };
  const auto refused = [&](std::size_t at, char value, auto decode, Link link) {
    std::string bad = bytes;
    bad[at] = value;
    const auto decoded = decode(only_frame(bad, link));
    return !decoded && decoded.error() == Error::kBodyContent;
  };
  for (const auto target : {NestedTarget::kFunction, NestedTarget::kHost}) {
    bytes.clear();
    const NestedMessage nested{.parent = 7,
                               .request = 1,
                               .timeout_ns = INT64_MAX,
                               .target = target,
                               .name = "lookup",
                               .session = target == NestedTarget::kHost ? "" : "ann",
                               .payload = "{}"};
    ASSERT_TRUE(append_nested_head(bytes, nested));
    bytes += nested.payload;
    EXPECT_EQ(decode_nested(one(Link::kSupervisorData)), nested);
    struct Bad {
      std::size_t at;
      char value;
      const char* what;
    };
    for (const Bad& bad :
         {Bad{8, 0, "no parent"}, Bad{16, 0, "no request"}, Bad{31, '\x80', "a timeout below 0"},
          Bad{32, 0, "no name"}, Bad{33, '\x7f', "a name beyond it"},
          Bad{35, '\x7f', "a session beyond it"}, Bad{36, 0, "no target"}, Bad{36, 3, "no target"},
          Bad{37, 1, "zero"}, Bad{38, 1, "zero"}, Bad{39, 1, "zero"}}) {
      EXPECT_TRUE(refused(bad.at, bad.value, decode_nested, Link::kSupervisorData)) << bad.what;
    }
  }
  EXPECT_TRUE(refused(34, 1, decode_nested, Link::kSupervisorData)) << "a host has no sessions";
  bytes.clear();
  EXPECT_FALSE(append_nested_head(bytes, {.parent = 7, .name = std::string(UINT16_MAX + 1, 'n')}));
  EXPECT_TRUE(bytes.empty());

  append_nested_cancel(bytes, 7, UINT64_MAX);
  EXPECT_EQ(decode_nested_cancel(one(Link::kSupervisorData)), UINT64_MAX);
  bytes.clear();
  append_nested_cancel(bytes, 7, 1);
  EXPECT_TRUE(refused(8, 0, decode_nested_cancel, Link::kSupervisorData)) << "no parent";
  EXPECT_TRUE(refused(16, 0, decode_nested_cancel, Link::kSupervisorData)) << "no request";

  for (const bool ok : {false, true}) {
    bytes.clear();
    const OutcomeMessage outcome{.parent = 7, .request = 9, .ok = ok, .json = "null"};
    append_outcome_head(bytes, outcome);
    bytes += outcome.json;
    EXPECT_EQ(decode_outcome(one(Link::kWorkerData)), outcome);
  }
  for (const std::size_t at : {8u, 16u}) {
    EXPECT_TRUE(refused(at, 0, decode_outcome, Link::kWorkerData)) << "no parent, no request";
  }
  for (std::size_t at = 24; at < 32; ++at) {
    EXPECT_TRUE(refused(at, 2, decode_outcome, Link::kWorkerData)) << at;
  }
}

// Goal: decoders are safe on a frame that did not come through a Decoder.
TEST(Messages, RefusesBodiesOfTheWrongSize) {
  const Frame empty{};
  EXPECT_FALSE(decode_call(empty));
  EXPECT_FALSE(decode_session_end(empty));
  EXPECT_FALSE(decode_credit(empty));
  EXPECT_FALSE(decode_ping(empty));
  EXPECT_FALSE(decode_connect(empty));
  EXPECT_FALSE(decode_error(empty));
  EXPECT_FALSE(decode_pong(empty));
  EXPECT_FALSE(decode_nested(empty));
  EXPECT_FALSE(decode_nested_cancel(empty));
  EXPECT_FALSE(decode_outcome(empty));
}

// Goal: no packet over the limit, none empty, all bytes in order, as few packets as possible.
TEST(Packets, SplitsAtTheLimitExactly) {
  for (const std::size_t head_bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{48}, kPacketMax - 1, kPacketMax}) {
    for (const std::size_t payload_bytes :
         {std::size_t{0}, std::size_t{1}, kPacketMax - 49, kPacketMax - 48, kPacketMax - 47,
          kPacketMax, 3 * kPacketMax + 5}) {
      const std::string head(head_bytes, 'h');
      const std::string payload(payload_bytes, 'p');
      const std::size_t total = head_bytes + payload_bytes;
      std::string sent;
      std::size_t packets = 0;
      for (Packets plan(head, payload); !plan.done(); plan.sent()) {
        const Packets::Packet packet = plan.packet();
        ASSERT_GT(packet.count, 0u);
        ASSERT_LE(packet.bytes(), kPacketMax);
        for (std::size_t i = 0; i < packet.count; ++i) {
          ASSERT_FALSE(packet.parts[i].empty());
          sent += packet.parts[i];
        }
        ++packets;
      }
      EXPECT_EQ(sent, head + payload);
      EXPECT_EQ(packets, (total + kPacketMax - 1) / kPacketMax)
          << head_bytes << " " << payload_bytes;
    }
  }
}

}  // namespace
}  // namespace keelback::wire
