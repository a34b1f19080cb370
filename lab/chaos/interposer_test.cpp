// What a link that is held up costs the others: nothing.
#include "chaos/interposer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "os/socket.h"
#include "wire/frame.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

// One worker's socket with the interposer in its middle.
struct Ends {
  os::Fd supervisor, worker;
};

Ends link(Interposer& interposer, std::uint32_t slot) {
  os::SocketPair pair = os::make_seqpacket_pair().value();
  os::Fd worker = interposer.stand_between(WorkerId{slot, 1}, std::move(pair.theirs));
  return {std::move(pair.ours), std::move(worker)};
}

std::string result_frame() {
  std::string frame(wire::kHeaderBytes, '\0');
  const auto length = static_cast<std::uint32_t>(frame.size());
  std::memcpy(frame.data(), &length, sizeof(length));
  frame[4] = static_cast<char>(wire::Type::kResult);
  return frame;
}

bool readable(const os::Fd& fd, Duration limit) {
  std::byte buffer[64];
  const Time end = Time{std::chrono::steady_clock::now().time_since_epoch()} + limit;
  do {
    if (os::receive_packet(fd.get(), buffer, os::Wait::kNo)) return true;
    (void)os::wait_read_or_write(fd.get(), 1ms);
  } while (Time{std::chrono::steady_clock::now().time_since_epoch()} < end);
  return false;
}

// Goal: an answer that a fault holds back for a short time is passed on at its time, although the
// frames for another worker wait for that worker to read. The link with the longer delay comes
// first: if both answers were passed on together, it would be there too.
TEST(Interposer, ABlockedLinkDoesNotDelayTheAnswersOfOthers) {
  auto interposer = Interposer::start().value();
  const Ends blocked = link(*interposer, 1);
  const Ends slow = link(*interposer, 2);
  const Ends quick = link(*interposer, 3);

  // The worker of `blocked` reads nothing: the supervisor writes until nothing more fits.
  const std::string packet(32 * 1024, 'x');
  while (os::send_packet(blocked.supervisor.get(), packet, os::Wait::kNo) ||
         os::wait_read_or_write(blocked.supervisor.get(), 50ms)->writable) {
  }
  const auto late = [](Duration delay) {
    return ChannelOrder{.fault = "late", .what = Misdeed::kLate, .delay = delay};
  };
  ASSERT_TRUE(interposer->order(WorkerId(2, 1), late(900ms)));
  ASSERT_TRUE(interposer->order(WorkerId(3, 1), late(20ms)));
  ASSERT_TRUE(os::send_packet(slow.worker.get(), result_frame(), os::Wait::kYes));
  ASSERT_TRUE(os::send_packet(quick.worker.get(), result_frame(), os::Wait::kYes));

  EXPECT_TRUE(readable(quick.supervisor, 30s));
  std::byte buffer[64];
  EXPECT_FALSE(os::receive_packet(slow.supervisor.get(), buffer, os::Wait::kNo));
  EXPECT_TRUE(readable(slow.supervisor, 30s));
}

}  // namespace
}  // namespace keelback::chaos
