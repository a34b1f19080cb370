#include <atomic>

#include "os/result.h"

namespace keelback::os::fault {
namespace {
std::atomic<bool> armed{false};
std::atomic<long> nth_call{0};
std::atomic<long> count{0};
std::atomic<int> planned_error{0};
std::atomic<const char*> failed{nullptr};
}  // namespace

void fail_nth(long nth, int error) {
  armed = false;
  nth_call = nth;
  count = 0;
  planned_error = error;
  failed = nullptr;
  armed = nth > 0;
}

long passed() { return count; }

std::string where() {
  const char* name = failed;
  return name != nullptr ? name : "";
}

int next(std::source_location wrapper) {
  if (!armed.load(std::memory_order_relaxed)) return 0;
  if (++count != nth_call.load()) return 0;
  failed = wrapper.function_name();
  return planned_error.load();
}

}  // namespace keelback::os::fault
