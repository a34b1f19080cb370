// Finds objects by name. The hash is seeded, so that nobody outside can choose names that collide;
// nothing ever iterates it, so no result depends on the seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/prng.h"

namespace keelback::core {

// Multiply-fold over 8-byte words (the construction of wyhash, W. Yi 2019).
inline std::uint64_t seeded_hash(std::string_view text, std::uint64_t seed) {
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  std::uint64_t hash = seed ^ 0xa0761d6478bd642fULL;
  const char* at = text.data();
  std::size_t left = text.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    hash = fold(hash ^ word, 0xe7037ed1a0b428dbULL ^ seed);
  }
  std::uint64_t tail = 0;
  if (left > 0) std::memcpy(&tail, at, left);
  hash = fold(hash ^ tail, 0x8ebc6af09c88c6e3ULL ^ seed);
  return fold(hash ^ text.size(), 0x589965cc75374cc3ULL);
}

// T has `std::string_view name() const`, which does not change while T is in the index. The index
// owns nothing.
//
// Linear probing, three quarters full at most: a lookup misses one cache line of the table, nearly
// always, and one of the item. (boost::unordered_flat_set keeps tags and entries apart: a line
// more, for which the item's address waits.) The hash is kept, so that growing does not touch the
// items.
template <class T>
class NameIndex {
 public:
  explicit NameIndex(std::uint64_t seed) : seed_(seed), entries_(kSmallest) {}

  T* find(std::string_view name) const {
    const std::uint64_t hash = seeded_hash(name, seed_);
    for (std::size_t at = home(hash);; at = next(at)) {
      const Entry& entry = entries_[at];
      if (entry.item == nullptr) return nullptr;
      if (entry.hash == hash && entry.item->name() == name) return entry.item;
    }
  }
  // Requires: no item of that name is in.
  void insert(T& item) {
    if ((size_ + 1) * 4 > entries_.size() * 3) grow();
    put({&item, seeded_hash(item.name(), seed_)});
    ++size_;
  }
  void erase(T& item) {
    std::size_t hole = home(seeded_hash(item.name(), seed_));
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
    for (; entries_[at].item != nullptr; at = next(at)) {
      CHECK(entries_[at].hash != entry.hash || entries_[at].item->name() != entry.item->name());
    }
    entries_[at] = entry;
  }
  void grow() {
    std::vector<Entry> old(entries_.size() * 2);
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.item != nullptr) put(entry);
    }
  }

  std::uint64_t seed_;
  std::size_t size_ = 0;
  std::vector<Entry> entries_;  // a power of two
};

}  // namespace keelback::core
