// Bytes that travel beside a call's JSON, in both directions: an image, a tensor, a file. From
// 64 KiB on they reach the worker through shared memory, smaller ones in its socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keelback {

// Bytes that many may hold and nobody changes: copying a Buffer copies no byte. Any thread may
// read.
class Buffer {
 public:
  Buffer() = default;
  // Takes the string's bytes; moves where it can.
  Buffer(std::string bytes) {
    if (bytes.empty()) return;
    auto kept = std::make_shared<const std::string>(std::move(bytes));
    data_ = kept->data();
    size_ = kept->size();
    owner_ = std::move(kept);
  }
  // Copies nothing: `bytes` stay where they are, unchanged, as long as `owner` lives. With a null
  // owner the caller promises that they outlive the call's outcome and any copy of this Buffer.
  Buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
      : owner_(std::move(owner)),
        data_(reinterpret_cast<const char*>(bytes.data())),
        size_(bytes.size()) {}

  const char* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {data_, size_}; }
  std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(data_), size_};
  }

 private:
  std::shared_ptr<const void> owner_;  // shared by the call, its retries and the channel that sends
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

struct Attachment {
  // At most 256 bytes; empty: its position, "0", "1", … A parameter of the function that has this
  // name gets the attachment as its argument; if several of a call have it, a list of them. Unique
  // in a result.
  std::string name;
  Buffer data;
  // Of an array: the element type in NumPy's words ("float32", ">f4", "<M8[ns]"; all of them stand
  // in docs/protocol.md), at most 32 bytes, and the extents in C order, at most 16. Extents that do
  // not make the size of `data` are bad_request; none are one element. No type: plain bytes.
  std::string dtype;
  std::vector<std::uint64_t> shape;
  // What the bytes are ("image/png"), at most 256 printable ASCII characters, and how the file that
  // they come from is called, at most 1024 bytes. Both are passed on and mean nothing here, but for
  // this: of text/* and without a file name it is text to the parameter, as a form's field is.
  std::string content_type = {};
  std::string filename = {};
};

using Attachments = std::vector<Attachment>;  // at most 64 of one call, and of one result

}  // namespace keelback
