// Makes frames of packets. The caller feeds it; it never reads.
//
// A frame that is complete in one packet is not copied: its body points into the packet. A frame of
// several packets is assembled in one buffer of its size. room() lets the reader receive the rest
// of it straight into that buffer, and take_body() moves the buffer out. So only the kernel copies
// a large body, except for its first packet.
//
// The reader's loop, for SOCK_SEQPACKET, where a receive buffer must hold a whole packet:
//
//   std::span<char> room = decoder.room();
//   n = readv(fd, {room, scratch});               // scratch: kPacketMax bytes
//   decoder.filled(min(n, room.size()));
//   if (n > room.size()) decoder.feed({scratch, n - room.size()});
//   while (auto frame = decoder.next(); frame && *frame) …
//
// Rules: call next() until it returns nullopt or an error before you call room() or feed() again.
// The bytes that were fed stay borrowed until then. An error is final. Memory: one frame, at most
// as long as the limit. So the limit is how much the peer can make us allocate; pages that it never
// writes are never touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "wire/frame.h"

namespace keelback::wire {

class Decoder {
 public:
  // frame_bytes_max: see frame_max(). Longer frames are an error.
  Decoder(Link link, std::uint32_t frame_bytes_max);

  // Where the rest of a frame that spans packets is wanted; empty if there is none.
  std::span<char> room();
  // `bytes` of room() have been written, from its start.
  void filled(std::size_t bytes);
  // Borrowed until next() answers nullopt or an error.
  void feed(std::string_view bytes);

  // The next whole frame; nullopt: more bytes are needed. Its body is valid until the next call of
  // next(), room() or feed(). An error is final: the stream has no next frame start.
  std::expected<std::optional<Frame>, Error> next();
  // The body of the frame that next() answered last, moved if it was assembled here, else copied.
  // That frame's `body` is invalid afterwards. At most once a frame.
  std::string take_body();

  // Applies from the next header on.
  void set_frame_max(std::uint32_t frame_bytes_max) { frame_bytes_max_ = frame_bytes_max; }
  // True between frames: nothing is half received. An end of file here is a clean one.
  bool at_boundary() const { return !assembling_ && partial_bytes_ == 0 && input_.empty(); }

 private:
  std::expected<Header, Error> header_from_input(bool& incomplete);

  const Link link_;
  std::uint32_t frame_bytes_max_;
  std::optional<Error> error_;
  std::string_view input_;  // borrowed, not yet consumed
  char partial_[kHeaderBytes];
  std::size_t partial_bytes_ = 0;  // of a header that came in pieces
  bool assembling_ = false;        // header_ is known, buffer_ has filled_bytes_ of its body
  Header header_;
  std::string buffer_;
  std::size_t filled_bytes_ = 0;
  std::string_view last_body_;  // of the frame answered last
  bool last_in_buffer_ = false;
};

}  // namespace keelback::wire
