#include "chaos/call_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
constexpr std::size_t kFiringCallsMax = 50'000;

}  // namespace

void CallPlan::same(std::string_view function, const std::string& payload) {
  repeat(count_of(fault, "calls"), [&](std::uint64_t) { return call(function, payload); });
}

void CallPlan::repeat(std::uint64_t n, const std::function<PlannedCall(std::uint64_t)>& one) {
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(n, kFiringCallsMax); ++i) add(one(i));
}

void CallPlan::spread(double rate, const std::function<PlannedCall(Duration)>& one) {
  const double seconds = std::chrono::duration<double>(fault.lasts).count();
  const auto n = std::min(static_cast<std::size_t>(std::max(1.0, rate * seconds)), kFiringCallsMax);
  for (std::size_t i = 0; i < n; ++i) {
    add(one(fault.lasts * static_cast<std::int64_t>(i) / static_cast<std::int64_t>(n)));
  }
}

void CallPlan::after_bite() {
  for (std::size_t i = 0; i < calls.size(); ++i) {
    calls[i].at = 5ms * static_cast<std::int64_t>(i + 1);
  }
}

std::string CallPlan::milliseconds(std::string_view parameter) const {
  const auto value =
      std::chrono::ceil<std::chrono::milliseconds>(duration_of(fault, parameter)).count();
  return fmt::format("[{}]", value);
}

}  // namespace keelback::chaos
