// What the core knows of an outcome. The driver adds what it holds itself: result, Python error,
// dump. Resolve is not an Outcome, because that has room for what only the driver holds.
#pragma once

#include <utility>

#include "core/action.h"
#include "keelback/outcome.h"

namespace keelback::core {

inline Outcome outcome_of(Resolve& resolve) {
  Outcome outcome;
  outcome.call = resolve.call.value;
  outcome.kind = resolve.kind;
  outcome.effect = resolve.effect;
  outcome.message = std::move(resolve.message);
  outcome.death = std::move(resolve.death);
  outcome.worker = resolve.worker;
  outcome.attempts = resolve.attempts;
  outcome.birth = resolve.birth;
  outcome.epoch = resolve.epoch;
  outcome.queued = resolve.queued;
  outcome.ran = resolve.ran;
  outcome.retry_after = resolve.retry_after;
  outcome.key_reused = resolve.key_reused;
  outcome.reason = resolve.reason;
  return outcome;
}

}  // namespace keelback::core
