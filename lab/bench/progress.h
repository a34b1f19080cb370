// How far a run is.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>

#include "base/time.h"

namespace keelback::bench {

// What is being done, how far the run is (0 … 1), and how long it will take from here.
using Progress = std::function<void(const std::string& stage, double share, Duration left)>;

// Estimates both by what the parts of a run typically take, corrected by how this machine has kept
// to that so far.
class Pace {
 public:
  Pace(const Progress& progress, double planned_s) : progress_(progress), planned_s_(planned_s) {}

  void say(const std::string& stage) const {
    if (!progress_) return;
    const double left = std::max(0.0, planned_s_ - done_s_);
    const double pace = done_s_ > 0 ? spent_s() / done_s_ : 1;
    progress_(stage, done_s_ / std::max(1e-9, planned_s_),
              Duration{std::int64_t(1e9 * left * pace)});
  }
  void did(double typical_s) { done_s_ += typical_s; }
  void drop(double typical_s) { planned_s_ -= typical_s; }  // it is not needed
  double spent_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

 private:
  const Progress& progress_;
  double planned_s_, done_s_ = 0;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace keelback::bench
