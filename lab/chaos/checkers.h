// The invariants, each a pure function of the recorded history, so that old runs can be judged by
// newer checkers. A checker that should decide and cannot says `unknown`, which no run passes with;
// one that had nothing to look at says `vacuous`, which is listed as not tested.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "chaos/catalogue.h"
#include "chaos/history.h"
#include "chaos/plan.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

// What a run comes to.
enum class Verdict : std::uint8_t {
  kPass,
  kSafety,        // an invariant is broken
  kLiveness,      // it did not come back, or too late
  kBudget,        // success during the faults is below the scenario's budget
  kInvalid,       // a fault did not bite, or the baseline is none: nothing was tested
  kAborted,       // a stop condition ended the run
  kResidue,       // a fault is still in place
  kInconclusive,  // a checker could not decide
  kSkipped,       // this backend cannot inject the scenario's faults
};
std::string_view to_string(Verdict verdict);  // "PASS", "SAFETY", …

enum class Status : std::uint8_t { kHolds, kBroken, kUnknown, kVacuous };
std::string_view to_string(Status status);  // "holds", "broken", "unknown", "vacuous"

struct Reason {
  Verdict verdict = Verdict::kPass;
  std::string text;
};

struct CheckResult {
  std::string id;
  Status status = Status::kVacuous;
  std::uint64_t looked_at = 0;         // how many cases it decided
  std::string witness;                 // of anything but holds: the first case, in words
  std::uint64_t broken = 0;            // how many cases are broken
  std::optional<Reason> instead = {};  // what it means for the run, if not what the status says
};

struct Weighed;  // recovery.h

struct CheckInput {
  const History& history;
  const Scenario& scenario;
  const Plan& plan;
  const Weighed* weighed = nullptr;  // null: only single facts can be checked
};

// Counts cases while a checker looks at them, and keeps the first that is broken.
class Tally {
 public:
  explicit Tally(std::string_view id) { result_.id = id; }
  void saw(std::uint64_t cases = 1) { result_.looked_at += cases; }
  void broken(std::string witness) {
    if (result_.broken++ == 0) result_.witness = std::move(witness);
  }
  CheckResult unknown(std::string why) {
    result_.status = Status::kUnknown;
    result_.witness = std::move(why);
    return std::move(result_);
  }
  // It does not apply to this run: listed as not tested.
  CheckResult not_applicable(std::string why) {
    result_.status = Status::kVacuous;
    result_.witness = std::move(why);
    return std::move(result_);
  }
  // `nothing`: what there was none of, if nothing was looked at.
  CheckResult done(std::string_view nothing) {
    result_.status = result_.broken > 0      ? Status::kBroken
                     : result_.looked_at > 0 ? Status::kHolds
                                             : Status::kVacuous;
    if (result_.status == Status::kVacuous) result_.witness = nothing;
    return std::move(result_);
  }

 private:
  CheckResult result_;
};

// A rule that every run must keep. The files of invariants/ offer them as rows of one table.
struct Invariant {
  std::string_view name;        // "one-outcome": what scenarios call it
  std::string_view alias = {};  // "I1": what reports, and scenarios that are older, call it
  std::string_view sentence = {};
  Verdict verdict = Verdict::kSafety;  // of a run that breaks it
  // Said to the author of an application that breaks it.
  std::string (*advice)(const CheckInput& input) = nullptr;
  CheckResult (*check)(const CheckInput& input, Tally tally) = nullptr;

  std::string_view id() const { return alias.empty() ? name : alias; }  // of its CheckResult
};
const std::vector<Invariant>& invariants();
const Invariant* find_invariant(std::string_view name_or_alias);  // null: there is none
// `unknown` if there is none of that name.
CheckResult check(std::string_view name_or_alias, const CheckInput& input);

// Of the application, in its author's words; and what of it this run says nothing about.
std::vector<std::string> application_advice(const CheckInput& input);
std::vector<NotTested> application_not_tested(const CheckInput& input);

std::string describe(const CallEvent& call);  // "call 17 (chain, session s3, from load)"
std::string describe(const WorkerRef& worker);
double milliseconds(Duration duration);
double seconds(Duration duration);

}  // namespace keelback::chaos
