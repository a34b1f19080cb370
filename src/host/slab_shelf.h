// Which of a worker's slabs an attachment goes into, when there is one more, and when one goes.
// Decides only: whoever owns the shelf makes and drops the memory.
//
// A slab belongs to one worker. While a call runs all of them are the worker's, which may have its
// result in any; between calls all of them are ours, except those that the worker has kept because
// user code still looks at them. So nothing has to be given back, and no call's end can be missed.
//
// The budget is shared by the shelves of all workers. What a shelf holds counts from the decision
// to make it until the decision to drop it; a kept slab counts until the worker frees it or dies.
//
// Invariants: the sum of sizes is what this shelf has taken from the budget; at most kSlabsMax.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/time.h"

namespace keelback::host {

// How many bytes of slabs there may be. Any thread.
class SlabBudget {
 public:
  explicit SlabBudget(std::uint64_t limit) : limit_(limit) {}
  void set_limit(std::uint64_t bytes) { limit_ = bytes; }
  [[nodiscard]] bool take(std::uint64_t bytes);  // false: over the limit, and nothing taken
  void give(std::uint64_t bytes) { used_ -= bytes; }
  std::uint64_t used() const { return used_; }

 private:
  std::atomic<std::uint64_t> limit_;
  std::atomic<std::uint64_t> used_ = 0;
};

class SlabShelf {
 public:
  static constexpr std::size_t kSlabsMax = 64;

  // `budget` must outlive the shelf.
  explicit SlabShelf(SlabBudget& budget) : budget_(budget) {}
  SlabShelf(const SlabShelf&) = delete;
  SlabShelf& operator=(const SlabShelf&) = delete;
  ~SlabShelf() { clear(); }

  struct Place {
    std::uint32_t slab = 0;
    std::uint64_t bytes = 0;  // its size
    bool fresh = false;       // to be made
  };

  // ---- between calls

  // A call is about to be given to the worker: what the last one used is free.
  void begin_call();
  // For one attachment of that call: the smallest free slab that holds `bytes` (a tie: the older
  // one), else a fresh one, for whose sake free slabs may have to go (`dropped`). nullopt: neither
  // the budget nor the shelf has room, the bytes travel in the frame.
  std::optional<Place> place(Time now, std::uint64_t bytes, std::vector<std::uint32_t>& dropped);
  // Takes those off that nobody has used since `limit`.
  std::vector<std::uint32_t> drop_unused_since(Time limit);

  // ---- while a call runs

  // A fresh one for its result.
  std::optional<Place> grow(Time now, std::uint64_t bytes);
  // A part of its result is in that slab. False: there is no such slab.
  bool used(Time now, std::uint32_t slab, std::uint64_t offset, std::uint64_t bytes);
  // User code still looks at it: not to be used again. False: no such slab, or kept already.
  bool keep(std::uint32_t slab);
  // The worker has unmapped a kept one. False: no such slab.
  bool freed(std::uint32_t slab);

  // ---- always

  void forget(std::uint32_t slab);  // it could not be made
  void clear();                     // the worker is gone, and with it all of them
  std::size_t count() const { return slabs_.size(); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Slab {
    std::uint32_t id;
    std::uint64_t bytes;
    Time used_at;
    bool taken;  // by the call that is being given to the worker
    bool kept;
  };
  using Slabs = std::vector<Slab>;

  std::optional<Place> make(Time now, std::uint64_t bytes);
  Slabs::iterator find(std::uint32_t slab);
  void drop(Slabs::iterator slab);

  SlabBudget& budget_;
  Slabs slabs_;  // by id: at most kSlabsMax, so walking them is cheap
  std::uint32_t last_id_ = 0;
  std::uint64_t bytes_ = 0;
};

// The size of a slab for `bytes`: at least 64 KiB, in steps of a quarter of the power of two below,
// so that little is wasted and similar attachments share.
std::uint64_t slab_size(std::uint64_t bytes);

}  // namespace keelback::host
