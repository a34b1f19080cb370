// Attachments: in frames and in slabs, both ways; slabs that user code still looks at.
#include <algorithm>
#include <fstream>

#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;

constexpr std::size_t kSlabBytes = 256 << 10;
constexpr std::size_t kLarge = 100'000;

struct Item {
  std::string name;
  std::uint32_t slab = 0;  // 0: inlined
  std::string bytes;       // if inlined
  std::uint64_t offset = 0, size = 0;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string filename, content_type;
};
Item inlined(std::string name, std::string bytes) { return {std::move(name), 0, std::move(bytes)}; }
Item in_slab(std::uint32_t slab, std::uint64_t offset, std::uint64_t size,
             std::string name = "large") {
  return {std::move(name), slab, "", offset, size};
}

// One call with its attachments, as one run of bytes.
std::uint64_t send_call(Peer& peer, const std::vector<Item>& items, Ask ask) {
  const std::uint64_t call = peer.skip_call();
  std::string bytes;
  for (const Item& item : items) {
    const bool in_frame = item.slab == 0;
    EXPECT_TRUE(wire::append_attachment_head(bytes, wire::Type::kAttach,
                                             {.call = call,
                                              .slab = item.slab,
                                              .offset = item.offset,
                                              .bytes = in_frame ? item.bytes.size() : item.size,
                                              .shape = item.shape,
                                              .dtype = item.dtype,
                                              .name = item.name,
                                              .filename = item.filename,
                                              .content_type = item.content_type}));
    if (in_frame) bytes += item.bytes;
  }
  ask.attached = true;
  peer.send(bytes + Peer::encode(call, ask));
  return call;
}
Reply call(Peer& peer, const std::vector<Item>& items, const std::string& function,
           const std::string& payload = "[]") {
  const std::uint64_t id = send_call(peer, items, {.function = function, .payload = payload});
  Reply reply = peer.reply();
  EXPECT_EQ(reply.call, id);
  return reply;
}
bool maps_a_slab(const Peer& peer) {
  std::ifstream maps("/proc/" + std::to_string(peer.pid()) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:keelback-slab") != line.npos) return true;
  }
  return false;
}

