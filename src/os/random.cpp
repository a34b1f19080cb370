#include "os/random.h"

#include <array>
#include <cstdio>
#include <random>

namespace keelback::os {

std::uint64_t random_word() {
  std::random_device device;
  std::uint64_t word = 0;
  while (word == 0) word = std::uint64_t{device()} << 32U | device();
  return word;
}

std::string random_text() {
  std::random_device device;
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%08x%08x%08x%08x", device(), device(), device(),
                device());
  return text.data();
}

}  // namespace keelback::os
