// Objects of one type with stable addresses and no allocation in the steady state. Under
// AddressSanitizer every object is a heap block of its own, so that a stale pointer is seen.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/sanitizer.h"

namespace keelback::core {

inline constexpr bool kSlabUsesHeap = kSanitizer == "address";

// The owner frees every object before the slab goes. Freed cells are reused last in, first out;
// memory is given back only with the slab.
template <class T>
class Slab {
 public:
  Slab() = default;
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  ~Slab() { CHECK(live_ == 0); }

  template <class... Args>
  T* make(Args&&... args) {
    ++live_;
    if constexpr (kSlabUsesHeap) {
      return new T(std::forward<Args>(args)...);
    } else {
      if (!free_) grow();
      Cell* cell = free_;
      free_ = cell->next;
      return ::new (static_cast<void*>(cell)) T(std::forward<Args>(args)...);
    }
  }
  void free(T* object) {
    --live_;
    if constexpr (kSlabUsesHeap) {
      delete object;
    } else {
      object->~T();
      Cell* cell = ::new (static_cast<void*>(object)) Cell;
      cell->next = free_;
      free_ = cell;
    }
  }
  std::size_t live() const { return live_; }

 private:
  union Cell {
    Cell* next;
    alignas(T) std::byte storage[sizeof(T)];
  };
  static constexpr std::size_t kChunk = 128;

  void grow() {
    chunks_.push_back(std::make_unique_for_overwrite<Cell[]>(kChunk));
    for (std::size_t i = kChunk; i-- > 0;) {
      chunks_.back()[i].next = free_;
      free_ = &chunks_.back()[i];
    }
  }

  std::vector<std::unique_ptr<Cell[]>> chunks_;
  Cell* free_ = nullptr;
  std::size_t live_ = 0;
};

}  // namespace keelback::core
