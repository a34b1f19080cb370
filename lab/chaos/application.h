// The user's own application in a run. Its functions know nothing of the laboratory, so the
// laboratory gets to know them first: before the run it calls each of them a few times, in sessions
// of its own, and learns how it is called, how long it takes, and what it does that no fault makes
// it do: state that leaks from session to session, calls that nothing ends, memory that grows.
//
// Which functions: those that need no arguments, and those that the operator gave arguments for. If
// the operator named any, only those: a function may do anything at all.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/history.h"
#include "chaos/scenario.h"
#include "chaos/world.h"

namespace keelback::chaos {

// Those of the application (null: it has none), without those of the laboratory. `wanted`: of
// [[load.call]] and --call.
std::vector<AppFunction> choose_functions(const Application* application,
                                          const std::vector<LoadCall>& wanted);

struct Trial {
  std::vector<AppFunction> functions;
  std::vector<CallEvent> calls;  // of origin "trial"
};
// Calls what was chosen. The pool is whole before and after, unless it did not become whole.
Trial try_functions(World& world, const Scenario& scenario, std::vector<AppFunction> functions,
                    const std::function<bool()>& interrupted);

// Of a dump as Python's faulthandler writes it, the frame nearest to the work that lies neither in
// `ours` (directories with our Python files) nor in an installed library: `File "…", line …`.
// Empty: there is none.
std::string last_frame(std::string_view dump, const std::vector<std::string>& ours);

// How they take part in the load: together at most half of the calls, and no more than two fifths
// of the workers' time, so that the baseline is one.
std::vector<LoadCall> load_of(const std::vector<AppFunction>& functions, const Scenario& scenario);

}  // namespace keelback::chaos
