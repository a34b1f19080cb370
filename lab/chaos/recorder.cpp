#include "chaos/recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/hash.h"
#include "base/settings_text.h"
#include "chaos/json.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

constexpr std::size_t kMessageMax = 300;

std::uint64_t first_number(std::string_view arguments) {
  const std::string_view number = arguments.substr(std::min<std::size_t>(1, arguments.size()));
  return parse_count(number.substr(0, number.find_first_of(",]"))).value_or(0);
}

std::uint64_t request_of(std::string_view function, std::string_view session,
                         std::string_view payload) {
  return fnv1a(fmt::format("{}\n{}\n{}", function, session, payload));
}

}  // namespace

std::uint64_t Recorder::send(const PlannedCall& call, const std::string& origin, Duration planned) {
  const std::uint64_t index = history_.calls.size();
  CallEvent& event = history_.calls.emplace_back();
  event.index = index;
  event.origin = origin;
  event.function = call.function;
  event.session = call.session;
  event.token = call.token;
  event.own = call.own;
  event.planned = planned;
  event.deadline = call.deadline;
  event.sent = now();
  Call asked;
  asked.function = call.own ? call.function : world_.function_of(call.function);
  // What the pool may run twice: the caller said so, or the function does.
  event.idempotent = call.idempotent || declared_idempotent(asked.function);
  asked.payload = call.payload;
  const Word* word = word_of(event);
  // The simulator's and the fake worker's registers take no arguments.
  if (word != nullptr && word->is_chain() && !world_.links_known()) asked.payload = "[]";
  event.request = request_of(asked.function, call.session, asked.payload);
  const bool stream = word != nullptr && word->is_stream();
  if (stream) event.items_due = first_number(call.payload);
  if (word != nullptr && word->batched) event.number = first_number(call.payload);
  asked.session = call.session;
  asked.idempotent = call.idempotent;
  if (call.deadline > Duration{0}) asked.deadline = call.deadline;
  ++waiting_;
  const std::uint64_t id =
      stream ? world_.stream(std::move(asked), index) : world_.submit(std::move(asked), index);
  history_.calls[index].call = id;
  return index;
}

bool Recorder::declared_idempotent(const std::string& function) {
  if (!idempotent_) {
    const auto application = world_.application();
    if (!application) return false;  // no worker is up yet
    idempotent_.emplace();
    for (const FunctionInfo& each : application->functions) {
      if (each.idempotent) idempotent_->insert(each.name);
    }
  }
  return idempotent_->contains(function);
}

void Recorder::cancel(std::uint64_t index) {
  history_.calls[index].left = true;
  cancelled_[index] = world_.cancel(history_.calls[index].call);
}

bool Recorder::cancelled_known(std::uint64_t index) const {
  const auto found = cancelled_.find(index);
  return found != cancelled_.end() && found->second;
}

void Recorder::collect() {
  for (Ended& ended : world_.take_ended()) {
    CallEvent& call = history_.calls[ended.index];
    if (++call.outcomes > 1) continue;  // the first one stands; I1 sees the rest
    --waiting_;
    fill(call, ended);
    (call.ok() ? ok_ : failed_) += 1;
    if (call.origin == "load") {
      ended_.emplace_back(call.done, call.ok());
      ended_in_faults_ += call.done >= plan_.phases.faults;
    }
    if (call.ok() && !call.session.empty()) {
      SessionHome& home = homes_[call.session];
      home.worker = call.worker;
      ++home.replies;
    }
  }
}

void take_outcome(CallEvent& call, const Outcome& outcome) {
  call.kind = outcome.kind;
  call.effect = outcome.effect;
  call.worker = outcome.worker;
  call.attempts = outcome.attempts;
  call.birth = outcome.birth;
  call.epoch = outcome.epoch;
  call.queued = outcome.queued;
  call.ran = outcome.ran;
  call.message = outcome.message.substr(0, kMessageMax);
  if (outcome.python) call.error_type = outcome.python->type;
  if (outcome.death) {
    call.death_cause = outcome.death->cause;
    call.death_signal = outcome.death->signal.value_or(0);
    call.death_code = outcome.death->exit_code.value_or(-1);
    call.death_role = to_string(outcome.death->role);
    call.death_detail = outcome.death->detail.substr(0, kMessageMax);
  }
}

void Recorder::fill(CallEvent& call, const Ended& ended) {
  call.done = ended.at - origin_;
  take_outcome(call, ended.outcome);
  call.items = ended.items.n;
  const Word* word = word_of(call);
  if (word == nullptr || !word->is_stream()) {
    if (ended.outcome.ok()) read_reply(call, ended.outcome);
  } else if (!ended.items.in_order || (call.ok() && call.items != call.items_due)) {
    call.intact = false;
    call.message = fmt::format("{} items of {} came{}", call.items, call.items_due,
                               ended.items.in_order ? "" : ", not one after another");
  }
}

