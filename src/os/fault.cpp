#include <atomic>

#include "os/result.h"

namespace keelback::os::fault {
namespace {
std::atomic<bool> armed{false};
std::atomic<long> nth_call{0};
std::atomic<long> count{0};
std::atomic<int> planned_error{0};
}  // namespace

void fail_nth(long nth, int error) {
  armed = false;
  nth_call = nth;
  count = 0;
  planned_error = error;
  armed = nth > 0;
}

long passed() { return count; }

int next() {
  if (!armed.load(std::memory_order_relaxed)) return 0;
  return ++count == nth_call.load() ? planned_error.load() : 0;
}

}  // namespace keelback::os::fault
