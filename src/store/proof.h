// 64 bits that prove that bytes are the ones that were written. They are stored, so this function
// never changes: a different function means a new version of the store's format.
//
// The key names the store, so that a row of another store proves nothing here. It is no secret: the
// proof finds damage, it does not stop people who can write the file.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/hash.h"

namespace keelback::store {

class Proof {
 public:
  explicit Proof(std::uint64_t key) : hash_(multiply_and_fold(key ^ kFirst, kSecond)) {}

  Proof& number(std::uint64_t value) {
    hash_ = multiply_and_fold(hash_ ^ value, kFirst);
    return *this;
  }
  // Its length counts too: "ab" and "c" are not "a" and "bc".
  Proof& bytes(std::string_view bytes) {
    number(bytes.size());
    while (bytes.size() >= sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data(), sizeof word);
      hash_ = multiply_and_fold(hash_ ^ word, kSecond);
      bytes.remove_prefix(sizeof word);
    }
    if (bytes.empty()) return *this;
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    hash_ = multiply_and_fold(hash_ ^ word, kThird);
    return *this;
  }
  std::uint64_t value() const { return multiply_and_fold(hash_ ^ kThird, kFirst); }

 private:
  static constexpr std::uint64_t kFirst = 0x9e3779b97f4a7c15ULL;
  static constexpr std::uint64_t kSecond = 0xe7037ed1a0b428dbULL;
  static constexpr std::uint64_t kThird = 0x8ebc6af09c88c6e3ULL;

  std::uint64_t hash_;
};

}  // namespace keelback::store
