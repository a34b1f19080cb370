#include "keelback/outcome.h"

#include <array>

#include "base/check.h"
#include "base/reasons.h"

namespace keelback {
namespace {

struct OutcomeRow {
  std::string_view name;
  int status;
};
// In the order of OutcomeKind.
constexpr std::array<OutcomeRow, kOutcomeKinds> kOutcomes{{
    {"ok", 200},
    {"error", 500},
    {"timeout", 504},
    {"cancelled", 499},
    {"worker_died", 502},
    {"overloaded", 503},
    {"circuit_open", 503},
    {"quarantined", 422},
    {"session_busy", 409},
    {"session_expired", 410},
    {"session_lost", 410},
    {"session_limit", 503},
    {"stale_epoch", 409},
    {"unknown_function", 404},
    {"bad_request", 400},
    {"too_large", 413},
    {"not_ready", 503},
    {"shutting_down", 503},
}};
static_assert(!kOutcomes.back().name.empty(), "every kind has a row, in the order of OutcomeKind");

const OutcomeRow& row(OutcomeKind kind) {
  const auto index = static_cast<std::size_t>(kind);
  CHECK(index < kOutcomes.size());
  return kOutcomes[index];
}

}  // namespace

std::string_view to_string(OutcomeKind kind) { return row(kind).name; }

std::string_view to_string(DeathRole role) {
  constexpr std::string_view kWords[] = {"", "culprit", "bystander", "suspect"};
  return kWords[static_cast<int>(role)];
}
int http_status(OutcomeKind kind) { return row(kind).status; }
int http_status(const Outcome& outcome) {
  if (outcome.reason == kNotOwner) return 421;
  const bool misfit = outcome.python && !outcome.python->errors.empty();
  return outcome.key_reused || misfit ? 422 : http_status(outcome.kind);
}

std::string_view to_string(Effect effect) {
  switch (effect) {
    case Effect::kNone:
      return "none";
    case Effect::kMaybe:
      return "maybe";
    case Effect::kDone:
      return "done";
  }
  CHECK(!"effect out of range");
  return {};
}

std::string to_string(const WorkerRef& worker) {
  return std::to_string(worker.slot) + "." + std::to_string(worker.generation);
}

std::optional<OutcomeKind> outcome_kind_from(std::string_view name) {
  for (std::size_t i = 0; i < kOutcomes.size(); ++i) {
    if (kOutcomes[i].name == name) return static_cast<OutcomeKind>(i);
  }
  return std::nullopt;
}

}  // namespace keelback
