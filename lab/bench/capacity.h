// How much a pool can carry, from measured steps of offered load: where the knee is and what to
// set. Pure; `bench app` measures.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace keelback::bench {

struct LoadStep {
  double offered = 0;  // calls a second
  double good = 0;     // of them answered ok, a second
  double p50_ms = 0;   // from the planned times; a lower bound where calls did not come back
  double p99_ms = 0;
  double service_p99_ms = 0;
};

// Whether the pool carried it: p99 within the objective and at least 99 % answered.
bool carried(const LoadStep& step, double objective_ms);

// The greatest offered rate of which it and everything below it were carried; nullopt: not even the
// lowest one was. Steps in any order; several at one rate count by their median p99.
std::optional<double> knee(std::span<const LoadStep> steps, double objective_ms);

// What is known of one number of workers.
struct PoolCapacity {
  std::uint32_t workers = 0;
  double unloaded_p50_ms = 0;
  double unloaded_p99_ms = 0;
  double most = 0;  // calls a second of a closed loop that keeps every worker busy
  double worker_kb = 0;
  // Kept busy with shared calls, its workers wait most of the time: what bounds it is how many
  // calls at once they take, not how many they are.
  bool has_room = false;
  std::vector<LoadStep> steps;
  std::optional<double> at_objective;  // the knee
};

struct Advice {
  std::uint32_t workers = 0;
  double rate = 0;              // what they carry within the objective
  std::uint32_t queue_max = 0;  // as many calls as they serve within the objective
  bool enough = true;           // the wanted rate is carried
  std::vector<std::string> sentences;
};
// The fewest workers that carry `wanted` calls a second; wanted 0: that carry nine tenths of the
// best, or the first that has room. nullopt: no number of workers carried anything.
std::optional<Advice> advise(std::span<const PoolCapacity> pools, double wanted,
                             double objective_ms);

// What to do about a function whose first call in a new worker takes much longer than the later
// ones; nullopt: it does not.
std::optional<std::string> about_first_call(const std::string& function, double first_ms,
                                            double later_ms);

}  // namespace keelback::bench
