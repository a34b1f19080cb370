// The data socket of a worker, blocking: whole frames in, whole frames out.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
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

class Channel {
 public:
  explicit Channel(int fd);

  // The next frame; nullopt: the supervisor is gone, or does not speak the protocol.
  std::optional<Received> next();
  // Reads one packet's frames into the queue. False: as for next().
  bool read();
  // Takes the CREDIT frames of `call` out of the queue and adds their items up.
  std::uint64_t take_credit(std::uint64_t call);

  // Takes the first frame of `type` out of the queue, reading until there is one. nullopt: as for
  // next().
  std::optional<Received> next_of(wire::Type type);
  // The descriptor that came first of those not yet taken; -1: none has come.
  int take_fd();

  // Sends one frame, or the bytes given as one. False: the supervisor is gone.
  bool send(std::string_view head, std::string_view payload = {});
  int fd() const { return fd_; }

 private:
  const int fd_;
  wire::Decoder decoder_;
  std::string packet_;  // kPacketMax bytes to receive into
  std::deque<Received> queue_;
  std::deque<int> fds_;
};

}  // namespace keelback::fakeworker
