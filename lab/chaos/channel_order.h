// How a worker's answers may go wrong on their way: what the interposer can do, as data.
#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"

namespace keelback::chaos {

enum class Misdeed : std::uint8_t {
  kGarbage,     // bytes that are no frame, instead of the answer
  kHeader,      // the answer with a type that does not exist
  kHalfStall,   // half the answer, then silence
  kHalfClose,   // half the answer, then the end of the socket
  kClose,       // the end of the socket instead of the answer
  kDuplicate,   // the answer twice
  kStale,       // first the answer before this one, again
  kUnknown,     // the answer to a call that nobody made, before the answer
  kLate,        // the answer after `delay`
  kDrip,        // the answer in pieces of `bytes`, `delay` apart
  kDrop,        // no answer
  kVersion,     // of a starting worker: CONNECT speaks another version
  kHalfGreet,   // … half a CONNECT, then silence
  kNoGreeting,  // … no CONNECT, and silence
};

struct ChannelOrder {
  std::string fault;  // counted under this name
  Misdeed what = Misdeed::kGarbage;
  Duration delay{0};
  std::uint32_t bytes = 1;
  std::uint32_t answers = 0;  // so many of each worker; 0: all
};

}  // namespace keelback::chaos
