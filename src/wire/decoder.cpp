#include "wire/decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace keelback::wire {
namespace {

// A larger buffer is given back after its frame, so that an idle worker does not hold 16 MiB.
constexpr std::size_t kKeepBytes = 256 << 10;

// Memory for `bytes` that is not written yet. Every byte is written before one is read.
void size_unwritten(std::string& buffer, std::size_t bytes) {
  if (buffer.capacity() < bytes || buffer.capacity() > std::max(bytes, kKeepBytes)) {
    buffer = std::string();
  }
  // The second argument of the operation is not `bytes` in libstdc++ 12, but the capacity.
  buffer.resize_and_overwrite(bytes, [bytes](char*, std::size_t) { return bytes; });
}

}  // namespace

Decoder::Decoder(Link link, std::uint32_t frame_bytes_max)
    : link_(link), frame_bytes_max_(frame_bytes_max) {}

std::span<char> Decoder::room() {
  CHECK(input_.empty());
  if (!assembling_) return {};
  return {buffer_.data() + filled_bytes_, buffer_.size() - filled_bytes_};
}

void Decoder::filled(std::size_t bytes) {
  CHECK(bytes <= (assembling_ ? buffer_.size() - filled_bytes_ : 0));
  filled_bytes_ += bytes;
}

void Decoder::feed(std::string_view bytes) {
  CHECK(input_.empty());
  if (!error_) input_ = bytes;
}

std::expected<Header, Error> Decoder::header_from_input(bool& incomplete) {
  incomplete = false;
  if (partial_bytes_ == 0 && input_.size() >= kHeaderBytes) {
    const std::string_view bytes = input_.substr(0, kHeaderBytes);
    input_.remove_prefix(kHeaderBytes);
    return parse_header(bytes, link_, frame_bytes_max_);
  }
  const std::size_t taken = std::min(kHeaderBytes - partial_bytes_, input_.size());
  if (taken > 0) std::memcpy(partial_ + partial_bytes_, input_.data(), taken);
  partial_bytes_ += taken;
  input_.remove_prefix(taken);
  if (partial_bytes_ < kHeaderBytes) {
    incomplete = true;
    return Header{};
  }
  partial_bytes_ = 0;
  return parse_header({partial_, kHeaderBytes}, link_, frame_bytes_max_);
}

std::expected<std::optional<Frame>, Error> Decoder::next() {
  if (error_) return std::unexpected(*error_);
  last_body_ = {};
  if (!assembling_) {
    if (last_in_buffer_ && buffer_.capacity() > kKeepBytes) buffer_ = std::string();
    last_in_buffer_ = false;
    bool incomplete = false;
    const auto header = header_from_input(incomplete);
    if (!header) {
      error_ = header.error();
      input_ = {};
      return std::unexpected(*error_);
    }
    if (incomplete) return std::nullopt;
    header_ = *header;
    if (input_.size() >= header_.body_bytes) {
      last_body_ = input_.substr(0, header_.body_bytes);
      input_.remove_prefix(header_.body_bytes);
      return Frame{header_, last_body_};
    }
    assembling_ = true;
    filled_bytes_ = 0;
    size_unwritten(buffer_, header_.body_bytes);
  }
  const std::size_t taken = std::min(buffer_.size() - filled_bytes_, input_.size());
  if (taken > 0) std::memcpy(buffer_.data() + filled_bytes_, input_.data(), taken);
  filled_bytes_ += taken;
  input_.remove_prefix(taken);
  if (filled_bytes_ < buffer_.size()) return std::nullopt;
  assembling_ = false;
  last_in_buffer_ = true;
  last_body_ = buffer_;
  return Frame{header_, last_body_};
}

std::string Decoder::take_body() {
  if (!last_in_buffer_) return std::string(std::exchange(last_body_, {}));
  last_in_buffer_ = false;
  last_body_ = {};
  return std::exchange(buffer_, std::string());
}

}  // namespace keelback::wire
