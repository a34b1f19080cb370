// What a worker may say about attachments and slabs, and what of it is the end of it; what it is
// handed, and that nobody can take that away.
#include "host/channel.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace keelback::host {
namespace {

using ::testing::HasSubstr;
using Received = Channel::Received;

constexpr std::size_t kLarge = 100'000;

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() {
    auto pair = os::make_seqpacket_pair();
    EXPECT_TRUE(pair);
    worker_ = std::move(pair->theirs);
    channel_ = std::make_unique<Channel>(std::move(pair->ours), wire::frame_max(16 << 20), budget_);
  }

  // The worker says it; what the channel makes of it.
  Received says(std::string bytes) {
    EXPECT_TRUE(os::send_packet(worker_.get(), bytes, os::Wait::kNo));
    return channel_->receive(os::Wait::kNo, messages_);
  }
  // What the worker gets: the packets, and the descriptors beside them.
  std::vector<std::string> gets(std::vector<os::Fd>& fds) {
    std::vector<std::string> packets;
    std::vector<std::byte> room(wire::kPacketMax);
    while (auto packet = os::receive_packet_with_fds(worker_.get(), room, fds, os::Wait::kNo)) {
      packets.emplace_back(reinterpret_cast<const char*>(room.data()), packet->size);
    }
    return packets;
  }
  void give(std::string bytes) {
    Attachments all{{"x", Buffer(std::move(bytes)), "", {}}};
    channel_->push(7, "CALL", nullptr, std::make_shared<const Attachments>(std::move(all)), false);
    EXPECT_EQ(channel_->flush(), Channel::Flushed::kAll);
  }
  static std::string attached(const wire::AttachmentMessage& message, std::string_view bytes = {}) {
    std::string frame;
    EXPECT_TRUE(wire::append_attachment_head(frame, wire::Type::kAttached, message));
    return frame.append(bytes);
  }
  static std::string result(std::uint64_t call, std::uint8_t flags = 0) {
    std::string frame;
    wire::append_payload_head(frame, wire::Type::kResult, call, 2, flags);
    return frame + "[]";
  }

  SlabBudget budget_{64 << 20};
  os::Fd worker_;
  std::unique_ptr<Channel> channel_;
  std::vector<WorkerMessage> messages_;
};

