// How many calls a run of a function should take at once, and how long the first of them should
// wait for others, from what was measured. Pure; `bench app` measures.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/concurrency.h"

namespace keelback::bench {

struct BatchAdvice {
  std::uint32_t batch = 1;  // 1: the function gains nothing from batches
  bool rises_on = false;    // larger batches than those that were tried would carry more
  double run_ms = 0;        // what a run with such a batch takes
  std::vector<std::string> sentences;
};
// The smallest batches that carry nine tenths of the most, each p99 within the objective.
// `steps`: of one worker, by in_flight, from 1. `declared`: what the function declares.
BatchAdvice advise_batch(const std::string& function, std::span<const FlightStep> steps,
                         std::uint32_t declared, double objective_ms);

// The same Poisson load, with one batch_wait.
struct WaitStep {
  double wait_ms = 0;
  double answered = 1;  // the share of calls that were
  double batch = 1;     // calls in a batch, on average
  double p50_ms = 0;
  double p99_ms = 0;
  double computed_ms = 0;  // of a processor, by the workers for a call
};
struct WaitAdvice {
  double wait_ms = 0;
  std::vector<std::string> sentences;
};
// A wait costs its time and saves processor time. The shortest one that saves a fifth against none,
// with p99 within the objective. `steps`: by wait_ms, from 0; not empty.
WaitAdvice advise_wait(const std::string& function, std::span<const WaitStep> steps,
                       double objective_ms);

}  // namespace keelback::bench
