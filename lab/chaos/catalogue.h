// Every fault that the laboratory can inject: what it does, on which backends, with which
// parameters, what proves that it bit, what undoes it, and which outcomes it may cost. The files of
// faults/ are the table. A class that cannot be injected with proof is not in there; not_tested()
// names what is missing and why.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"
#include "keelback/outcome.h"

namespace keelback::chaos {

// What a fault reaches: a call is explained by it only if the call's path leads through that.
enum class Reach : std::uint8_t {
  kTarget,    // one worker: its calls and its sessions
  kOwnCalls,  // the worker that serves one of the fault's calls, and its sessions
  kCapacity,  // how many workers there are
  kPool,      // everything
};

// The backends that can inject a class: each step has the backends of the one before it, too.
enum class Where : std::uint8_t { kPython, kProcesses, kEverywhere };

enum class ParameterType : std::uint8_t { kCount, kNumber, kDuration, kSize, kText };

struct Parameter {
  std::string_view name;
  ParameterType type = ParameterType::kCount;
  std::string_view light, medium, heavy;  // the values of the three levels
  std::string_view doc;
};

class CallPlan;       // call_plan.h
class Fault;          // fault.h
struct FaultContext;  // fault.h
struct WorldOptions;  // world.h

inline constexpr std::string_view kNothingToUndo = "none needed";

// A class of faults: a row that a file of faults/ offers.
struct FaultClass {
  std::string_view name;
  std::string_view what;                   // one sentence
  std::string_view proof;                  // the evidence that counts as a bite
  std::string_view undo = kNothingToUndo;  // or who does what
  Reach reach = Reach::kTarget;
  bool lasts = false;            // until it is undone: it needs a `for`
  bool harmless = false;         // its target must live on; if it does not, the run is SAFETY
  bool replaced = false;         // it is undone by a new worker
  bool poisons = false;          // its calls are one request that kills workers
  bool callers_only = false;     // only callers misbehave: no worker is lost for it
  bool hits_starts = false;      // needs a worker that starts
  bool renews_zygote = false;    // another zygote may be there afterwards
  bool by_operator = false;      // an order after which workers are replaced
  bool needs_growth = false;     // needs a pool that may grow
  bool needs_store = false;      // needs a session store on disk
  bool of_nodes = false;         // hits a node of a cluster, or the database
  bool feeds_on_others = false;  // bites only where another fault makes calls fail
  bool beside = false;           // one of many calls in its target misbehaves
  Where where = Where::kPython;
  std::vector<std::string_view> words;  // of the laboratory (words.h) that not every backend has
  std::vector<Parameter> parameters;
  std::vector<OutcomeKind> expected;  // what calls on its path may end as, besides ok

  std::function<void(CallPlan&)> plan;  // the calls that it makes itself; empty: it makes none
  // Sets up what must stand before the pool does. Called once, for all classes that name it.
  std::expected<void, std::string> (*prepare)(WorldOptions& options) = nullptr;
  std::unique_ptr<Fault> (*make)(FaultContext context) = nullptr;

  bool on(Backend backend) const;
  const Parameter* parameter(std::string_view parameter_name) const;
};

// Of all files of faults/, in the order of their names.
const std::vector<FaultClass>& catalogue();
const FaultClass* find_fault_class(std::string_view name);  // null: there is none

// What no scenario can test here, and why: printed beside every verdict.
struct NotTested {
  std::string what;
  std::string why;
};
std::vector<NotTested> not_tested(Backend backend);

}  // namespace keelback::chaos
