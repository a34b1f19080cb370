// A run of `bench peers`: what its stages share. A stage measures one group of rows: it starts its
// contenders, gives them their turns in blocks (bench/block.h), and has the run make the rows.
#pragma once

#include <expected>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "bench/block.h"
#include "bench/line_process.h"
#include "bench/peers.h"
#include "bench/progress.h"

namespace keelback::bench {

class PeersRun;

struct PeerStage {
  const char* group;                      // of peer_groups()
  std::string (*measure)(PeersRun& run);  // the error; empty: none
  const char* with = nullptr;             // a group that is measured with it
};

class PeersRun {
 public:
  static constexpr std::size_t kOurs = 0;  // the first arm of every block

  explicit PeersRun(const PeersOptions& options) : options_(options), prng_(options.seed) {}

  // All stages of which a group is wanted. Once.
  std::expected<PeersResult, std::string> run(std::span<const PeerStage> stages);

  // ---- for stages
  const PeersOptions& options() const { return options_; }
  Prng& prng() { return prng_; }
  bool wanted(std::string_view group) const;
  // A contender that is not there, and why.
  void not_measured(std::string why) { result_.not_measured.push_back(std::move(why)); }

  // So many blocks of these arms, and the rows that come of them. The error: of the first block
  // that has one.
  std::string measure(const std::string& stage, const std::vector<Arm>& arms, int count,
                      const std::function<void(Block&)>& one);

  // A pool of ours, to be started in a block.
  Arm our_pool(unsigned workers, double ballast_mb, double import_s = 0) const;
  // An agent with a running pool that lives for all blocks of a stage. `more` is merged into its
  // start order.
  std::expected<LineProcess, std::string> lasting_pool(
      unsigned workers, const nlohmann::json& more = nlohmann::json::object()) const;
  // The error: it cannot be started at all. One that is not installed answers its start with one.
  std::expected<LineProcess, std::string> peer(const std::string& name,
                                               const std::string& environment = {}) const;

  // A field of the answer; NaN if there is none, and then the block has failed.
  static double asked(Block& block, std::size_t arm, LineProcess& process,
                      const nlohmann::json& order, const char* field);
  // Ours is the same value in each pair of a block.
  static void note_pair(Block& block, const std::string& metric, std::size_t arm, double ours,
                        double theirs);
  // The row of `what` at `place` for an alternative: its own, or the one with "*".
  static std::string row_of(const std::string& what, const std::string& peer,
                            const std::string& place);

 private:
  void add_rows(const Metric& metric, const std::vector<Arm>& arms, std::vector<Block>& blocks);

  const PeersOptions& options_;
  Prng prng_;
  PeersResult result_;
  std::optional<Pace> pace_;
};

}  // namespace keelback::bench
