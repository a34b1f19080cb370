// The table under NameIndex and IdIndex: pointers by 64-bit hash. It owns nothing.
//
// Linear probing, three quarters full at most: a lookup misses one cache line of the table, nearly
// always, and one of the item. (boost::unordered_flat_set keeps tags and entries apart: a line
// more, for which the item's address waits. And it makes itself anew, with an allocation, every few
// thousand calls that come and go.) The hash is kept, so that growing does not touch the items.
// Erasing moves back what was pushed past the hole, so coming and going leaves nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace keelback::core {

template <class T>
class ProbeTable {
 public:
  ProbeTable() : entries_(kSmallest) {}

  // The item of this hash for which `is_it(item)`; null if there is none.
  template <class IsIt>
  T* find(std::uint64_t hash, IsIt is_it) const {
    for (std::size_t at = home(hash);; at = next(at)) {
      const Entry& entry = entries_[at];
      if (entry.item == nullptr) return nullptr;
      if (entry.hash == hash && is_it(*entry.item)) return entry.item;
    }
  }
  void insert(std::uint64_t hash, T& item) {
    if ((size_ + 1) * 4 > entries_.size() * 3) grow();
    put({&item, hash});
    ++size_;
  }
  // Requires: it is in, under this hash.
  void erase(std::uint64_t hash, const T& item) {
    std::size_t hole = home(hash);
    while (entries_[hole].item != &item) {
      CHECK(entries_[hole].item != nullptr);
      hole = next(hole);
    }
    --size_;
    // Whoever was pushed past the hole moves back into it, so that no probe ends too early.
    for (std::size_t at = next(hole); entries_[at].item != nullptr; at = next(at)) {
      const std::size_t wanted = home(entries_[at].hash);
      if (((at - wanted) & mask()) < ((at - hole) & mask())) continue;
      entries_[hole] = entries_[at];
      hole = at;
    }
    entries_[hole] = {};
  }
  // In no order that means anything. `visit` must not change the table.
  template <class Visit>
  void each(Visit visit) const {
    for (const Entry& entry : entries_) {
      if (entry.item != nullptr) visit(*entry.item);
    }
  }
  std::size_t size() const { return size_; }
  // Bytes of the table itself.
  std::size_t bytes() const { return entries_.size() * sizeof(Entry); }

 private:
  struct Entry {
    T* item = nullptr;
    std::uint64_t hash = 0;
  };
  static constexpr std::size_t kSmallest = 16;

  std::size_t mask() const { return entries_.size() - 1; }
  std::size_t home(std::uint64_t hash) const { return hash & mask(); }
  std::size_t next(std::size_t at) const { return (at + 1) & mask(); }
  void put(Entry entry) {
    std::size_t at = home(entry.hash);
    while (entries_[at].item != nullptr) at = next(at);
    entries_[at] = entry;
  }
  void grow() {
    std::vector<Entry> old(entries_.size() * 2);
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.item != nullptr) put(entry);
    }
  }

  std::size_t size_ = 0;
  std::vector<Entry> entries_;  // a power of two
};

}  // namespace keelback::core
