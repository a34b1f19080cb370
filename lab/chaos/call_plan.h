// Plans the calls that a fault makes itself. Their times count from its firing.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/plan.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

class CallPlan {
 public:
  // A call of a word of the laboratory. With an empty payload the word gets what it needs.
  using Make = std::function<PlannedCall(std::string_view function, std::string payload,
                                         Duration at, std::string session)>;
  CallPlan(const Scenario& all, const FaultSpec& spec, std::uint32_t nth, Make make)
      : scenario(all), fault(spec), round(nth), make_(std::move(make)) {}

  PlannedCall call(std::string_view function, std::string payload = {}, Duration at = {},
                   std::string session = {}) const {
    return make_(function, std::move(payload), at, std::move(session));
  }
  void add(PlannedCall call) { calls.push_back(std::move(call)); }
  // As many as the parameter `calls` says, all at once.
  void same(std::string_view function, const std::string& payload);
  void repeat(std::uint64_t n, const std::function<PlannedCall(std::uint64_t)>& one);
  // So many a second, evenly over the fault's time.
  void spread(double rate, const std::function<PlannedCall(Duration)>& one);
  // One after another, once the fault is in place: for calls that must meet it.
  void after_bite();
  std::string milliseconds(std::string_view parameter) const;  // "[20]"

  const Scenario& scenario;
  const FaultSpec& fault;
  const std::uint32_t round;  // of `times`
  std::vector<PlannedCall> calls;

 private:
  Make make_;
};

}  // namespace keelback::chaos
