// One lifecycle block: base and head each start a fresh pool, are measured in alternating windows,
// lose a worker, and stop. One observation of every metric for each side.
//
// A fair coin decides who goes first at every step that could favour the first: nothing else makes
// the signs of the scores exchangeable, which is what the test stands on.
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/prng.h"
#include "load/application.h"

namespace keelback::bench {

struct BlockOptions {
  std::string base_program, head_program;
  std::string app = load::lab_application("bench_probe");
  std::string function = "noop";
  std::string payload = "[1]";
  std::uint32_t workers = 2;
  int windows = 6;  // a side
  double window_ms = 40;
  double settle_ms = 10;           // discarded, before the first window of each side
  int cpu = -1;                    // pin both sides there; -1: wherever the kernel likes
  bool calls_only = false;         // start, the lone caller's closed windows, stop
  bool count_allocations = false;  // in a pool of its own, after everything that is timed
  bool own_app = true;             // false: a user's application; no recovery, no session metrics
  nlohmann::json base_start = nlohmann::json::object();  // more for the start order, e.g. env
  nlohmann::json head_start = nlohmann::json::object();
};

// Latencies of a side's windows: nanoseconds, how many finished and how many were cut off there.
using Buckets = std::map<std::int64_t, std::pair<std::uint64_t, std::uint64_t>>;

struct Block {
  bool head_first = false;
  std::map<std::string, double> base, head;  // by metric or counter id
  std::map<std::string, double> score;       // ln(head / base), sign turned so that + is worse
  // "closed", "planned", "service": of the lone caller's and the open loop's windows
  std::map<std::string, Buckets> base_curves, head_curves;
  double seconds = 0;  // how long it took
};

std::expected<Block, std::string> run_block(const BlockOptions& options, Prng& prng);

}  // namespace keelback::bench
