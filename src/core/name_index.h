// Finds objects by name. The hash is seeded, so that nobody outside can choose names that collide;
// nothing ever iterates it, so no result depends on the seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/hash.h"
#include "core/probe_table.h"

namespace keelback::core {

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
