// The fingerprint of a request with attachments, which quarantine and idempotency know it by.
//
// Reading a megabyte to name it would cost as much as sending it. So such a request goes by a quick
// print (names, sizes, a sample of the bytes) until one of the same quick print has killed a
// worker; from then on, as with an idempotency key always, every byte counts. Nobody is ever
// refused for what they only resemble: a quick print is never held in quarantine.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_set>

#include "keelback/attachment.h"

namespace keelback::host {

// `base` is the print of the rest of the request.
std::uint64_t quick_print(std::uint64_t base, const Attachments& attachments);
std::uint64_t full_print(std::uint64_t quick, const Attachments& attachments);

// Quick prints of requests that died with their worker; the latest kMax of them.
class SuspectPrints {
 public:
  static constexpr std::size_t kMax = 1024;
  void add(std::uint64_t quick);
  bool contains(std::uint64_t quick) const { return prints_.contains(quick); }

 private:
  std::unordered_set<std::uint64_t> prints_;
  std::deque<std::uint64_t> order_;  // oldest first
};

}  // namespace keelback::host
