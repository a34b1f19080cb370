// Counts what a process allocates, one by one. A library of its own that is put in front of libc
// (LD_PRELOAD) in the one agent that counts and nowhere else: no other process pays anything for
// it. Every way to ask libc for heap memory is counted, operator new among them, by any thread; a
// realloc counts as one. Not the C++ runtime's: this file stands on libc alone.
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

extern "C" {

// glibc's own names for what we stand in front of.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

[[gnu::visibility("default")]] void* malloc(size_t size) noexcept;
[[gnu::visibility("default")]] void* calloc(size_t count, size_t size) noexcept;
[[gnu::visibility("default")]] void* realloc(void* memory, size_t size) noexcept;
[[gnu::visibility("default")]] void* memalign(size_t alignment, size_t size) noexcept;
[[gnu::visibility("default")]] void* aligned_alloc(size_t alignment, size_t size) noexcept;
[[gnu::visibility("default")]] int posix_memalign(void** memory, size_t alignment,
                                                  size_t size) noexcept;
[[gnu::visibility("default")]] uint64_t keelback_allocations();
}

namespace {

uint64_t allocations = 0;
void count_one() { __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED); }

// What this process starts is not to be counted, nor slowed.
[[gnu::constructor]] void only_here() { unsetenv("LD_PRELOAD"); }

}  // namespace

extern "C" {

void* malloc(size_t size) noexcept {
  count_one();
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) noexcept {
  count_one();
  return __libc_calloc(count, size);
}

void* realloc(void* memory, size_t size) noexcept {
  count_one();
  return __libc_realloc(memory, size);
}

void* memalign(size_t alignment, size_t size) noexcept {
  count_one();
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) noexcept {
  count_one();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** memory, size_t alignment, size_t size) noexcept {
  count_one();
  if (alignment < sizeof(void*) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void* made = __libc_memalign(alignment, size);
  if (made == nullptr) return ENOMEM;
  *memory = made;
  return 0;
}

uint64_t keelback_allocations() { return allocations; }
}
