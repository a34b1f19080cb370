#include "base/check.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace keelback {
namespace {
std::atomic<std::uint64_t> g_unexpected{0};
std::atomic<bool> g_fatal{false};
}  // namespace

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "keelback: CHECK failed: %s at %s:%d\n", condition, file, line);
  std::abort();
}

std::uint64_t unexpected_count() { return g_unexpected.load(std::memory_order_relaxed); }
void set_unexpected_fatal(bool fatal) { g_fatal.store(fatal, std::memory_order_relaxed); }

bool unexpected(const char* condition, const char* file, int line) {
  g_unexpected.fetch_add(1, std::memory_order_relaxed);
  std::fprintf(stderr, "keelback: unexpected: %s at %s:%d\n", condition, file, line);
  if (g_fatal.load(std::memory_order_relaxed)) std::abort();
  return true;
}

}  // namespace keelback
