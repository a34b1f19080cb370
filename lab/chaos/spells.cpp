#include "chaos/spells.h"

#include <algorithm>

namespace keelback::chaos {

std::optional<Spell> last_spell(const CallEvent& call) {
  if (call.call == 0 || !call.finished() || call.worker.generation == 0) return std::nullopt;
  Spell out{.begun_from = call.sent + call.queued};
  out.begun_to = std::max(out.begun_from, call.done - call.ran);
  const bool answered = call.ok() || call.kind == OutcomeKind::kError;
  if (answered) out.ran_to = std::min(call.done, out.begun_from + call.ran);
  return out;
}

bool surely_together(const Spell& one, const Spell& other) {
  return std::max(one.begun_to, other.begun_to) < std::min(one.ran_to, other.ran_to);
}

}  // namespace keelback::chaos
