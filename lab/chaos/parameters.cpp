#include "chaos/parameters.h"

#include "base/settings_text.h"

namespace keelback::chaos {

std::uint64_t count_of(const FaultSpec& fault, std::string_view name) {
  return parse_count(parameter_value(fault, name)).value_or(0);
}

double number_of(const FaultSpec& fault, std::string_view name) {
  return parse_number(parameter_value(fault, name)).value_or(0);
}

Duration duration_of(const FaultSpec& fault, std::string_view name) {
  return parse_duration(parameter_value(fault, name)).value_or(Duration{0});
}

std::uint64_t bytes_of(const FaultSpec& fault, std::string_view name) {
  return parse_bytes(parameter_value(fault, name)).value_or(Bytes{}).count;
}

}  // namespace keelback::chaos
