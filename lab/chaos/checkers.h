// The invariants, each a pure function of the recorded history, so that old runs can be judged by
// newer checkers. A checker that should decide and cannot says `unknown`, which no run passes with;
// one that had nothing to look at says `vacuous`, which is listed as not tested.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "chaos/catalogue.h"
#include "chaos/history.h"
#include "chaos/plan.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

enum class Status : std::uint8_t { kHolds, kBroken, kUnknown, kVacuous };
std::string_view to_string(Status status);  // "holds", "broken", "unknown", "vacuous"

struct CheckResult {
  std::string id;
  Status status = Status::kVacuous;
  std::uint64_t looked_at = 0;  // how many cases it decided
  std::string witness;          // of anything but holds: the first case, in words
  std::uint64_t broken = 0;     // how many cases are broken
};

struct CheckInput {
  const History& history;
  const Scenario& scenario;
  const Plan& plan;
};

// Runs the invariant of this id; one that judge.cpp decides elsewhere (I13, I22) is `unknown` here.
CheckResult check(std::string_view id, const CheckInput& input);

// ---- by theme; check() knows them all
CheckResult check_one_outcome(const CheckInput& input);    // I1
CheckResult check_effects(const CheckInput& input);        // I2
CheckResult check_honest_effect(const CheckInput& input);  // I3
CheckResult check_session_order(const CheckInput& input);  // I5
CheckResult check_loss_told(const CheckInput& input);      // I6
CheckResult check_affinity(const CheckInput& input);       // I7
CheckResult check_cross_talk(const CheckInput& input);     // I8
CheckResult check_corruption(const CheckInput& input);     // I9
CheckResult check_orphans(const CheckInput& input);        // I10
CheckResult check_residue(const CheckInput& input);        // I11
CheckResult check_capacity(const CheckInput& input);       // I12
CheckResult check_bounds(const CheckInput& input);         // I14
CheckResult check_restarts(const CheckInput& input);       // I15
CheckResult check_control(const CheckInput& input);        // I16
CheckResult check_poison(const CheckInput& input);         // I17
CheckResult check_telemetry(const CheckInput& input);      // I19
CheckResult check_shutdown(const CheckInput& input);       // I20
CheckResult check_typed(const CheckInput& input);          // I23
CheckResult check_determinism(const CheckInput& input);    // I26
CheckResult check_isolation(const CheckInput& input);      // I27
CheckResult check_stopping(const CheckInput& input);       // I28
CheckResult check_growth(const CheckInput& input);         // I29
CheckResult check_start(const CheckInput& input);          // I30

// Of the application, in its author's words; and what of it this run says nothing about.
std::vector<std::string> application_advice(const CheckInput& input);
std::vector<NotTested> application_not_tested(const CheckInput& input);

// Counts cases while a checker looks at them, and keeps the first that is broken.
class Tally {
 public:
  explicit Tally(std::string_view id) { result_.id = id; }
  void saw() { ++result_.looked_at; }
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

std::string describe(const CallEvent& call);  // "call 17 (chain, session s3, from load)"
std::string describe(const WorkerRef& worker);
double milliseconds(Duration duration);
double seconds(Duration duration);

}  // namespace keelback::chaos
