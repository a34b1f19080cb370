#include "host/slab_shelf.h"

#include <algorithm>
#include <bit>

namespace keelback::host {

bool SlabBudget::take(std::uint64_t bytes) {
  std::uint64_t used = used_;
  do {
    const std::uint64_t limit = limit_;
    if (used > limit || bytes > limit - used) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes));
  return true;
}

std::uint64_t slab_size(std::uint64_t bytes) {
  constexpr std::uint64_t kStepMin = 64 << 10;
  if (bytes > std::uint64_t{1} << 62) return UINT64_MAX;  // a worker may ask for anything
  const std::uint64_t step = std::max(std::bit_floor(std::max(bytes, kStepMin)) / 4, kStepMin);
  return (std::max<std::uint64_t>(bytes, 1) + step - 1) / step * step;
}

SlabShelf::Slabs::iterator SlabShelf::find(std::uint32_t slab) {
  return std::ranges::find(slabs_, slab, &Slab::id);
}

void SlabShelf::drop(Slabs::iterator slab) {
  budget_.give(slab->bytes);
  bytes_ -= slab->bytes;
  slabs_.erase(slab);
}

std::optional<SlabShelf::Place> SlabShelf::make(Time now, std::uint64_t bytes) {
  const std::uint64_t size = slab_size(bytes);
  if (slabs_.size() >= kSlabsMax || !budget_.take(size)) return std::nullopt;
  bytes_ += size;
  slabs_.push_back({++last_id_, size, now, /*taken=*/true, /*kept=*/false});
  return Place{last_id_, size, true};
}

void SlabShelf::begin_call() {
  for (Slab& slab : slabs_) slab.taken = false;
}

std::optional<SlabShelf::Place> SlabShelf::place(Time now, std::uint64_t bytes,
                                                 std::vector<std::uint32_t>& dropped) {
  Slab* best = nullptr;
  for (Slab& slab : slabs_) {
    const bool fits = !slab.taken && !slab.kept && slab.bytes >= bytes;
    if (fits && (best == nullptr || slab.bytes < best->bytes)) best = &slab;
  }
  if (best != nullptr) {
    best->taken = true;
    best->used_at = now;
    return Place{best->id, best->bytes, false};
  }
  for (;;) {
    if (auto made = make(now, bytes)) return made;
    // All that are free are too small: the one that was used longest ago makes room.
    auto oldest = slabs_.end();
    for (auto slab = slabs_.begin(); slab != slabs_.end(); ++slab) {
      if (slab->taken || slab->kept) continue;
      if (oldest == slabs_.end() || slab->used_at < oldest->used_at) oldest = slab;
    }
    if (oldest == slabs_.end()) return std::nullopt;
    dropped.push_back(oldest->id);
    drop(oldest);
  }
}

std::vector<std::uint32_t> SlabShelf::drop_unused_since(Time limit) {
  std::vector<std::uint32_t> dropped;
  for (auto slab = slabs_.begin(); slab != slabs_.end();) {
    if (slab->kept || slab->used_at > limit) {
      ++slab;
      continue;
    }
    dropped.push_back(slab->id);
    const auto at = slab - slabs_.begin();
    drop(slab);
    slab = slabs_.begin() + at;
  }
  return dropped;
}

std::optional<SlabShelf::Place> SlabShelf::grow(Time now, std::uint64_t bytes) {
  return make(now, bytes);
}

bool SlabShelf::used(Time now, std::uint32_t slab, std::uint64_t offset, std::uint64_t bytes) {
  const auto found = find(slab);
  if (found == slabs_.end() || found->kept) return false;
  if (offset > found->bytes || bytes > found->bytes - offset) return false;
  found->used_at = now;
  return true;
}

bool SlabShelf::keep(std::uint32_t slab) {
  const auto found = find(slab);
  if (found == slabs_.end() || found->kept) return false;
  found->kept = true;
  return true;
}

bool SlabShelf::freed(std::uint32_t slab) {
  const auto found = find(slab);
  if (found == slabs_.end() || !found->kept) return false;
  drop(found);
  return true;
}

void SlabShelf::forget(std::uint32_t slab) {
  const auto found = find(slab);
  if (found != slabs_.end()) drop(found);
}

void SlabShelf::clear() {
  budget_.give(bytes_);
  bytes_ = 0;
  slabs_.clear();
}

}  // namespace keelback::host
