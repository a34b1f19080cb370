// Finds objects by name. The hash is seeded, so that nobody outside can choose names that collide;
// nothing ever iterates it, so no result depends on the seed.
#pragma once

#include <bit>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

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
// owns nothing. Not movable: its functors are stateless, but its owners are not movable either.
template <class T>
class NameIndex {
 public:
  explicit NameIndex(std::uint64_t seed) : seed_(seed) {}

  T* find(std::string_view name) const {
    const auto found = set_.find(Key{name, seeded_hash(name, seed_)});
    return found == set_.end() ? nullptr : found->item;
  }
  // Requires: no item of that name is in.
  void insert(T& item) {
    const bool inserted = set_.insert(Entry{&item, seeded_hash(item.name(), seed_)}).second;
    CHECK(inserted);
  }
  void erase(T& item) {
    const auto found = set_.find(Entry{&item, seeded_hash(item.name(), seed_)});
    CHECK(found != set_.end() && found->item == &item);
    set_.erase(found);
  }
  std::size_t size() const { return set_.size(); }
  // Bytes of the table itself.
  std::size_t bytes() const { return set_.bucket_count() * (sizeof(Entry) + 1); }

 private:
  struct Entry {
    T* item;
    std::uint64_t hash;  // kept, so that growing does not touch the items
  };
  struct Key {
    std::string_view name;
    std::uint64_t hash;
  };
  struct Hash {
    using is_transparent = void;
    using is_avalanching = void;
    std::size_t operator()(const Entry& entry) const noexcept { return entry.hash; }
    std::size_t operator()(const Key& key) const noexcept { return key.hash; }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Entry& a, const Entry& b) const {
      return a.item == b.item || (a.hash == b.hash && a.item->name() == b.item->name());
    }
    bool operator()(const Key& a, const Entry& b) const {
      return a.hash == b.hash && a.name == b.item->name();
    }
    bool operator()(const Entry& a, const Key& b) const { return (*this)(b, a); }
  };
  std::uint64_t seed_;
  boost::unordered_flat_set<Entry, Hash, Equal> set_;
};

}  // namespace keelback::core
