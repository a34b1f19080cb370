#include "chaos/catalogue.h"

#include <algorithm>

#include "chaos/words.h"

namespace keelback::chaos {

bool FaultClass::on(Backend backend) const {
  const bool has_words = std::ranges::all_of(words, [&](std::string_view word) {
    const Word* known = find_word(word);
    return known == nullptr || known->on(backend);
  });
  return has_words && (backend == Backend::kPython || where == Where::kEverywhere ||
                       (backend == Backend::kFake && where == Where::kProcesses));
}

const Parameter* FaultClass::parameter(std::string_view parameter_name) const {
  const auto found = std::ranges::find(parameters, parameter_name, &Parameter::name);
  return found == parameters.end() ? nullptr : &*found;
}

const FaultClass* find_fault_class(std::string_view name) {
  const auto found = std::ranges::find(catalogue(), name, &FaultClass::name);
  return found == catalogue().end() ? nullptr : &*found;
}

std::vector<NotTested> not_tested(Backend backend) {
  std::vector<NotTested> out = {
      {"time: wall clock jumps (I21)", "the pool reads no wall clock; no injector for it here"},
      {"memory: kernel OOM kill", "needs a delegated cgroup with the memory controller"},
      {"network faults", "one machine, one socket pair a worker: there is no network"}};
  out.push_back(
      {"a process that SIGKILL does not end (state D)",
       "it takes a file system that hangs; unit tests have the pool abandon such a worker"});
  out.push_back({"calls while the pool drains",
                 "a run ends when all is quiet; conformance tests call a pool that drains"});
  out.push_back({"cpu: a quota or a lower priority",
                 "cpu.max needs a delegated cgroup; nice and SCHED_IDLE cannot be taken back"});
  out.push_back({"channel: flipped bits in a payload",
                 "a local socket does not flip bits, and the protocol carries no checksum"});
  if (backend == Backend::kSim) {
    out.push_back({"residue (I10, I11)", "the simulator has no processes and no descriptors"});
    out.push_back({"signals, limits, leaks, zygote, channel", "the simulator has no processes"});
    out.push_back({"disk: full, failing or slow session store", "the simulator has no disk"});
  }
  if (backend == Backend::kFake) {
    out.push_back({"zygote and Python limits", "keelback-fakeworker is started by exec"});
  }
  return out;
}

}  // namespace keelback::chaos