// Goal: the worker gets each slab once, sealed: neither side can cut it short under the other.
TEST_F(ChannelTest, HandsASlabOverOnceAndSealed) {
  const std::string bytes(kLarge, 'x');
  give(bytes);
  std::vector<os::Fd> fds;
  const auto packets = gets(fds);
  ASSERT_EQ(packets.size(), 3u) << "it comes; it is here; the call";
  ASSERT_EQ(fds.size(), 1u);
  const int seals = ::fcntl(fds[0].get(), F_GET_SEALS);
  EXPECT_EQ(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  EXPECT_LT(::ftruncate(fds[0].get(), 0), 0);
  std::string seen(kLarge, '\0');
  EXPECT_EQ(::pread(fds[0].get(), seen.data(), kLarge, 0), static_cast<ssize_t>(kLarge));
  EXPECT_EQ(seen, bytes);

  give(bytes);
  EXPECT_EQ(gets(fds).size(), 1u) << "warm: the call alone";
  EXPECT_EQ(fds.size(), 1u);
  EXPECT_EQ(budget_.used(), channel_->slab_bytes());
}

TEST_F(ChannelTest, SmallOnesAndThoseWithoutRoomGoInTheFrame) {
  give("small");
  std::vector<os::Fd> fds;
  auto packets = gets(fds);
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_THAT(packets[0], HasSubstr("smallCALL"));
  budget_.set_limit(0);
  give(std::string(kLarge, 'x'));
  packets = gets(fds);
  EXPECT_EQ(packets.size(), 2u) << "100 000 bytes in packets of 64 KiB";
  EXPECT_TRUE(fds.empty());
  EXPECT_EQ(channel_->slab_count(), 0u);
}

// Goal: in the steady state a call's frame is made in the memory of an earlier one, and what was
// there before is gone; a long one's memory is not kept.
TEST_F(ChannelTest, GivesTheMemoryOfSentFramesBack) {
  const auto send = [&](std::string frame) {
    std::string back = channel_->push(std::move(frame));
    EXPECT_EQ(channel_->flush(), Channel::Flushed::kAll);
    EXPECT_TRUE(back.empty());
    return back;
  };
  std::vector<os::Fd> fds;
  const std::string first(1000, 'a'), second(500, 'b');
  (void)send(first);
  std::string back = send(second);
  EXPECT_GE(back.capacity(), first.size());
  const char* memory = back.data();
  EXPECT_EQ(back.append("third").data(), memory);
  back = send(std::move(back));
  EXPECT_GE(back.capacity(), second.size());
  EXPECT_EQ(gets(fds), (std::vector<std::string>{first, second, "third"}));
  (void)send(std::string(60'000, 'l'));
  for (int i = 0; i < 4; ++i) EXPECT_LT(send("short").capacity(), 60'000u);
}

TEST_F(ChannelTest, AResultTakesWhatCameBeforeIt) {
  EXPECT_EQ(
      says(attached({.call = 7, .bytes = 3, .shape = {3}, .dtype = "uint8", .name = "a"}, "abc") +
           result(7)),
      Received::kSome);
  ASSERT_EQ(messages_.size(), 1u);
  ASSERT_EQ(messages_[0].attachments.size(), 1u);
  EXPECT_EQ(messages_[0].attachments[0].name, "a");
  EXPECT_EQ(messages_[0].attachments[0].data.view(), "abc");
  EXPECT_EQ(messages_[0].attachment_bytes, 3u);
  messages_.clear();
  EXPECT_EQ(says(result(8)), Received::kSome);
  EXPECT_TRUE(messages_[0].attachments.empty()) << "each its own";
}

// Goal: a limit that the result is over makes it an error of the host's, not a protocol error: the
// limit is live and the worker may not have heard of it.
TEST_F(ChannelTest, MoreBytesThanAllowedAreCountedAndNotKept) {
  channel_->set_attached_max(4);
  EXPECT_EQ(says(attached({.call = 7, .bytes = 3, .name = "a"}, "abc") +
                 attached({.call = 7, .bytes = 3, .name = "b"}, "abc") + result(7)),
            Received::kSome);
  EXPECT_EQ(messages_[0].attachment_bytes, 6u);
  EXPECT_TRUE(messages_[0].attachments.empty());
}

TEST_F(ChannelTest, ASlabIsGivenOnRequestWithinTheBudget) {
  std::string wanted;
  wire::append_slab_wanted(wanted, 7, kLarge);
  EXPECT_EQ(says(wanted), Received::kSome);
  std::vector<os::Fd> fds;
  EXPECT_EQ(gets(fds).size(), 2u);
  ASSERT_EQ(fds.size(), 1u);
  EXPECT_EQ(::pwrite(fds[0].get(), "result", 6, 10), 6);
  EXPECT_EQ(
      says(attached({.call = 7, .slab = 1, .offset = 10, .bytes = 6, .name = "r"}) + result(7)),
      Received::kSome);
  EXPECT_EQ(messages_[0].attachments.at(0).data.view(), "result");
  budget_.set_limit(0);
  EXPECT_EQ(says(wanted), Received::kSome);
  EXPECT_EQ(gets(fds).size(), 1u) << "no";
  EXPECT_EQ(fds.size(), 1u);
}

// Goal: whatever a worker says of slabs that is not so ends it, and reads no byte that is not its.
TEST_F(ChannelTest, NonsenseAboutSlabsBreaksTheProtocol) {
  const auto note = [](wire::Type type, std::uint32_t slab) {
    std::string frame;
    wire::append_slab_note(frame, type, 0, slab);
    return frame;
  };
  std::string many;
  for (int i = 0; i < 65; ++i) many += attached({.call = 7, .name = "n"});
  const std::string nonsense[] = {
      attached({.call = 7, .slab = 1, .bytes = 1, .name = "x"}),
      attached({.call = 0, .name = "x"}),
      attached({.call = 7, .name = "x"}) + attached({.call = 8, .name = "x"}),
      attached({.call = 7, .name = "x"}) + result(8),
      many,
      note(wire::Type::kSlabKept, 1),
      note(wire::Type::kSlabFreed, 1),
  };
  for (const std::string& bytes : nonsense) {
    auto pair = os::make_seqpacket_pair();
    ASSERT_TRUE(pair);
    worker_ = std::move(pair->theirs);
    channel_ = std::make_unique<Channel>(std::move(pair->ours), wire::frame_max(16 << 20), budget_);
    EXPECT_EQ(says(bytes), Received::kViolation);
    EXPECT_NE(channel_->violation(), "");
    EXPECT_EQ(channel_->receive(os::Wait::kNo, messages_), Received::kViolation) << "for good";
  }
}

TEST_F(ChannelTest, BytesBeyondASlabsEndAreNobodys) {
  give(std::string(kLarge, 'x'));
  EXPECT_EQ(says(attached({.call = 7, .slab = 1, .offset = 100 << 10, .bytes = 100 << 10})),
            Received::kViolation);
}

TEST_F(ChannelTest, AKeptSlabIsNotReadFromAgainAndCountsUntilItIsFreed) {
  give(std::string(kLarge, 'x'));
  const std::uint64_t one = budget_.used();
  std::string kept, freed;
  wire::append_slab_note(kept, wire::Type::kSlabKept, 0, 1);
  wire::append_slab_note(freed, wire::Type::kSlabFreed, 0, 1);
  EXPECT_EQ(says(kept), Received::kSome);
  EXPECT_EQ(budget_.used(), one);
  EXPECT_EQ(says(freed), Received::kSome);
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(ChannelTest, WhatIsUnusedGoesAndTheWorkerIsTold) {
  give(std::string(kLarge, 'x'));
  std::vector<os::Fd> fds;
  gets(fds);
  ASSERT_EQ(fds.size(), 1u);
  const auto dropped = channel_->shrink_slabs(Time::max());
  ASSERT_EQ(dropped.size(), 1u);
  for (const auto& slab : dropped) slab->empty();
  EXPECT_EQ(channel_->flush(), Channel::Flushed::kAll);
  EXPECT_EQ(gets(fds).size(), 1u);
  EXPECT_EQ(budget_.used(), 0u);
  char byte = 'x';
  EXPECT_EQ(::pread(fds[0].get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, '\0') << "its pages are gone, whoever still has it";
  channel_->drop_slabs();
  EXPECT_EQ(channel_->slab_count(), 0u);
}

// Goal: what the flags of an answer say reaches the host, each on its own.
TEST_F(ChannelTest, TellsUncleanFromInterrupted) {
  for (const std::uint8_t flags : {0, 1, 2, 3}) {
    messages_.clear();
    EXPECT_EQ(says(result(7, flags)), Received::kSome);
    ASSERT_EQ(messages_.size(), 1u);
    EXPECT_EQ(messages_[0].unclean, (flags & wire::kFlagUnclean) != 0) << int{flags};
    EXPECT_EQ(messages_[0].interrupted, (flags & wire::kFlagInterrupted) != 0) << int{flags};
  }
}

// Goal: clients are told that results are JSON. A worker whose results or items are not, breaks the
// protocol.
TEST_F(ChannelTest, WhatIsNotJsonIsNoResult) {
  const auto framed = [](wire::Type type, std::string_view body) {
    std::string frame;
    wire::append_payload_head(frame, type, 7, body.size(), 0);
    return frame.append(body);
  };
  EXPECT_EQ(says(framed(wire::Type::kResult, "{\"a\": [1, null]}")), Received::kSome);
  EXPECT_EQ(says(framed(wire::Type::kItem, "\"é\"")), Received::kSome);
  EXPECT_EQ(says(framed(wire::Type::kItem, "<html>")), Received::kViolation);
  EXPECT_THAT(channel_->violation(), HasSubstr("not JSON"));
}

// Goal: what calls ask for comes through as it is; arguments that are no JSON end the worker, since
// the program's functions are told that they are JSON.
TEST_F(ChannelTest, TakesWhatCallsAskFor) {
  const auto nested = [](std::string_view payload) {
    const wire::NestedMessage message{.parent = 7,
                                      .request = 3,
                                      .timeout_ns = 5,
                                      .target = wire::NestedTarget::kFunction,
                                      .name = "echo",
                                      .session = "ann",
                                      .payload = payload};
    std::string frame;
    EXPECT_TRUE(wire::append_nested_head(frame, message));
    return frame.append(payload);
  };
  std::string cancel;
  wire::append_nested_cancel(cancel, 7, 3);
  ASSERT_EQ(says(nested("[1]") + nested("") + cancel), Received::kSome);
  ASSERT_EQ(messages_.size(), 3u);
  for (const WorkerMessage& message : messages_) {
    EXPECT_EQ(message.call, 7u);
    ASSERT_NE(message.ask, nullptr);
    EXPECT_EQ(message.ask->request, 3u);
  }
  const WorkerAsk& ask = *messages_[0].ask;
  EXPECT_EQ(ask.target, wire::NestedTarget::kFunction);
  EXPECT_EQ(ask.call.function, "echo");
  EXPECT_EQ(ask.call.session, "ann");
  EXPECT_EQ(ask.call.payload, "[1]");
  EXPECT_EQ(ask.call.deadline, Duration(5));
  EXPECT_EQ(messages_[1].ask->call.payload, "[]") << "none";
  EXPECT_EQ(says(nested("[1")), Received::kViolation);
  EXPECT_THAT(channel_->violation(), HasSubstr("not JSON"));
}

}  // namespace
}  // namespace keelback::host
