// How calls end: what the pool knows of an outcome before it is counted and said.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "core/breaker.h"
#include "keelback/outcome.h"

namespace keelback::core {

// A worker's death, shared by the calls and the sessions that ended with it.
using DeathPtr = std::shared_ptr<const Death>;

// How a call ends, or why it is turned away.
struct Ending {
  OutcomeKind kind = OutcomeKind::kOk;
  std::string message;
  std::optional<Duration> retry_after;
  DeathPtr death;
  bool key_reused = false;  // kBadRequest: the idempotency key is another request's
  std::string_view reason;  // kOverloaded: Outcome::reason. Static storage
  Effect effect = Effect::kNone;
  DeathRole role = DeathRole::kNone;
  Breaker::Result breaker = Breaker::Result::kNeutral;
};

}  // namespace keelback::core
