#include "chaos/swarm.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "base/prng.h"
#include "chaos/catalogue.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

constexpr std::uint64_t kFaultsMax = 5;
constexpr const char* kTargets[] = {"any", "busy", "idle", "oldest", "n=2"};

// Uniform in the logarithm: small values as often as large ones.
double log_uniform(Prng& prng, double low, double high) {
  const double share = static_cast<double>(prng.below(1'000'001)) / 1e6;
  return low * std::exp(share * std::log(high / low));
}

// In half of the runs calls that run beside each other and in batches are in the load.
std::string shared_mix(Prng& prng, Backend backend) {
  std::string out;
  for (const Word& word : words()) {
    if (!word.in_mix || word.runs_alone() || !word.on(backend)) continue;
    out += fmt::format(", {} = {}", word.name, prng.below(4));
  }
  return prng.chance(0.5) ? out : "";
}

}  // namespace

std::string swarm_scenario(std::uint64_t seed, Backend backend) {
  Prng prng(seed ^ 0x5741524dULL);
  // Each class is in with a chance of one half: what is left out matters as much as what is in.
  std::vector<const FaultClass*> in, all;
  for (const FaultClass& each : catalogue()) {
    // One of many calls proves nothing where other faults hit its neighbours; the pools drawn here
    // do not grow.
    if (!each.on(backend) || each.feeds_on_others || each.beside || each.needs_growth ||
        each.of_nodes)
      continue;
    all.push_back(&each);
    if (prng.chance(0.5)) in.push_back(&each);
  }
  if (in.empty()) in.push_back(all[prng.below(all.size())]);
  const std::uint64_t workers = 2 + prng.below(5);
  const std::string shared = shared_mix(prng, backend);
  std::string out = fmt::format(
      "name = \"{}\"\nwhy = \"Drawn from seed {}.\"\ntags = [\"swarm\"]\n"
      "[settings.pool]\nworkers = {}\nmin_ready = 1\n[settings.calls]\ngrace = \"300ms\"\n"
      "[load]\nrate = {:.0f}\nramp = \"300ms\"\nsessions = {}\nzipf = {:.1f}\n"
      "mix = {{ echo = {}, chain = {}, sleep = 0.1{} }}\n"
      "[baseline]\nfor = \"1500ms\"\n[recovery]\nquiet = \"800ms\"\nfor = \"2s\"\n"
      "[during]\nok = 0.0\n",
      kSwarm, seed, workers, log_uniform(prng, 60, 400), 4 + prng.below(45),
      static_cast<double>(prng.below(15)) / 10, 1 + prng.below(5), 1 + prng.below(5), shared);
  const std::uint64_t faults = 1 + prng.below(kFaultsMax);
  bool stores = false;
  for (std::uint64_t i = 0; i < faults; ++i) {
    const FaultClass& chosen = *in[prng.below(in.size())];
    const std::uint64_t at = prng.below(1500);
    out += fmt::format("[[fault]]\nid = \"f{}\"\nclass = \"{}\"\nat = \"{}ms\"\n", i + 1,
                       chosen.name, at);
    const bool aims = chosen.reach == Reach::kTarget;
    if (aims) out += fmt::format("target = \"{}\"\n", kTargets[prng.below(std::size(kTargets))]);
    stores = stores || chosen.needs_store;
    // What happens in turns needs more than two of them.
    const std::uint64_t least = chosen.parameter("every") != nullptr ? 800 : 100;
    if (chosen.lasts) out += fmt::format("for = \"{}ms\"\n", least + prng.below(900));
    // What hits starting workers needs one that starts.
    if (chosen.hits_starts) {
      out += fmt::format("[[fault]]\nid = \"k{}\"\nclass = \"proc.kill\"\nat = \"{}ms\"\n", i + 1,
                         at + 20);
    }
  }
  if (stores) {
    out += "[settings.sessions]\nstore = \"sqlite:swarm.db\"\nsnapshot = \"each_call\"\n";
  }
  return out;
}

}  // namespace keelback::chaos
