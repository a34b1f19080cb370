// The worker's side of attachments: what a call brings, in slabs or in its frames, and what a
// result takes along. As python/keelback/attachments.py does it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/messages.h"

namespace keelback::fakeworker {

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

class Attachments {
 public:
  ~Attachments();

  // ---- what the supervisor says; false: it breaks the protocol
  // kComing; `fd` came with the packet after it. Takes the descriptor over.
  bool map(const wire::SlabMessage& message, int fd);
  bool unmap(std::uint32_t slab);
  bool take(const wire::AttachmentMessage& message);

  // ---- of the call that runs
  const std::vector<Carried>& carried() const { return carried_; }
  void end_call() { carried_.clear(); }
  // A look at shared memory that outlives the call, as zero_copy=True makes one. Nothing if the
  // attachment is not in a slab.
  bool look_on(const Carried& carried);
  // What is seen there now; empty: nothing is looked at.
  std::string_view seen() const { return seen_; }
  // Frames for in front of the answer.
  std::string notes();
  void look_away() { seen_ = {}; }

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
  std::vector<Carried> carried_;
  std::uint32_t looked_at_ = 0;  // a slab
  std::string_view seen_;
};

}  // namespace keelback::fakeworker
