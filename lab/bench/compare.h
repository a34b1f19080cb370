// Base against head: paired blocks until every gated metric has its verdict, with the proofs that
// the gate itself works taken in the same run:
//   control  head against head must raise no alarm
//   canary   head against head slowed by a known share must be caught
// A run whose control alarms or whose canary is missed is void: its verdicts are not worth having.
#pragma once

#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/pair.h"
#include "bench/run.h"

namespace keelback::bench {

struct CompareOptions {
  PairOptions block;
  Profile profile = Profile::kPr;
  std::uint64_t seed = 1;
  bool strict = false;  // inconclusive is a failure
  // Slows the head by this share of a typical call, to see the gate at work (and to test it).
  double inject = 0;
  Progress progress;
};

// A document of schema keelback-bench/1. The error is why no block could be run at all (usage, a
// binary that does not start).
std::expected<nlohmann::json, std::string> compare(const CompareOptions& options);

// Of a document: 0 ok, 1 regressed, 3 void, 4 inconclusive (only where `strict`).
int exit_code_of_compare(const nlohmann::json& document);

}  // namespace keelback::bench
