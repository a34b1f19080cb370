#include "nodes/answers.h"

#include <utility>

namespace keelback::nodes {

cluster::Answer answer_of(const Outcome& outcome) {
  cluster::Answer answer;
  answer.kind = outcome.kind;
  answer.effect = outcome.effect;
  answer.message = outcome.message;
  if (outcome.python) {
    answer.type = outcome.python->type;
    answer.error = outcome.python->message;
    answer.traceback = outcome.python->traceback;
  }
  if (outcome.attachments.empty()) {
    answer.payload = outcome.payload;
    return answer;
  }
  // No half of an answer, and not the work twice.
  answer.kind = OutcomeKind::kError;
  answer.type = "keelback.AnswerNotKept";
  answer.error = "the call was answered with attachments, which the cluster does not keep";
  answer.message = answer.type + ": " + answer.error;
  return answer;
}

Outcome outcome_of(cluster::Answer&& answer) {
  Outcome outcome;
  outcome.kind = answer.kind;
  outcome.effect = answer.effect;
  outcome.payload = std::move(answer.payload);
  outcome.message = std::move(answer.message);
  if (!answer.type.empty()) {
    outcome.python =
        PythonError{std::move(answer.type), std::move(answer.error), std::move(answer.traceback)};
  }
  return outcome;
}

}  // namespace keelback::nodes
