// The parameters of a fault as values. A parameter that the fault does not have is 0.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/time.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

std::uint64_t count_of(const FaultSpec& fault, std::string_view name);
double number_of(const FaultSpec& fault, std::string_view name);
Duration duration_of(const FaultSpec& fault, std::string_view name);
std::uint64_t bytes_of(const FaultSpec& fault, std::string_view name);

}  // namespace keelback::chaos
