// How many calls of a function one worker should run at once, from a measured curve: calls a second
// and latency over calls in flight. Pure; `bench app` measures.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace keelback::bench {

// What a closed loop of so many calls gets from one worker.
struct FlightStep {
  std::uint32_t in_flight = 1;
  double per_second = 0;  // answered ok
  double answered = 1;    // the share of calls that were
  double p50_ms = 0;
  double p99_ms = 0;
  double computed_ms = 0;   // of a processor, by the worker for a call
  double worker_share = 0;  // of one processor, while the loop runs
  double batch = 0;         // calls in a run of the function, on average; 0: it takes no batches
};

// What a call does with its time, when it has its worker to itself.
struct CallTime {
  double took_ms = 0;
  double computed_ms = 0;  // its worker used a processor
  double queued_ms = 0;    // its worker was ready to run and had no processor

  // Of the time in which it could have run: the share in which it had nothing to compute.
  double waiting() const;
};

struct ConcurrencyAdvice {
  std::uint32_t concurrency = 1;
  bool measured =
      true;  // false: nothing but one call at a time was tried; it follows from `waiting`
  // More calls at once would have carried more: the curve has no knee.
  bool rises_on = false;
  std::vector<std::string> sentences;
};

// The fewest calls at once that carry nine tenths of the most, each p99 within the objective; one
// if calls wait for nothing and do not use several processors.
// `steps`: by in_flight, from 1. `declared`: what the function declares.
ConcurrencyAdvice advise_concurrency(const std::string& function, std::span<const FlightStep> steps,
                                     const CallTime& alone, std::uint32_t declared,
                                     double objective_ms);

}  // namespace keelback::bench
