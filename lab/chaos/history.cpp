#include "chaos/history.h"

#include <algorithm>

#include "chaos/json.h"

namespace keelback::chaos {

KEELBACK_JSON(CallEvent, index, origin, function, session, token, own, idempotent, left, planned,
              sent, done, deadline, call, outcomes, kind, effect, worker, attempts, birth, epoch,
              queued, ran, error_type, death_cause, death_signal, death_code, death_role,
              death_detail, message, mine, intact, position, link, items, items_due, number,
              request)
KEELBACK_JSON(EffectEvent, call, worker, session, birth, epoch, key)
KEELBACK_JSON(CommitEvent, what, session, birth, epoch, number, token, owner, writer, position,
              lost)
KEELBACK_JSON(Sample, at, ready, up, starting, suspect, draining, queue, accepted, in_flight,
              outcomes, restarts, sessions, opened, lost, quarantined, rss, store_up)
KEELBACK_JSON(WorkerEvent, at, worker, pid, what)
KEELBACK_JSON(CrowdEvent, at, worker, calls)
KEELBACK_JSON(FaultEvent, id, round, fault_class, fired, targets, pids, placebo, bit, bite, proof,
              undone, undo, harm)
KEELBACK_JSON(Census, when, known, descriptors, threads, processes, files)
KEELBACK_JSON(Note, at, text)
KEELBACK_JSON(AppFunction, name, payload, called, why_not, stateless, in_session, idempotent, tried,
              usual, first, first_calls, isolation, isolation_witness, stops, stops_witness,
              source_witness, held, growth_calls, bytes_per_call, descriptors_per_call,
              threads_per_call)
KEELBACK_JSON(MachineSample, at, memory_total, memory_available, disk_total, disk_available, load)
KEELBACK_JSON(MachineFacts, cpu, kernel, version, cpus)
KEELBACK_JSON(RunFacts, backend, effects_known, links_known, commits_known, stopped, stop_reason,
              shutdown, shut_down, accepted, outcomes, not_ready, loop_blocks, loop_lag, import_s,
              start_mode, start_reason, machine, generator_lag, generator, trace_hash,
              trace_hash_again)

namespace {

template <class T>
void write(std::string& out, std::string_view type, const T& value) {
  Json json = value;
  Json line = {{"type", type}};
  line.update(json);
  out += line.dump(-1, ' ', false, Json::error_handler_t::replace);
  out += '\n';
}

// Its lists with the types of their lines, in the order in which they are written.
template <class Some, class Visit>
void visit_lists(Some& history, Visit visit) {
  visit("census", history.census);
  visit("fault", history.faults);
  visit("worker", history.workers);
  visit("crowd", history.crowds);
  visit("function", history.functions);
  visit("note", history.notes);
  visit("machine", history.machine);
  visit("sample", history.samples);
  visit("effect", history.effects);
  visit("commit", history.commits);
  visit("call", history.calls);
}

void read_line(History& history, const Json& json) {
  const auto type = json.at("type").get<std::string>();
  if (type == "facts") history.facts = json.get<RunFacts>();
  visit_lists(history, [&](std::string_view name, auto& list) {
    if (type == name) list.push_back(json.get<typename std::decay_t<decltype(list)>::value_type>());
  });
}

}  // namespace

const Census* History::census_of(std::string_view when) const {
  const auto found = std::ranges::find(census, when, &Census::when);
  return found == census.end() ? nullptr : &*found;
}

std::string to_jsonl(const History& history) {
  std::string out;
  write(out, "facts", history.facts);
  visit_lists(history, [&](std::string_view name, const auto& list) {
    for (const auto& each : list) write(out, name, each);
  });
  return out;
}

std::expected<History, std::string> history_from_jsonl(std::string_view text) {
  History history;
  std::size_t number = 0;
  try {
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      ++number;
      const std::string_view line = text.substr(0, end);
      if (!line.empty()) read_line(history, Json::parse(line));
      text = end == text.npos ? std::string_view() : text.substr(end + 1);
    }
  } catch (const Json::exception& error) {
    return std::unexpected("line " + std::to_string(number) + ": " + error.what());
  }
  return history;
}

}  // namespace keelback::chaos
