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

// Shared bytes that never change. Copies of a Buffer share its bytes. Any thread may read them.
class Buffer {
 public:
  Buffer() = default;
  // Takes over the bytes of the string.
  Buffer(std::string bytes) {
    if (bytes.empty()) return;
    auto kept = std::make_shared<const std::string>(std::move(bytes));
    data_ = kept->data();
    size_ = kept->size();
    owner_ = std::move(kept);
  }
  // Copies nothing: the Buffer points to `bytes` and keeps `owner` alive. The bytes must not change
  // while `owner` lives. If `owner` is null, the caller keeps the bytes alive until the call has
  // its outcome and no copy of this Buffer is left.
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
  // At most 256 bytes. An empty name becomes the position: "0", "1", … If a parameter of the
  // function has this name, the attachment is its argument; if several attachments of a call have
  // the name, the argument is a list of them. In a result each name stands once.
  std::string name;
  Buffer data;
  // For an array: the element type as NumPy writes it ("float32", ">f4", "<M8[ns]";
  // docs/protocol.md lists them), at most 32 bytes, and the extents in C order, at most 16. No
  // extents: one element. If type and extents do not give the size of `data`, the call is
  // bad_request. No type: plain bytes.
  std::string dtype;
  std::vector<std::uint64_t> shape;
  // What the bytes are ("image/png"), at most 256 printable ASCII characters, and the name of the
  // file that they come from, at most 1024 bytes. The pool passes both on. They matter in one case
  // only: an attachment of type text/* without a file name reaches its parameter as text, like a
  // field of a form.
  std::string content_type = {};
  std::string filename = {};
};

using Attachments = std::vector<Attachment>;  // at most 64 in a call, and in a result

}  // namespace keelback
