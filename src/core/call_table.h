// What every driver of the core keeps of its calls: the records of those in flight, what their
// workers have answered, the outcomes that may be replayed, and the stacks of calls that ran past
// their deadline. A driver's record is its own type; it has `CallId id` and belongs to the driver.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/id.h"
#include "base/time.h"
#include "core/action.h"
#include "core/event.h"
#include "core/id_index.h"
#include "core/late_dumps.h"
#include "core/outcome_of.h"
#include "keelback/outcome.h"

namespace keelback::core {

// What a worker has answered to a call, until the core says how the call ends.
struct Answer {
  ReplyKind kind{};
  std::string result;
  Attachments attachments;
  std::optional<PythonError> python;

  void clear() {
    result.clear();
    attachments.clear();
    python.reset();
  }
};

inline std::uint64_t bytes_of(const std::optional<PythonError>& error) {
  if (!error) return 0;
  return error->type.size() + error->message.size() + error->traceback.size() +
         error->errors.size();
}

// How the call ends, as the core says, with what its worker has answered. Takes the answer's
// contents that the outcome holds.
inline Outcome outcome_of(Resolve& resolve, Answer& answer) {
  Outcome outcome = outcome_of(resolve);
  if (outcome.ok()) {
    outcome.payload = std::move(answer.result);
    outcome.attachments = std::move(answer.attachments);
  } else if (answer.python) {
    if (outcome.kind == OutcomeKind::kError || outcome.kind == OutcomeKind::kBadRequest) {
      const PythonError& error = *answer.python;
      outcome.message = error.type.empty() ? error.message : error.type + ": " + error.message;
    }
    outcome.python = std::move(answer.python);
  }
  return outcome;
}

template <class Record>
class CallTable {
 public:
  // ---- the records. The table owns none.
  void insert(Record& record) { calls_.insert(record); }
  void erase(const Record& record) { calls_.erase(record); }
  Record* find(CallId call) const { return calls_.find(call.value); }
  // Finds the record of a call that the core has spoken its last word on, and forgets it. Null:
  // there is none, which is a bug of the core.
  Record* take(CallId call) {
    Record* record = find(call);
    if (UNEXPECTED(record == nullptr)) return nullptr;
    calls_.erase(*record);
    return record;
  }
  template <class Visit>
  void each(Visit visit) const {
    calls_.each(visit);
  }

  // ---- outcomes for replays, until the core forgets them
  void retain(CallId call, const Outcome& outcome) {
    retained_.insert_or_assign(call.value, outcome);
  }
  // The outcome of a call that ends as an earlier one did.
  Outcome replay(const ReplayOutcome& action) const {
    Outcome outcome;
    const auto found = retained_.find(action.of.value);
    if (!UNEXPECTED(found == retained_.end())) outcome = found->second;
    outcome.kind = action.kind;
    outcome.effect = action.effect;
    return outcome;
  }
  void forget(CallId call) { retained_.erase(call.value); }

  // ---- stacks of calls whose callers heard at the deadline
  LateDumps late_dumps;

 private:
  IdIndex<Record> calls_;
  std::unordered_map<std::uint64_t, Outcome> retained_;  // looked up, never iterated
};

}  // namespace keelback::core
