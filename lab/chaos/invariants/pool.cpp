// Invariants about the pool as a whole and about what is left of it.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "chaos/checkers.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr Duration kRefusalMax = 250ms;     // from sending to `overloaded`
constexpr std::uint64_t kRestartsFree = 8;  // replacements that need not wait, per pool
constexpr std::uint64_t kRestartsPerWorker = 4;

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size() && i < 5; ++i) out += (i > 0 ? ", " : "") + words[i];
  if (words.size() > 5) out += fmt::format(" and {} more", words.size() - 5);
  return out;
}

std::vector<std::string> new_in(const std::vector<std::string>& after,
                                const std::vector<std::string>& before) {
  std::vector<std::string> out;
  for (const std::string& each : after) {
    if (std::ranges::find(before, each) == before.end()) out.push_back(each);
  }
  return out;
}

bool both_known(const History& history, const Census*& before, const Census*& after) {
  before = history.census_of("before");
  after = history.census_of("after");
  return before != nullptr && after != nullptr && before->known && after->known;
}

}  // namespace

const Invariant kOrphans = {.name = "no-orphan",
                            .alias = "I10",
                            .sentence = "no process is left over",
                            .check = [](const CheckInput& input, Tally tally) -> CheckResult {
                              const Census *before = nullptr, *after = nullptr;
                              if (!both_known(input.history, before, after))
                                return tally.not_applicable("there was no census");
                              tally.saw();
                              const auto left = new_in(after->processes, before->processes);
                              if (!left.empty())
                                tally.broken("processes are left: " + joined(left));
                              return tally.done("");
                            }};

const Invariant kResidue = {
    .name = "no-residue",
    .alias = "I11",
    .sentence = "no descriptor, thread, shared memory or file is left over",
    .advice = [](const CheckInput&) -> std::string {
      return "Something was not given back: close files, sockets and shared memory that functions "
             "open.";
    },
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const Census *before = nullptr, *after = nullptr;
      if (!both_known(input.history, before, after))
        return tally.not_applicable("there was no census");
      tally.saw();
      if (after->descriptors > before->descriptors) {
        tally.broken(fmt::format("{} descriptors before, {} after", before->descriptors,
                                 after->descriptors));
      }
      if (after->threads > before->threads) {
        tally.broken(fmt::format("{} threads before, {} after", before->threads, after->threads));
      }
      const auto left = new_in(after->files, before->files);
      if (!left.empty()) tally.broken("files are left: " + joined(left));
      return tally.done("");
    }};

const Invariant kCapacity = {
    .name = "whole-again",
    .alias = "I12",
    .sentence = "every slot answers again",
    .verdict = Verdict::kLiveness,
    .advice = [](const CheckInput& input) -> std::string {
      std::string why;
      for (const std::string& each : input.history.facts.not_ready) why += "; " + each;
      return fmt::format(
          "Workers that ended were not replaced{}. pool.log in the run's directory says why each "
          "start failed. A worker that is killed cleans nothing up: what @keelback.worker_setup "
          "finds of it (a lock file, a port, a directory) must not keep its replacement from "
          "starting.",
          why);
    },
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      std::set<std::uint32_t> answered;
      bool probed = false;
      for (const CallEvent& call : input.history.calls) {
        if (call.origin != "probe") continue;
        probed = true;
        if (call.ok()) answered.insert(call.worker.slot);
      }
      if (!probed) return tally.done("no probe was sent");
      for (std::uint32_t slot = 1; slot <= input.scenario.settings.pool.workers; ++slot) {
        tally.saw();
        if (!answered.contains(slot))
          tally.broken(fmt::format("slot {} never answered a probe", slot));
      }
      return tally.done("no probe was sent");
    }};

const Invariant kBounds = {
    .name = "bounded-queues",
    .alias = "I14",
    .sentence = "queues stay within their bounds, and refusals are quick",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const std::uint32_t most = input.scenario.settings.pool.queue_max;
      for (const Sample& sample : input.history.samples) {
        tally.saw();
        if (sample.queue > most) {
          tally.broken(fmt::format("at {:.1f} ms {} calls waited; pool.queue_max is {}",
                                   milliseconds(sample.at), sample.queue, most));
        }
      }
      for (const CallEvent& call : input.history.calls) {
        if (!call.finished() || call.kind != OutcomeKind::kOverloaded) continue;
        tally.saw();
        const bool shed = input.scenario.settings.pool.queue_delay_max > 0s;
        if (!shed && call.done - call.sent > kRefusalMax) {
          tally.broken(fmt::format("{} was refused after {:.0f} ms only", describe(call),
                                   milliseconds(call.done - call.sent)));
        }
      }
      return tally.done("the pool was never asked");
    }};

