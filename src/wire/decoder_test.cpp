#include "wire/decoder.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "wire/bytes.h"
#include "wire/messages.h"

namespace keelback::wire {
namespace {

constexpr std::uint32_t kLimit = frame_max(1 << 20);

struct Got {
  Header header;
  std::string body;
  friend bool operator==(const Got&, const Got&) = default;
};

std::string frame(Type type, std::string_view body, std::uint64_t call = 7) {
  std::string bytes;
  append_payload_head(bytes, type, call, body.size());
  return bytes.append(body);
}

// Takes every frame out of what was fed; false on an error.
bool drain(Decoder& decoder, std::vector<Got>& out) {
  while (true) {
    auto next = decoder.next();
    if (!next) return false;
    if (!*next) return true;
    out.push_back({(*next)->header, std::string((*next)->body)});
  }
}

Error error_of(std::string_view bytes, Link link = Link::kSupervisorData,
               std::uint32_t limit = kLimit) {
  Decoder decoder(link, limit);
  decoder.feed(bytes);
  std::vector<Got> got;
  EXPECT_FALSE(drain(decoder, got)) << "accepted " << got.size() << " frames";
  auto again = decoder.next();
  EXPECT_FALSE(again) << "an error is final";
  return again ? Error{255} : again.error();
}

// Goal: where packets are cut never matters. One stream of every shape of frame, cut at every byte.
TEST(Decoder, GivesTheSameFramesWhereverThePacketIsCut) {
  std::string stream;
  append_connect(stream, 1);
  stream += frame(Type::kHello, "{}", 0);
  append_ready(stream);
  stream += frame(Type::kResult, "") + frame(Type::kItem, "x") + frame(Type::kResult, "hello");
  Decoder whole(Link::kSupervisorData, kLimit);
  whole.feed(stream);
  std::vector<Got> expected;
  ASSERT_TRUE(drain(whole, expected));
  ASSERT_EQ(expected.size(), 6u);
  EXPECT_TRUE(whole.at_boundary());

  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    Decoder decoder(Link::kSupervisorData, kLimit);
    std::vector<Got> got;
    decoder.feed(std::string_view(stream).substr(0, cut));
    ASSERT_TRUE(drain(decoder, got));
    decoder.feed(std::string_view(stream).substr(cut));
    ASSERT_TRUE(drain(decoder, got));
    EXPECT_EQ(got, expected) << "cut at " << cut;
    EXPECT_TRUE(decoder.at_boundary());
  }
}

// Goal: the same, one byte at a time: headers and bodies in as many pieces as there can be.
TEST(Decoder, AssemblesFramesFromSingleBytes) {
  const std::string stream = frame(Type::kResult, "abc", 1) + frame(Type::kItem, "defg", 2);
  Decoder decoder(Link::kSupervisorData, kLimit);
  std::vector<Got> got;
  for (const char& byte : stream) {
    decoder.feed({&byte, 1});
    ASSERT_TRUE(drain(decoder, got));
    EXPECT_EQ(decoder.at_boundary(), &byte == &stream[18] || &byte == &stream.back());
  }
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].body, "abc");
  EXPECT_EQ(got[1].body, "defg");
  EXPECT_EQ(got[1].header.call, 2u);
}

// Goal: a frame that lies whole in its packet is not copied.
TEST(Decoder, HandsOutAWholeFrameWhereItLies) {
  const std::string stream = frame(Type::kResult, "first") + frame(Type::kResult, "second");
  Decoder decoder(Link::kSupervisorData, kLimit);
  decoder.feed(stream);
  const auto first = decoder.next();
  ASSERT_TRUE(first && *first);
  EXPECT_EQ((*first)->body.data(), stream.data() + kHeaderBytes);
  EXPECT_EQ(decoder.take_body(), "first");
  const auto second = decoder.next();
  ASSERT_TRUE(second && *second);
  EXPECT_EQ(decoder.take_body(), "second");
}

