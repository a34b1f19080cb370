// The data socket of a worker, blocking: whole frames in, whole frames out.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "wire/decoder.h"
#include "wire/frame.h"

namespace keelback::fakeworker {

struct Received {
  wire::Header header;
  std::string body;
  wire::Frame frame() const { return {header, body}; }
};

// An OUTCOME.
struct Heard {
  std::uint64_t request = 0;
  bool ok = false;
  std::string json;
};

// A frame to send.
struct Out {
  std::string head;
  std::string payload;
};

// Main thread only, but for send(). Where the supervisor is gone, or does not speak the protocol,
// `gone` is called, which does not return.
class Channel {
 public:
  Channel(int fd, std::function<void()> gone);

  // The next frame.
  Received next();
  // Reads one packet's frames into the queue.
  void read();
  // Takes the CREDIT frames of `call` out of the queue and adds their items up.
  std::uint64_t take_credit(std::uint64_t call);

  // Takes all OUTCOME frames out of the queue; that of the request comes back. Others are of
  // requests for which nobody waits any more.
  std::optional<Heard> take_outcome(std::uint64_t request);

  // Takes the first frame of `type` out of the queue, reading until there is one.
  Received next_of(wire::Type type);
  // The descriptor that came first of those not yet taken; -1: none has come.
  int take_fd();

  // Sends frames in a row: no other thread's come between them. Any thread.
  void send(std::span<const Out> frames);
  // Sends one frame, or the bytes given as one.
  void send(std::string_view head, std::string_view payload = {});
  int fd() const { return fd_; }

 private:
  [[noreturn]] void fail();
  void write(std::string_view head, std::string_view payload);

  const int fd_;
  const std::function<void()> gone_;
  wire::Decoder decoder_;
  std::string packet_;  // kPacketMax bytes to receive into
  std::deque<Received> queue_;
  std::deque<int> fds_;
  std::mutex sending_;
};

}  // namespace keelback::fakeworker
