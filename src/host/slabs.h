// A worker's slabs: the memory behind SlabShelf's decisions, and the frames that tell the worker.
// Not thread-safe: its channel's lock guards it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/slab_shelf.h"
#include "keelback/attachment.h"
#include "os/fd.h"
#include "os/memory.h"
#include "wire/messages.h"

namespace keelback::host {

// Bytes for the worker, in packets of their own; with a descriptor, one packet.
struct SlabNews {
  std::string bytes;
  os::Fd fd;
};

class Slabs {
 public:
  explicit Slabs(SlabBudget& budget) : shelf_(budget) {}

  // Puts the call's attachments where its worker will find them. What the worker must be told
  // before is appended to `news`; the ATTACH frames, inlined bytes included, to `frames`. Copies
  // the bytes; blocks while the kernel clears fresh pages. What gets no slab is inlined, or
  // (inlined) everything is: then the call does not count as one that uses slabs.
  void attach(std::uint64_t call, const Attachments& attachments, bool inlined,
              std::vector<SlabNews>& news, std::string& frames);
  // The answer to SLAB_WANTED.
  void grow(std::uint64_t bytes, std::vector<SlabNews>& news);
  // Where a part of a result lies; shared with the thread that copies it out. Null: nowhere.
  std::shared_ptr<const os::Slab> result(const wire::AttachmentMessage& message);
  bool keep(std::uint32_t slab);   // SLAB_KEPT. False: it breaks the protocol.
  bool freed(std::uint32_t slab);  // SLAB_FREED
  // Requires: no call runs. What is dropped is handed to the caller, who empties it.
  using Dropped = std::vector<std::shared_ptr<os::Slab>>;
  void drop_unused_since(Time limit, std::vector<SlabNews>& news, Dropped& out);
  void clear();  // the worker is gone
  std::size_t count() const { return shelf_.count(); }
  std::uint64_t bytes() const { return shelf_.bytes(); }

 private:
  std::shared_ptr<os::Slab> make(const SlabShelf::Place& place, std::vector<SlabNews>& news);
  void drop(const std::vector<std::uint32_t>& ids, std::vector<SlabNews>& news, Dropped& out);

  SlabShelf shelf_;
  // Shared with the reader that copies a result out of one while its worker is being given up.
  std::unordered_map<std::uint32_t, std::shared_ptr<os::Slab>> slabs_;
};

}  // namespace keelback::host