// Goal: a large body is received straight into the buffer that the caller then owns.
TEST(Decoder, ReceivesTheRestOfALargeFrameInPlaceAndMovesItOut) {
  const std::string body(300'000, 'b');
  const std::string bytes = frame(Type::kResult, body) + frame(Type::kItem, "tail");
  Decoder decoder(Link::kSupervisorData, kLimit);
  EXPECT_TRUE(decoder.room().empty());
  decoder.feed(std::string_view(bytes).substr(0, kPacketMax));
  auto next = decoder.next();
  ASSERT_TRUE(next && !*next);
  std::size_t at = kPacketMax;
  const char* where = nullptr;
  while (true) {
    const std::span<char> room = decoder.room();
    const std::size_t packet = std::min(kPacketMax, bytes.size() - at);
    const std::size_t direct = std::min(packet, room.size());
    ASSERT_GT(direct, 0u);
    std::memcpy(room.data(), bytes.data() + at, direct);
    where = room.data() + direct;
    decoder.filled(direct);
    decoder.feed(std::string_view(bytes).substr(at + direct, packet - direct));
    at += packet;
    next = decoder.next();
    ASSERT_TRUE(next);
    if (*next) break;
  }
  EXPECT_EQ((*next)->body.data() + body.size(), where);
  const char* const assembled = (*next)->body.data();
  const std::string taken = decoder.take_body();
  EXPECT_EQ(taken.data(), assembled) << "moved, not copied";
  EXPECT_EQ(taken, body);
  next = decoder.next();
  ASSERT_TRUE(next && *next);
  EXPECT_EQ((*next)->body, "tail");
  EXPECT_TRUE(decoder.at_boundary());
}

// Goal: the limit is exact: the longest frame passes, one byte more does not, and the check is made
// on the header, before anything is allocated.
TEST(Decoder, TakesTheLongestFrameAndRefusesOneByteMore) {
  constexpr std::uint32_t kSmall = frame_max(100);
  const std::string longest(kSmall - kHeaderBytes, 'x');
  Decoder decoder(Link::kSupervisorData, kSmall);
  const std::string fits = frame(Type::kResult, longest);
  decoder.feed(fits);
  std::vector<Got> got;
  EXPECT_TRUE(drain(decoder, got));
  EXPECT_EQ(got.size(), 1u);
  const std::string over = frame(Type::kResult, longest + "x").substr(0, kHeaderBytes);
  EXPECT_EQ(error_of(over, Link::kSupervisorData, kSmall), Error::kLengthTooLarge);

  decoder.set_frame_max(kSmall + 1);
  decoder.feed(over);
  EXPECT_TRUE(drain(decoder, got)) << "a raised limit applies from the next header on";
  EXPECT_FALSE(decoder.at_boundary());
}

TEST(Decoder, SaturatesTheLimitAtWhatALengthCanSay) {
  static_assert(frame_max(0) == kHeadMax);
  static_assert(frame_max(UINT32_MAX - kHeadMax) == UINT32_MAX);
  static_assert(frame_max(UINT32_MAX - kHeadMax + 1) == UINT32_MAX);
  static_assert(frame_max(UINT64_MAX) == UINT32_MAX);
}

// Goal: every way in which a header can be wrong is seen, with its own name.
TEST(Decoder, RefusesEveryWrongHeader) {
  const auto edited = [](std::size_t offset, auto value) {
    std::string bytes = frame(Type::kResult, "body");
    store(bytes.data() + offset, value);
    return bytes;
  };
  EXPECT_EQ(error_of(edited(0, std::uint32_t{15})), Error::kLengthTooSmall);
  EXPECT_EQ(error_of(edited(0, std::uint32_t{0})), Error::kLengthTooSmall);
  EXPECT_EQ(error_of(edited(0, UINT32_MAX)), Error::kLengthTooLarge);
  EXPECT_EQ(error_of(edited(6, std::uint16_t{1})), Error::kRow);
  EXPECT_EQ(error_of(edited(6, std::uint16_t{0x8000})), Error::kRow);
  std::string call;
  ASSERT_TRUE(append_call_head(call, {.call = 1, .function = "f"}));
  EXPECT_EQ(error_of(call), Error::kUnexpectedType);
  std::string pong;
  append_pong(pong, {});
  EXPECT_EQ(error_of(pong), Error::kUnexpectedType) << "not on the data socket";
}

// Goal: a CALL may have a row from 0 to the last one, and no other frame has one.
TEST(Decoder, TakesARowOnlyInACall) {
  const auto taken = [](Link link, Type type, std::uint16_t row, std::uint32_t body) {
    char header[kHeaderBytes];
    write_header(header, {.type = type, .row = row, .body_bytes = body});
    const auto parsed = parse_header({header, kHeaderBytes}, link, kLimit);
    return parsed ? std::optional(parsed->row) : std::nullopt;
  };
  for (const std::uint16_t row : {std::uint16_t{0}, std::uint16_t{1}, std::uint16_t{256}, kRowsMax})
    EXPECT_EQ(taken(Link::kWorkerData, Type::kCall, row, 32), row);
  EXPECT_FALSE(taken(Link::kWorkerData, Type::kCall, kRowsMax + 1, 32));
  EXPECT_FALSE(taken(Link::kWorkerData, Type::kCall, UINT16_MAX, 32));
  EXPECT_TRUE(taken(Link::kWorkerData, Type::kCredit, 0, 4));
  EXPECT_FALSE(taken(Link::kWorkerData, Type::kCredit, 1, 4));
  EXPECT_FALSE(taken(Link::kWorkerControl, Type::kInterrupt, 1, 0));
  EXPECT_FALSE(taken(Link::kWorkerControl, Type::kPing, 1, 8));
  EXPECT_FALSE(taken(Link::kSupervisorData, Type::kResult, 1, 4));
}

// Goal: all 256 types on all four links: known ones are taken where they belong, nothing else is.
TEST(Decoder, TakesEachTypeOnlyWhereItBelongs) {
  const auto belongs = [](Link link) -> std::vector<int> {
    switch (link) {
      case Link::kWorkerData:
        return {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
      case Link::kWorkerControl:
        return {48, 50, 51};
      case Link::kSupervisorData:
        return {16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 31, 32, 33, 34, 35};
      case Link::kSupervisorControl:
        return {49};
    }
    return {};
  };
  const std::vector<int> known = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                  16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 28,
                                  29, 30, 31, 32, 33, 34, 35, 48, 49, 50, 51};
  for (const Link link :
       {Link::kWorkerData, Link::kWorkerControl, Link::kSupervisorData, Link::kSupervisorControl}) {
    const std::vector<int> here = belongs(link);
    for (int type = 0; type < 256; ++type) {
      char header[kHeaderBytes] = {};
      store<std::uint32_t>(header, kHeaderBytes + 40);
      header[4] = static_cast<char>(type);
      const auto parsed = parse_header({header, kHeaderBytes}, link, kLimit);
      if (std::ranges::find(known, type) == known.end()) {
        ASSERT_FALSE(parsed) << type;
        EXPECT_EQ(parsed.error(), Error::kUnknownType) << type;
      } else if (std::ranges::find(here, type) == here.end()) {
        ASSERT_FALSE(parsed) << type;
        EXPECT_EQ(parsed.error(), Error::kUnexpectedType) << type;
      } else {
        EXPECT_TRUE(parsed || parsed.error() == Error::kBodySize) << type;
        EXPECT_NE(to_string(static_cast<Type>(type)), "?");
      }
    }
  }
  EXPECT_EQ(to_string(Type{15}), "?");
}

// Goal: a body of impossible size is refused on its header: at the bound, and one past it.
TEST(Decoder, KnowsHowLongEachBodyMayBe) {
  struct Row {
    Type type;
    Link link;
    std::uint32_t least, most;
  };
  const Row rows[] = {
      {Type::kCall, Link::kWorkerData, 32, kLimit - 16},
      {Type::kSessionEnd, Link::kWorkerData, 9, 9 + 65535},
      {Type::kShutdown, Link::kWorkerData, 0, 0},
      {Type::kCredit, Link::kWorkerData, 4, 4},
      {Type::kRestore, Link::kWorkerData, 1, kLimit - 16},
      {Type::kSave, Link::kWorkerData, 12, 12 + 65535},
      {Type::kSlab, Link::kWorkerData, 13, 13},
      {Type::kAttach, Link::kWorkerData, 28, kLimit - 16},
      {Type::kCheck, Link::kWorkerData, 0, 0},
      {Type::kBatch, Link::kWorkerData, 4, 4},
      {Type::kOutcome, Link::kWorkerData, 17, kLimit - 16},
      {Type::kNested, Link::kSupervisorData, 25, kLimit - 16},
      {Type::kNestedCancel, Link::kSupervisorData, 8, 8},
      {Type::kChecked, Link::kSupervisorData, 1, kLimit - 16},
      {Type::kRetire, Link::kSupervisorData, 1, kLimit - 16},
      {Type::kSlabWanted, Link::kSupervisorData, 8, 8},
      {Type::kAttached, Link::kSupervisorData, 28, kLimit - 16},
      {Type::kSlabKept, Link::kSupervisorData, 4, 4},
      {Type::kSlabFreed, Link::kSupervisorData, 4, 4},
      {Type::kConnect, Link::kSupervisorData, 4, 4},
      {Type::kHello, Link::kSupervisorData, 2, kLimit - 16},
      {Type::kReady, Link::kSupervisorData, 0, 0},
      {Type::kStartFailed, Link::kSupervisorData, 2, kLimit - 16},
      {Type::kResult, Link::kSupervisorData, 0, kLimit - 16},
      {Type::kError, Link::kSupervisorData, 1, kLimit - 16},
      {Type::kItem, Link::kSupervisorData, 0, kLimit - 16},
      {Type::kEnd, Link::kSupervisorData, 0, 0},
      {Type::kSaved, Link::kSupervisorData, 8, kLimit - 16},
      {Type::kSnapshot, Link::kSupervisorData, 16, kLimit - 16},
      {Type::kPing, Link::kWorkerControl, 8, 8},
      {Type::kPong, Link::kSupervisorControl, 16, 16},
      {Type::kCancel, Link::kWorkerControl, 0, 0},
  };
  for (const Row& row : rows) {
    const auto parse = [&](std::uint32_t body) {
      char header[kHeaderBytes];
      write_header(header, {.type = row.type, .body_bytes = body});
      return parse_header({header, kHeaderBytes}, row.link, kLimit);
    };
    EXPECT_TRUE(parse(row.least)) << to_string(row.type);
    EXPECT_TRUE(parse(row.most)) << to_string(row.type);
    EXPECT_FALSE(parse(row.most + 1)) << to_string(row.type);
    if (row.least > 0) {
      EXPECT_FALSE(parse(row.least - 1)) << to_string(row.type);
    }
  }
}

TEST(Decoder, NamesEveryError) {
  for (int error = 0; error <= static_cast<int>(Error::kBodyContent); ++error) {
    EXPECT_NE(to_string(static_cast<Error>(error)), "?");
  }
}

// Goal: after an error nothing more comes out, whatever is fed.
TEST(Decoder, StaysBrokenOnceBroken) {
  Decoder decoder(Link::kSupervisorData, kLimit);
  const std::string zeros(kHeaderBytes, '\0');
  decoder.feed(zeros);
  ASSERT_FALSE(decoder.next());
  const std::string late = frame(Type::kResult, "late");
  decoder.feed(late);
  const auto next = decoder.next();
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error(), Error::kLengthTooSmall);
}

