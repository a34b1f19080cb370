// One callable of several, for std::visit.
#pragma once

namespace keelback {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};

}  // namespace keelback