void Recorder::read_reply(CallEvent& call, const Outcome& outcome) {
  const Json json = Json::parse(outcome.payload, nullptr, false);
  const auto damaged = [&] {
    call.intact = false;
    call.message = outcome.payload.substr(0, kMessageMax);
  };
  if (json.is_discarded()) return damaged();
  const Word* word = word_of(call);
  if (word == nullptr) return;
  if (word->is_text()) {
    if (!json.is_string() || !json.get_ref<const std::string&>().starts_with('n')) return damaged();
    call.mine = json.get<std::string>() == fmt::format("n{:x}", call.token);
  } else if (word->batched) {
    if (!json.is_number_unsigned()) return damaged();
    call.mine = json.get<std::uint64_t>() == call.number;
  } else if (word->is_chain() && json.is_number_unsigned()) {
    call.position = json.get<std::uint64_t>();
  } else if (word->is_chain()) {
    const auto number = [&](const char* key) {
      return json.is_object() && json.contains(key) && json[key].is_number_unsigned()
                 ? json[key].get<std::uint64_t>()
                 : 0;
    };
    call.position = number("n");
    call.link = number("h");
    if (call.position == 0) return damaged();
    call.mine = number("t") == call.token;
  }
}

void Recorder::sample(Duration at) {
  const host::PoolInfo info = world_.info();
  const PoolStats& stats = info.stats;
  Sample sample{.at = at,
                .ready = stats.ready,
                .up = stats.workers.ready + stats.workers.busy,
                .starting = stats.workers.starting,
                .suspect = stats.workers.suspect,
                .draining = stats.workers.draining,
                .queue = stats.queue_depth,
                .accepted = stats.accepted,
                .in_flight = stats.in_flight,
                .restarts = stats.restarts,
                .sessions = stats.sessions.active,
                .opened = stats.sessions.opened,
                .lost = stats.sessions.lost,
                .quarantined = stats.quarantined,
                .store_up = info.store.up};
  for (const std::uint64_t n : stats.outcomes) sample.outcomes += n;
  history_.samples.push_back(sample);
  workers_ = world_.workers();
  note_crowds(at);
  std::map<std::uint32_t, std::string> seen;
  const auto note = [&](WorkerRef worker, std::int64_t pid, std::string what) {
    history_.workers.push_back({at, worker, pid, std::move(what)});
  };
  for (const host::WorkerInfo& worker : workers_) {
    if (!worker.worker) continue;
    const WorkerRef ref = worker.worker;
    std::string state(core::to_string(worker.state));
    if (state == "busy") state = "ready";
    const auto known = known_.find(ref.generation);
    if (known == known_.end()) note(ref, worker.pid, "seen");
    if (known == known_.end() ? state != "starting" : known->second != state) {
      note(ref, worker.pid, state);
    }
    refs_[ref.generation] = ref;
    seen[ref.generation] = std::move(state);
  }
  for (const auto& [generation, state] : known_) {
    if (!seen.contains(generation)) note(refs_[generation], 0, "gone");
  }
  known_ = std::move(seen);
}

// One that is gone runs nothing any more; it is said before its successor is.
void Recorder::note_crowds(Duration at) {
  std::map<WorkerId, std::uint32_t> now;
  for (const host::WorkerInfo& worker : workers_) {
    if (worker.worker) now[worker.worker] = static_cast<std::uint32_t>(worker.running.size());
  }
  for (const auto& [worker, calls] : crowds_) {
    if (calls > 0 && !now.contains(worker)) history_.crowds.push_back({at, worker, 0});
  }
  for (const auto& [worker, calls] : now) {
    const auto before = crowds_.find(worker);
    if (calls != (before == crowds_.end() ? 0 : before->second)) {
      history_.crowds.push_back({at, worker, calls});
    }
  }
  crowds_ = std::move(now);
}

void Recorder::final_counts() {
  const host::PoolInfo info = world_.info();
  const PoolStats& stats = info.stats;
  history_.facts.accepted = stats.accepted;
  history_.facts.loop_blocks = stats.loop_blocks;
  history_.facts.loop_lag.assign(info.loop_lag.counts.begin(), info.loop_lag.counts.end());
  history_.facts.not_ready = stats.reasons;
  for (int i = 0; i < kOutcomeKinds; ++i) {
    if (stats.outcomes[i] == 0) continue;
    history_.facts.outcomes[std::string(to_string(static_cast<OutcomeKind>(i)))] =
        stats.outcomes[i];
  }
}

std::pair<std::uint64_t, std::uint64_t> Recorder::ended_since(Duration since) const {
  std::uint64_t ended = 0, ok = 0;
  for (auto it = ended_.rbegin(); it != ended_.rend() && it->first >= since; ++it) {
    ++ended;
    ok += it->second;
  }
  return {ended, ok};
}

std::string Recorder::session_at(WorkerId worker, std::size_t n) const {
  for (const auto& [session, home] : homes_) {
    if (home.worker == worker && n-- == 0) return session;
  }
  return "";
}

std::optional<WorkerId> Recorder::busiest_home() const {
  const auto most =
      std::ranges::max_element(homes_, {}, [](const auto& entry) { return entry.second.replies; });
  return most == homes_.end() ? std::nullopt : std::optional(most->second.worker);
}

Progress Recorder::progress() const {
  return {.sent = history_.calls.size(), .ok = ok_, .failed = failed_};
}

}  // namespace keelback::chaos