const Invariant kRestarts = {
    .name = "no-start-storm",
    .alias = "I15",
    .sentence = "replacements back off: no start storm",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const std::uint32_t workers = input.scenario.settings.pool.size_max();
      std::map<std::uint32_t, std::uint64_t> generations;  // by second
      std::uint64_t ordered = workers;                     // by operators and faults that kill
      for (const FaultEvent& fault : input.history.faults) {
        const FaultClass* kind = find_fault_class(fault.fault_class);
        const bool all = kind != nullptr && kind->by_operator;
        ordered += all ? 2ULL * workers : fault.targets.size();
      }
      std::set<std::uint32_t> seen;
      for (const WorkerEvent& event : input.history.workers) {
        if (event.what != "seen" || !seen.insert(event.worker.generation).second) continue;
        tally.saw();
        ++generations[static_cast<std::uint32_t>(event.at / 1s)];
      }
      // Deaths in calls are replaced at once as well.
      for (const CallEvent& call : input.history.calls) {
        ordered += call.finished() && call.kind == OutcomeKind::kWorkerDied;
      }
      const std::uint64_t most =
          std::max(kRestartsFree, kRestartsPerWorker * workers) + ordered + 4ULL * workers;
      for (const auto& [second, n] : generations) {
        if (n > most) {
          tally.broken(fmt::format("{} workers were started in second {}; at most {} have a reason",
                                   n, second, most));
        }
      }
      return tally.done("no worker was seen");
    }};

const Invariant kTelemetry = {
    .name = "true-numbers",
    .alias = "I19",
    .sentence = "the pool's numbers equal the ledgers, and ready is never a lie",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (input.scenario.nodes > 0) return tally.not_applicable("a node's numbers end with it");
      const RunFacts& facts = input.history.facts;
      std::map<std::string, std::uint64_t> mine;
      std::uint64_t sent = 0;
      for (const CallEvent& call : input.history.calls) {
        if (call.call == 0) continue;
        ++sent;
        if (call.finished()) ++mine[std::string(to_string(call.kind))];
      }
      tally.saw();
      if (facts.accepted != sent) {
        tally.broken(fmt::format("{} calls were sent, the pool counted {}", sent, facts.accepted));
      }
      for (int i = 0; i < kOutcomeKinds; ++i) {
        const std::string name(to_string(static_cast<OutcomeKind>(i)));
        const auto theirs = facts.outcomes.find(name);
        const std::uint64_t said = theirs == facts.outcomes.end() ? 0 : theirs->second;
        const auto ours = mine.find(name);
        const std::uint64_t counted = ours == mine.end() ? 0 : ours->second;
        if (said != counted) {
          tally.broken(
              fmt::format("callers had {} times {}, the pool counted {}", counted, name, said));
        }
      }
      const std::uint32_t min_ready = input.scenario.settings.pool.min_ready;
      for (const Sample& sample : input.history.samples) {
        tally.saw();
        if (sample.ready && sample.up < min_ready) {
          tally.broken(fmt::format("at {:.1f} ms the pool said ready with {} of {} workers",
                                   milliseconds(sample.at), sample.up, min_ready));
        }
      }
      return tally.done("the pool was never asked");
    }};

const Invariant kShutdown = {
    .name = "prompt-shutdown",
    .alias = "I20",
    .sentence = "shutdown ends in time",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const RunFacts& facts = input.history.facts;
      tally.saw();
      const Settings& settings = input.scenario.settings;
      const Duration most = settings.workers.drain_timeout + settings.calls.grace + 5s;
      if (!facts.shut_down) tally.broken("the pool did not end");
      if (facts.shutdown > most) {
        tally.broken(fmt::format("the pool took {:.0f} ms to end; {:.0f} ms is the limit",
                                 milliseconds(facts.shutdown), milliseconds(most)));
      }
      return tally.done("");
    }};

const Invariant kSize = {
    .name = "pool-size",
    .sentence =
        "the pool has no more workers than it may have, and before the faults no fewer than it "
        "must",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const auto& pool = input.scenario.settings.pool;
      for (const WorkerEvent& event : input.history.workers) {
        tally.saw();
        if (event.worker.slot > pool.size_max()) {
          tally.broken(fmt::format("at {:.1f} ms there was {}; the pool has {} slots at most",
                                   milliseconds(event.at), describe(event.worker),
                                   pool.size_max()));
        }
      }
      const Phases& phases = input.plan.phases;
      for (const Sample& sample : input.history.samples) {
        const bool before = sample.at >= phases.baseline && sample.at < phases.faults;
        if (!before || sample.restarts > 0) continue;  // one that ended is missing for a moment
        tally.saw();
        const std::uint32_t there = sample.up + sample.starting + sample.suspect + sample.draining;
        if (there < pool.workers) {
          tally.broken(fmt::format("at {:.1f} ms there were {} workers; pool.workers is {}",
                                   milliseconds(sample.at), there, pool.workers));
        }
      }
      return tally.done("no worker was seen");
    }};

std::vector<Invariant> invariants_of_pool() {
  return {kOrphans, kResidue, kCapacity, kBounds, kRestarts, kTelemetry, kShutdown, kSize};
}

}  // namespace keelback::chaos
