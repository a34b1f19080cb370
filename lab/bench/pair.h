// One block of `compare`: base and head each start a fresh pool, are measured in alternating
// windows, lose a worker, and stop. One observation of every compared metric for each side.
#pragma once

#include <expected>
#include <map>
#include <string>

#include "bench/block.h"

namespace keelback::bench {

struct PairOptions {
  std::string base_program, head_program;
  int cpu = -1;                    // pin both sides there; -1: wherever the kernel likes
  bool calls_only = false;         // start, the lone caller's closed windows, stop
  bool count_allocations = false;  // in a pool of its own, after everything that is timed
  // More for the start orders, for instance "env".
  nlohmann::json base_start = nlohmann::json::object();
  nlohmann::json head_start = nlohmann::json::object();
};

// By the names that metrics have in documents of `compare`.
struct Pair {
  bool head_first = false;                   // the head was started first
  std::map<std::string, double> base, head;  // of metrics and counters
  std::map<std::string, double> score;       // ln(head / base), sign turned so that + is worse
  // "closed", "open", "service": of the lone caller's and the open loop's windows
  std::map<std::string, Buckets, std::less<>> base_curves, head_curves;
};

std::expected<Pair, std::string> run_pair(const PairOptions& options, Prng& prng);

}  // namespace keelback::bench
