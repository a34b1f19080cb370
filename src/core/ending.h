// How calls end: what the pool knows of an outcome before it is counted and said.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/time.h"
#include "core/breaker.h"
#include "keelback/outcome.h"

namespace keelback::core {

// A worker's death, shared by the calls and the sessions that ended with it.
using DeathPtr = std::shared_ptr<const Death>;

// A call that is turned away, or ends without an answer.
struct Refusal {
  OutcomeKind kind;
  std::string message;
  std::optional<Duration> retry_after;
  DeathPtr death;
  bool key_reused = false;
};

// How a call in flight ends.
struct Ending {
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kNone;
  std::string message;
  std::optional<Duration> retry_after;
  DeathPtr death;
  Breaker::Result breaker = Breaker::Result::kNeutral;
};

}  // namespace keelback::core