TEST_P(Protocol, CarriesSmallAttachmentsInFramesBothWays) {
  auto peer = ready();
  Item array = inlined("", std::string(24, '\x3f'));
  array.dtype = "float32";
  array.shape = {2, 3};
  const std::string all_bytes = [] {
    std::string bytes;
    for (int i = 0; i < 60'000; ++i) bytes += static_cast<char>(i);
    return bytes;
  }();
  Item first = inlined("a", all_bytes);
  first.filename = "naïve \"file\".png";
  first.content_type = "image/png; x=y";
  const Reply reply = call(*peer, {first, array, inlined("empty", "")}, "attach_echo");
  expect_result(
      reply, Json::parse(R"([{"$attachment":"a"},{"$attachment":"1"},{"$attachment":"empty"}])"));
  ASSERT_EQ(reply.attached.size(), 3u);
  EXPECT_EQ(reply.attached[0].inlined, all_bytes);
  EXPECT_EQ(reply.attached[0].filename, first.filename);
  EXPECT_EQ(reply.attached[0].content_type, first.content_type);
  EXPECT_EQ(reply.attached[1].content_type, "");
  EXPECT_EQ(reply.attached[1].name, "1") << "a nameless one goes by its position";
  EXPECT_EQ(reply.attached[1].dtype, "float32");
  EXPECT_EQ(reply.attached[1].shape, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_EQ(reply.attached[1].inlined, array.bytes);
  EXPECT_EQ(reply.attached[2].bytes, 0u);
  expect_result(peer->call("echo", {1}), 1);
  expect_result(peer->call("attach_echo", Json::array()), Json::array());
}

// Goal: a slab comes once; every later call finds its bytes in it, wherever they lie, and an answer
// that fits goes back in it unasked.
TEST_P(Protocol, ReadsAndAnswersInASlabItHas) {
  auto peer = ready();
  char* slab = peer->give_slab(1, kSlabBytes);
  for (const std::uint64_t offset : {0, 4096, 77}) {
    std::fill_n(slab, kSlabBytes, '\0');
    std::fill_n(slab + offset, kLarge, '\1');
    expect_result(call(*peer, {in_slab(1, offset, kLarge)}, "attach_sum"),
                  Json::array({{kLarge, kLarge}}));
  }
  const Reply reply = call(*peer, {in_slab(1, 77, kLarge)}, "attach_echo");
  EXPECT_TRUE(reply.wanted.empty()) << "the slab it has is free once the call is over";
  ASSERT_EQ(reply.attached.size(), 1u);
  EXPECT_EQ(reply.attached[0].slab, 1u);
  EXPECT_EQ(reply.attached[0].bytes, kLarge);
  const char* at = slab + reply.attached[0].offset;
  EXPECT_TRUE(std::all_of(at, at + kLarge, [](char byte) { return byte == '\1'; }));
}

// Goal: what fits nowhere is asked for, once; a refusal costs nothing but the copy through the
// socket.
TEST_P(Protocol, AsksForASlabAndTakesNoForAnAnswer) {
  auto peer = ready();
  Reply reply = peer->call("attach_make", {1, kLarge});
  EXPECT_EQ(reply.wanted, std::vector<std::uint64_t>{kLarge});
  ASSERT_EQ(reply.attached.size(), 1u);
  EXPECT_EQ(reply.attached[0].inlined, std::string(kLarge, 'a'))
      << "refused, so it is in the frame";

  char* slab = nullptr;
  peer->on_slab_wanted = [&](std::uint64_t) { slab = peer->give_slab(7, kSlabBytes); };
  reply = peer->call("attach_make", {1, kLarge});
  EXPECT_EQ(reply.wanted.size(), 1u);
  ASSERT_EQ(reply.attached.size(), 1u);
  ASSERT_EQ(reply.attached[0].slab, 7u);
  EXPECT_EQ(std::string(slab + reply.attached[0].offset, kLarge), std::string(kLarge, 'a'));

  reply = peer->call("attach_make", {1, kSlabBytes});
  EXPECT_TRUE(reply.wanted.empty()) << "warm";
  EXPECT_EQ(std::string(slab, kSlabBytes), std::string(kSlabBytes, 'a'));

  // Two at once need two; the small one none.
  peer->on_slab_wanted = [&](std::uint64_t) { peer->give_slab(8, kSlabBytes); };
  reply = peer->call("attach_make", {2, kLarge});
  EXPECT_EQ(reply.wanted.size(), 1u);
  ASSERT_EQ(reply.attached.size(), 2u);
  EXPECT_NE(reply.attached[0].slab, reply.attached[1].slab);
  reply = peer->call("attach_make", {3, 1000});
  EXPECT_TRUE(reply.wanted.empty());
  EXPECT_EQ(reply.attached.size(), 3u);
}

// Goal: other frames that come while the worker waits for its slab have their turn afterwards.
TEST_P(Protocol, KeepsWhatComesInFrontOfASlab) {
  auto peer = ready();
  const std::uint64_t first = peer->next_call();
  peer->on_slab_wanted = [&](std::uint64_t) {
    peer->send(Peer::encode(first + 1, {.function = "echo", .payload = "[5]"}));
    peer->give_slab(1, kSlabBytes);
  };
  EXPECT_EQ(peer->call("attach_make", {1, kLarge}).attached.size(), 1u);
  EXPECT_EQ(peer->skip_call(), first + 1);
  expect_result(peer->reply(), 5);
}

TEST_P(Protocol, UnmapsASlabThatGoes) {
  auto peer = ready();
  peer->give_slab(1, kSlabBytes);
  expect_result(call(*peer, {in_slab(1, 0, kLarge)}, "attach_sum"), Json::array({{kLarge, 0}}));
  EXPECT_TRUE(maps_a_slab(*peer));
  peer->slab(wire::SlabOp::kGone, 1);
  expect_result(peer->call("echo", {1}), 1);
  EXPECT_FALSE(maps_a_slab(*peer));
}

// Goal: a slab that user code still looks at is named before the answer, nothing is written there
// by the worker, and it is given up when nobody looks any more.
TEST_P(Protocol, NamesSlabsThatAreStillLookedAt) {
  auto peer = ready();
  char* slab = peer->give_slab(1, kSlabBytes);
  std::fill_n(slab, kSlabBytes, '\2');
  Reply reply = call(*peer, {in_slab(1, 0, kLarge)}, "attach_keep");
  expect_result(reply, true);
  EXPECT_EQ(reply.kept, std::vector<std::uint32_t>{1});

  peer->give_slab(2, kSlabBytes);
  reply = call(*peer, {in_slab(2, 0, kLarge)}, "attach_echo");
  EXPECT_TRUE(reply.kept.empty() && reply.freed.empty());
  ASSERT_EQ(reply.attached.size(), 1u);
  EXPECT_EQ(reply.attached[0].slab, 2u);
  expect_result(peer->call("attach_seen", Json::array()), 2 * kLarge);

  reply = call(*peer, {in_slab(2, 0, kLarge)}, "attach_drop");
  if (reply.freed.empty()) reply = call(*peer, {in_slab(2, 0, kLarge)}, "attach_sum");
  EXPECT_EQ(reply.freed, std::vector<std::uint32_t>{1});
}

TEST_P(Protocol, AnswersTooManyBytesWithAnError) {
  auto peer = ready();
  peer->set_mark(wire::kMarkAttachedMax, 1000);
  const Reply reply = peer->call("attach_make", {2, 501});
  expect_error(reply, ErrorKind::kError, "keelback.ResultError", "attachments.max is 1000");
  EXPECT_TRUE(reply.attached.empty());
  EXPECT_EQ(peer->call("attach_make", {2, 500}).attached.size(), 2u);
}

// Goal: a call that does not run leaves its attachments to nobody.
TEST_P(Protocol, ForgetsTheAttachmentsOfACallThatDoesNotRun) {
  auto peer = ready();
  EXPECT_EQ(call(*peer, {inlined("x", "abc")}, "no_such_function").kind,
            ErrorKind::kUnknownFunction);
  EXPECT_EQ(call(*peer, {inlined("x", "abc")}, "echo", "[1,2,3]").kind, ErrorKind::kBadRequest);
  expect_result(call(*peer, {inlined("y", "d")}, "attach_sum"), Json::array({{1, 'd'}}));
}

}  // namespace
}  // namespace keelback::conformance
