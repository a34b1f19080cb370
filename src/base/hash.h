// Hashes of 64 bits. FNV-1a for values that documents, plans and seeds hold: they never change.
// seeded_hash for tables and comparisons inside one process: fast, and outsiders cannot choose
// inputs that collide if they do not know the seed. Neither is for secrets.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/wide.h"

namespace keelback {

inline constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325ULL;
inline constexpr std::uint64_t kFnvPrime = 0x100000001b3ULL;

// FNV-1a (Fowler, Noll and Vo, 1991). To hash several texts in a row, pass the last result as
// `hash`.
constexpr std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = kFnvBasis) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * kFnvPrime;
  return hash;
}
// The same of the eight bytes of a number, lowest byte first.
constexpr std::uint64_t fnv1a(std::uint64_t number, std::uint64_t hash) {
  for (int shift = 0; shift < 64; shift += 8) hash = (hash ^ (number >> shift & 0xff)) * kFnvPrime;
  return hash;
}

// Both halves of the product, folded into one.
constexpr std::uint64_t multiply_and_fold(std::uint64_t a, std::uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Multiplies and folds words of eight bytes (the construction of wyhash, W. Yi 2019): about 4 GB/s.
inline std::uint64_t seeded_hash(std::string_view text, std::uint64_t seed) {
  std::uint64_t hash = seed ^ 0xa0761d6478bd642fULL;
  const char* at = text.data();
  std::size_t left = text.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    hash = multiply_and_fold(hash ^ word, 0xe7037ed1a0b428dbULL ^ seed);
  }
  std::uint64_t tail = 0;
  if (left > 0) std::memcpy(&tail, at, left);
  hash = multiply_and_fold(hash ^ tail, 0x8ebc6af09c88c6e3ULL ^ seed);
  return multiply_and_fold(hash ^ text.size(), 0x589965cc75374cc3ULL);
}

}  // namespace keelback