// What the reader of decoder.h does, with packets of the given sizes, over and over.
bool receive(Decoder& decoder, const std::string& stream, const std::vector<std::size_t>& packets,
             std::vector<Got>& got) {
  std::size_t at = 0;
  for (std::size_t i = 0; at < stream.size(); ++i) {
    const std::size_t packet = std::min(packets[i % packets.size()], stream.size() - at);
    const std::span<char> room = decoder.room();
    const std::size_t direct = std::min(packet, room.size());
    if (direct > 0) std::memcpy(room.data(), stream.data() + at, direct);
    decoder.filled(direct);
    // The packet dies with this scope, as a reused receive buffer does.
    const std::string rest = stream.substr(at + direct, packet - direct);
    decoder.feed(rest);
    if (!drain(decoder, got)) return false;
    at += packet;
  }
  return decoder.at_boundary();
}

// Goal: any frames, cut anywhere, received through room() or feed(), come out as they went in.
TEST(Decoder, RoundTripsRandomFramesInRandomPackets) {
  const auto body_bytes = rc::gen::oneOf(rc::gen::inRange<std::size_t>(0, 40),
                                         rc::gen::inRange<std::size_t>(0, 200'000));
  const auto packet_bytes = rc::gen::oneOf(rc::gen::inRange<std::size_t>(1, 20),
                                           rc::gen::inRange<std::size_t>(500, kPacketMax));
  const bool held = rc::check("round trip", [&] {
    const auto sizes = *rc::gen::container<std::vector<std::size_t>>(body_bytes);
    auto packets = *rc::gen::container<std::vector<std::size_t>>(packet_bytes);
    packets.push_back(4096);  // so that a cycle is never a few bytes only
    std::vector<Got> sent;
    std::string stream;
    for (std::size_t i = 0; i < std::min<std::size_t>(sizes.size(), 8); ++i) {
      const Type type = i % 2 == 0 ? Type::kResult : Type::kItem;
      const std::string body(sizes[i], static_cast<char>('a' + i));
      append_payload_head(stream, type, i * i, body.size(), reply_flags(i % 3 == 0, i % 2 == 0));
      stream += body;
      sent.push_back({{.type = type,
                       .flags = reply_flags(i % 3 == 0, i % 2 == 0),
                       .body_bytes = static_cast<std::uint32_t>(body.size()),
                       .call = i * i},
                      body});
    }
    Decoder decoder(Link::kSupervisorData, kLimit);
    std::vector<Got> got;
    RC_ASSERT(receive(decoder, stream, packets, got));
    RC_ASSERT(got == sent);
  });
  EXPECT_TRUE(held);
}

}  // namespace
}  // namespace keelback::wire
