// A fingerprint of a whole run: every event and every action, field by field, in order. Two runs
// with equal fingerprints went the same way. Not for adversaries.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/time.h"
#include "core/action.h"
#include "core/event.h"

namespace keelback::sim {

class TraceHash {
 public:
  void add(Time now, const core::Event& event);
  void add(const core::Action& action);
  std::uint64_t value() const { return state_; }

  // One word, by a 64 x 64 -> 128 multiplication folded back; order matters.
  void mix(std::uint64_t word);
  void mix(std::string_view text);

 private:
  std::uint64_t state_ = 0x9e3779b97f4a7c15ULL;
};

}  // namespace keelback::sim
