// The numbers of the design, each as a ratio to what a user would run instead or to the physical
// floor, both sides alternated in one run.
#pragma once

#include <cmath>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/progress.h"
#include "bench/signed_rank.h"

namespace keelback::bench {

struct PeersOptions {
  std::string program;             // the keelback binary
  std::string python = "python3";  // has the peers installed, or those that it has
  std::string python_directory;    // where the package keelback lies
  int blocks = 30;
  double window_ms = 60;
  std::uint64_t seed = 1;
  std::vector<std::string> groups;  // of peer_groups(); empty: all
  Progress progress;
};

struct PeerRow {
  std::string id;    // "call.floor.pinned"
  std::string what;  // a sentence
  std::string peer;  // what it is held against; empty: the target is a number of its own
  std::string unit;
  double ours = 0;  // medians over the blocks; without a peer the figure that `what` names
  double theirs = 0;
  Estimate log_ratio;   // of ours / theirs; without a peer, of ours
  double target = 0;    // what the ratio (or the figure) must be; 0: no target, for information
  bool at_most = true;  // it must be at most (or at least) the target
  std::size_t blocks = 0;
  double figure() const { return peer.empty() ? ours : std::exp(log_ratio.value); }
  bool met() const;          // figure() meets the target
  bool sure() const;         // the whole interval lies on one side of it
  double missed_by() const;  // as a share of the target; 0 if it is met
};

// What can be measured alone: call throughput host http shared batches dspy start ready recovery
// stop cold kills grow zero attachment ways sessions simulator.
const std::vector<std::string>& peer_groups();

struct PeersResult {
  std::vector<PeerRow> rows;
  std::vector<std::string> not_measured;  // peers that are not installed, and why
};

std::expected<PeersResult, std::string> run_peers(const PeersOptions& options);
nlohmann::json to_json(const PeersResult& result);

}  // namespace keelback::bench
