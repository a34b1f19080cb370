// The pictures of report.html. All of those over time share one axis, the run's, so that the eye
// can go down from a dip to the fault, the worker and the session that it came from.
#pragma once

#include <string>

#include "chaos/lab.h"
#include "report/chart.h"

namespace keelback::chaos {

class Figures {
 public:
  // The result must outlive the figures.
  explicit Figures(const RunResult& result) : run_(result) {}

  std::string curve() const;     // calls a second: ok, explained, unexplained
  std::string faults() const;    // a lane for each fault: fired, in force, its rungs
  std::string share() const;     // of ok, and of the control group
  std::string latency() const;   // p99
  std::string size() const;      // workers that serve, and the calls that are in the pool
  std::string slots() const;     // a lane for each slot: generations, lost calls
  std::string crowds() const;    // calls at once in each slot
  std::string sessions() const;  // a ribbon for each of the busiest sessions: where it lived
  std::string ladders() const;   // milliseconds from bite or undo, logarithmic
  std::string heat() const;      // the latency of every call
  std::size_t sessions_total() const;

  static constexpr std::size_t kSessionsShown = 20;

 private:
  double end() const;
  // Empty, with the run's time, its faults and its phases.
  report::Chart over_time(report::Axis y, int height = 170) const;
  report::Lanes lanes_over_time() const;
  const RunResult& run_;
};

}  // namespace keelback::chaos
