// Finds objects by a number that is given out in order and never again, such as a CallId.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "core/probe_table.h"

namespace keelback::core {

// T has `.id.value`, which does not change while T is in the index. The index owns nothing.
template <class T>
class IdIndex {
 public:
  T* find(std::uint64_t id) const {
    return table_.find(hash_of(id), [](const T&) { return true; });
  }
  bool contains(std::uint64_t id) const { return find(id) != nullptr; }
  // Requires: no item of that number is in.
  void insert(T& item) {
    CHECK(!contains(item.id.value));
    table_.insert(hash_of(item.id.value), item);
  }
  void erase(const T& item) { table_.erase(hash_of(item.id.value), item); }
  template <class Visit>
  void each(Visit visit) const {
    table_.each(visit);
  }
  std::size_t size() const { return table_.size(); }
  bool empty() const { return size() == 0; }

 private:
  // One to one, so that equal hashes are equal numbers; and numbers that follow each other lie
  // apart, whatever their stride.
  static std::uint64_t hash_of(std::uint64_t id) { return id * 0x9e3779b97f4a7c15ULL; }
  ProbeTable<T> table_;
};

}  // namespace keelback::core
