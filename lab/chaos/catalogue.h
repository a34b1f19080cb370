// Every fault that the laboratory can inject: what it does, on which backends, with which
// parameters, what proves that it bit, what undoes it, and which outcomes it may cost. A class that
// cannot be injected with proof is not in here; not_tested() names what is missing and why.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"
#include "keelback/outcome.h"

namespace keelback::chaos {

// How a class is injected.
enum class Means : std::uint8_t {
  kSignal,       // to a worker, by pidfd
  kThrottle,     // SIGSTOP and SIGCONT in turn
  kZygote,       // a signal to the zygote
  kLimit,        // a soft resource limit of a living worker
  kChannel,      // an order to the interposer between a worker and the pool
  kStarts,       // orders in the control file that a starting worker reads
  kCalls,        // calls of the laboratory's own that misbehave in the worker
  kClients,      // callers that misbehave
  kInterpreter,  // the interpreter is taken away
  kDaemon,       // a daemon of the laboratory's own is killed
  kOperator,     // an operator's order, given at a bad moment
  kStarve,       // a worker's processor is taken by others
  kStore,        // the disk under the session store: writes fail, or take their time
};

// What a fault reaches: a call is explained by it only if the call's path leads through that.
enum class Reach : std::uint8_t {
  kTarget,    // one worker: its calls and its sessions
  kOwnCalls,  // the worker that serves one of the fault's calls, and its sessions
  kCapacity,  // how many workers there are
  kPool,      // everything
};

enum class ParameterType : std::uint8_t { kCount, kNumber, kDuration, kSize, kText };

struct Parameter {
  std::string_view name;
  ParameterType type = ParameterType::kCount;
  std::string_view light, medium, heavy;  // the values of the three levels
  std::string_view doc;
};

struct FaultClass {
  std::string_view name;
  std::string_view what;   // one sentence
  std::string_view proof;  // the evidence that counts as a bite
  std::string_view undo;   // "none needed", or who does what
  Means means = Means::kSignal;
  Reach reach = Reach::kTarget;
  bool lasts = false;     // until it is undone: it needs a `for`
  bool harmless = false;  // its target must live on: whatever else is told of it is SAFETY
  bool replaced = false;  // its undoing is that the laboratory has the worker replaced
  bool sim = false, fake = false, python = false;
  std::vector<Parameter> parameters;
  std::vector<OutcomeKind> expected;  // what calls on its path may end as, besides ok

  bool on(Backend backend) const {
    return backend == Backend::kSim ? sim : backend == Backend::kFake ? fake : python;
  }
  const Parameter* parameter(std::string_view parameter_name) const;
};

const std::vector<FaultClass>& catalogue();
const FaultClass* find_fault_class(std::string_view name);  // null: there is none

// What no scenario can test here, and why: printed beside every verdict.
struct NotTested {
  std::string what;
  std::string why;
};
std::vector<NotTested> not_tested(Backend backend);

}  // namespace keelback::chaos
