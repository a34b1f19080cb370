// Finds objects by name. The hash is seeded, so that nobody outside can choose names that collide;
// nothing ever iterates it, so no result depends on the seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/prng.h"
#include "core/probe_table.h"

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
template <class T>
class NameIndex {
 public:
  explicit NameIndex(std::uint64_t seed) : seed_(seed) {}

  T* find(std::string_view name) const {
    return table_.find(seeded_hash(name, seed_),
                       [&](const T& item) { return item.name() == name; });
  }
  // Requires: no item of that name is in.
  void insert(T& item) {
    const std::uint64_t hash = seeded_hash(item.name(), seed_);
    CHECK(!table_.find(hash, [&](const T& other) { return other.name() == item.name(); }));
    table_.insert(hash, item);
  }
  void erase(const T& item) { table_.erase(seeded_hash(item.name(), seed_), item); }
  std::size_t size() const { return table_.size(); }
  // Bytes of the table itself.
  std::size_t bytes() const { return table_.bytes(); }

 private:
  std::uint64_t seed_;
  ProbeTable<T> table_;
};

}  // namespace keelback::core
