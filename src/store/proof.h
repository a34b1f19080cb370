// 64 bits that prove that bytes are what was written. They are stored, so this function never
// changes: another one is another version of the store.
//
// The key says for which store they were written: a row of another store proves nothing here. It is
// no secret. Proofs are against damage, not against people who can write the file.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace keelback::store {

class Proof {
 public:
  explicit Proof(std::uint64_t key) : hash_(fold(key ^ kFirst, kSecond)) {}

  Proof& number(std::uint64_t value) {
    hash_ = fold(hash_ ^ value, kFirst);
    return *this;
  }
  // Its length counts too: "ab" and "c" are not "a" and "bc".
  Proof& bytes(std::string_view bytes) {
    number(bytes.size());
    while (bytes.size() >= sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data(), sizeof word);
      hash_ = fold(hash_ ^ word, kSecond);
      bytes.remove_prefix(sizeof word);
    }
    if (bytes.empty()) return *this;
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    hash_ = fold(hash_ ^ word, kThird);
    return *this;
  }
  std::uint64_t value() const { return fold(hash_ ^ kThird, kFirst); }

 private:
  // Multiply to 128 bits and fold, eight bytes at a time, as wyhash does: about 4 GB/s.
  static std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const auto product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  static constexpr std::uint64_t kFirst = 0x9e3779b97f4a7c15ULL;
  static constexpr std::uint64_t kSecond = 0xe7037ed1a0b428dbULL;
  static constexpr std::uint64_t kThird = 0x8ebc6af09c88c6e3ULL;

  std::uint64_t hash_;
};

}  // namespace keelback::store
