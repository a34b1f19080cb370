// Little-endian integers in byte buffers, whatever the machine is.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

namespace keelback::wire {

template <std::integral T>
void store(char* out, T value) {
  const auto bits = static_cast<std::make_unsigned_t<T>>(value);
  for (std::size_t i = 0; i < sizeof(T); ++i) out[i] = static_cast<char>(bits >> (8 * i) & 0xff);
}

// Requires: offset + sizeof(T) <= bytes.size().
template <std::integral T>
T load(std::string_view bytes, std::size_t offset) {
  std::make_unsigned_t<T> bits = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[offset + i]);
    bits = static_cast<std::make_unsigned_t<T>>(bits | std::make_unsigned_t<T>{byte} << (8 * i));
  }
  return static_cast<T>(bits);
}

template <std::integral T>
void append(std::string& out, T value) {
  char bytes[sizeof(T)];
  store(bytes, value);
  out.append(bytes, sizeof(T));
}

}  // namespace keelback::wire
