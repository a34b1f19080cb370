// The worker's side of attachments: the slabs in which they lie, and what is looked at there. As
// python/keelback/attachments.py does it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/messages.h"

namespace keelback::fakeworker {

// One attachment of a call.
struct Carried {
  std::string name;
  std::string filename;
  std::string content_type;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string bytes;       // a copy
  std::uint32_t slab = 0;  // where the original lies; 0: it was in the frame
  std::uint64_t offset = 0;
};

// Main thread only, but what is said of looking.
class Attachments {
 public:
  ~Attachments();

  // ---- what the supervisor says; false, nullopt: it breaks the protocol
  // kComing; `fd` came with the packet after it. Takes the descriptor over.
  bool map(const wire::SlabMessage& message, int fd);
  bool unmap(std::uint32_t slab);
  std::optional<Carried> read(const wire::AttachmentMessage& message) const;

  // A look at shared memory that outlives the call, as zero_copy=True makes one. False: the
  // attachment is not in a slab. Any thread, and so the next two.
  bool look_on(const Carried& carried);
  // What is seen there now; empty: nothing is looked at.
  std::string_view seen() const;
  void look_away();
  // Frames for in front of the answer.
  std::string notes();

  // Where a result of `bytes` may be written: the smallest slab that holds it, not in `used`. Null:
  // there is none here, ask for one.
  struct Room {
    std::uint32_t slab = 0;
    char* data = nullptr;
  };
  std::optional<Room> room(std::uint64_t bytes, const std::vector<std::uint32_t>& used) const;
  Room room_in(std::uint32_t slab) const { return {slab, slabs_.at(slab).data}; }

 private:
  struct Slab {
    char* data = nullptr;
    std::uint64_t bytes = 0;
    bool kept = false;  // SLAB_KEPT was said
  };
  std::map<std::uint32_t, Slab> slabs_;
  mutable std::mutex looking_;
  std::uint32_t looked_at_ = 0;  // a slab
  std::string_view seen_;
};

}  // namespace keelback::fakeworker
