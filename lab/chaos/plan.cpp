#include "chaos/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "base/settings_text.h"
#include "chaos/call_plan.h"
#include "chaos/catalogue.h"
#include "chaos/json.h"
#include "chaos/words.h"
#include "load/plan.h"

namespace keelback::chaos {

KEELBACK_JSON(Phases, baseline, faults, recovery, end)

namespace {

using namespace std::chrono_literals;
constexpr Duration kTriggerAllowance = 2s;  // for an event that a trigger waits for
constexpr std::uint64_t kItems = 20;        // of a stream in the load: more than come unasked

class Planner {
 public:
  Planner(const Scenario& scenario, const PlanRequest& request)
      : scenario_(scenario), request_(request), prng_(request.seed ^ fnv1a(scenario.name)) {}

  Plan make() {
    plan_.scenario = scenario_.text;
    plan_.name = scenario_.name;
    plan_.level = request_.level;
    plan_.seed = request_.seed;
    plan_.backend = request_.backend;
    plan_.app = request_.app;
    plan_.arguments = request_.arguments;
    for (const FaultSpec& fault : scenario_.faults) {
      for (std::uint32_t round = 0; round < fault.times; ++round) firing(fault, round);
    }
    plan_.phases.baseline = scenario_.load.ramp;
    plan_.phases.faults = plan_.phases.baseline + scenario_.baseline;
    plan_.phases.recovery = plan_.phases.faults + fault_phase() + scenario_.quiet;
    plan_.phases.end = plan_.phases.recovery + scenario_.recovery;
    load();
    verify();
    return std::move(plan_);
  }

 private:
  // When a fault and its repetitions are over at the latest, from the start of the fault phase.
  Duration end_of(const FaultSpec& fault, std::size_t depth = 0) const {
    Duration start = fault.trigger.at;
    if (fault.trigger.kind == Trigger::Kind::kCalls) {
      start = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
                  static_cast<double>(fault.trigger.calls) / scenario_.load.rate)) +
              kTriggerAllowance;
    } else if (fault.trigger.kind == Trigger::Kind::kRung) {
      const FaultSpec* other = scenario_.fault(fault.trigger.fault);
      start = kTriggerAllowance;
      if (other != nullptr && depth < scenario_.faults.size()) start += end_of(*other, depth + 1);
    }
    return start + fault.every * (fault.times - 1) + std::max(fault.lasts, own_calls_end(fault));
  }

  // How long after its firing a fault's own calls are about: to their end, or to that of the kill
  // ladder.
  Duration own_calls_end(const FaultSpec& fault) const {
    Duration end{0};
    for (const Firing& each : plan_.firings) {
      if (each.fault != fault.id) continue;
      for (const PlannedCall& call : each.calls) {
        const Duration limit = call.deadline + scenario_.settings.calls.grace;
        end = std::max(end, call.at + std::min(takes(call), limit));
      }
    }
    return end;
  }

  static Duration takes(const PlannedCall& call) {
    const Word* word = find_word(call.function);
    const bool timed = word != nullptr && word->takes == Word::Takes::kMilliseconds;
    if (!timed || call.payload.size() < 2) return 0ns;
    const std::string_view list(call.payload.data() + 1, call.payload.size() - 2);
    const std::string_view number = list.substr(0, list.find(','));
    return std::chrono::milliseconds(parse_count(number).value_or(0));
  }

  Duration fault_phase() const {
    Duration end{0};
    for (const FaultSpec& fault : scenario_.faults) end = std::max(end, end_of(fault));
    return end;
  }

  // The application's functions have sessions of their own: its state is not the laboratory's.
  std::string session(const LoadCall& kind, std::uint32_t n) const {
    return fmt::format("{}{}", kind.own ? "a" : "s", n);
  }

  PlannedCall call(const LoadCall& kind, Duration at, std::string session_id) {
    PlannedCall made{.at = at,
                     .function = kind.function,
                     .payload = kind.payload,
                     .session = std::move(session_id),
                     .token = prng_.next() >> 1,
                     .own = kind.own,
                     .idempotent = kind.idempotent,
                     .deadline = scenario_.load.deadline};
    if (const Word* word = kind.own ? nullptr : find_word(kind.function)) arguments(*word, made);
    return made;
  }
  // What the word needs. Calls that run beside each other or in batches take about load.wait, no
  // two alike: a request that is suspected of a death must not stand for all the others.
  void arguments(const Word& word, PlannedCall& made) const {
    const auto wait = static_cast<std::uint64_t>(
        std::chrono::ceil<std::chrono::milliseconds>(scenario_.load.wait).count());
    const std::uint64_t ms = wait / 2 + made.token % (wait + 1);
    if (word.is_text()) made.payload = fmt::format("[\"n{:x}\"]", made.token);
    if (word.is_chain()) {
      made.payload =
          word.shared ? fmt::format("[{}, {}]", made.token, ms) : fmt::format("[{}]", made.token);
    }
    if (word.runs_alone() || !made.payload.empty()) return;
    made.payload = word.is_stream()   ? fmt::format("[{}, {}]", kItems, ms / kItems)
                   : word.act.empty() ? fmt::format("[{}]", ms)
                                      : fmt::format("[{}, \"{}\"]", ms, word.act);
  }

  PlannedCall call(std::string_view function, std::string payload, Duration at,
                   std::string session_id = {}) {
    return call(LoadCall{.function = std::string(function), .payload = std::move(payload)}, at,
                std::move(session_id));
  }

  void load() {
    const LoadSpec& spec = scenario_.load;
    std::vector<double> mix;
    for (const LoadCall& each : spec.calls) mix.push_back(each.weight);
    load::LoadSpec steady{.shape = load::LoadSpec::Shape::kPoisson,
                          .rate = spec.rate,
                          .length = plan_.phases.end - spec.ramp,
                          .sessions = std::max(spec.sessions, 1U),
                          .zipf = spec.zipf,
                          .mix = mix};
    const auto add = [&](const load::Plan& arrivals, Duration offset) {
      for (const load::Arrival& arrival : arrivals.arrivals) {
        const LoadCall& kind = spec.calls[arrival.stream];
        PlannedCall made = call(kind, offset + arrival.at,
                                kind.session ? session(kind, arrival.session) : std::string());
        if (!kind.session && !kind.own) made.idempotent = prng_.chance(spec.idempotent);
        plan_.load.push_back(std::move(made));
      }
    };
    if (spec.ramp > 0s) {
      load::LoadSpec ramp = steady;
      ramp.shape = spec.steps > 0 ? load::LoadSpec::Shape::kSteps : load::LoadSpec::Shape::kRamp;
      ramp.steps = spec.steps;
      if (spec.steps > 0) ramp.rate_from = spec.rate / spec.steps;
      ramp.length = spec.ramp;
      add(load::make_plan(ramp, prng_.next()), 0s);
    }
    add(load::make_plan(steady, prng_.next()), spec.ramp);
    if (spec.think > 0s) let_think();
  }

  // A session that was asked less than `think` ago leaves the call to the next one that is free; if
  // none is, the call waits for the first.
  void let_think() {
    std::map<std::string, Duration> free;
    const auto free_at = [&](const std::string& id) {
      const auto found = free.find(id);
      return found == free.end() ? Duration{0} : found->second;
    };
    for (PlannedCall& call : plan_.load) {
      if (call.session.empty()) continue;
      const auto first = static_cast<std::uint32_t>(
          parse_count(std::string_view(call.session).substr(1)).value_or(1));
      std::string chosen = call.session;
      for (std::uint32_t i = 0; i < scenario_.load.sessions; ++i) {
        const std::uint32_t n = (first - 1 + i) % scenario_.load.sessions + 1;
        const std::string other = fmt::format("{}{}", call.session.front(), n);
        if (free_at(other) < free_at(chosen)) chosen = other;
        if (free_at(other) > call.at) continue;
        chosen = other;
        break;
      }
      call.session = chosen;
      call.at = std::max(call.at, free_at(chosen));
      free[chosen] = call.at + scenario_.load.think;
    }
    std::ranges::stable_sort(plan_.load, {}, &PlannedCall::at);
    std::erase_if(plan_.load, [&](const PlannedCall& call) { return call.at >= plan_.phases.end; });
  }

  void firing(const FaultSpec& fault, std::uint32_t round) {
    const FaultClass& known = *find_fault_class(fault.fault_class);
    Firing made{.fault = fault.id, .round = round, .pick = prng_.next()};
    made.at = fault.trigger.at + fault.every * round;
    if (known.plan) {
      CallPlan own(scenario_, fault, round,
                   [this](std::string_view function, std::string payload, Duration at,
                          std::string session_id) {
                     return call(function, std::move(payload), at, std::move(session_id));
                   });
      known.plan(own);
      made.calls = std::move(own.calls);
    }
    std::ranges::stable_sort(made.calls, {}, &PlannedCall::at);
    if (fault.placebo) made.calls.clear();
    plan_.firings.push_back(std::move(made));
  }

  void verify() {
    for (std::uint32_t i = 0; i < scenario_.verify; ++i) {
      const bool session_call = i % 2 == 1;
      plan_.verify.push_back(call(session_call ? "chain" : "echo", "", 0s,
                                  session_call ? fmt::format("verify-{}", i) : std::string()));
    }
  }

  const Scenario& scenario_;
  const PlanRequest request_;
  Prng prng_;
  Plan plan_;
};

Json row(const PlannedCall& call) {
  return Json::array({call.at, call.function, call.payload, call.session, call.token, call.own,
                      call.idempotent, call.deadline, call.leave_after, call.place});
}
PlannedCall call_from(const Json& row) {
  return {.at = row.at(0).get<Duration>(),
          .function = row.at(1),
          .payload = row.at(2),
          .session = row.at(3),
          .place = row.size() > 9 ? row.at(9).get<std::uint32_t>() : 0,  // older plans have none
          .token = row.at(4),
          .own = row.at(5),
          .idempotent = row.at(6),
          .deadline = row.at(7).get<Duration>(),
          .leave_after = row.at(8).get<Duration>()};
}
Json rows(const std::vector<PlannedCall>& calls) {
  Json out = Json::array();
  for (const PlannedCall& call : calls) out.push_back(row(call));
  return out;
}
std::vector<PlannedCall> calls_from(const Json& rows) {
  std::vector<PlannedCall> out;
  for (const Json& each : rows) out.push_back(call_from(each));
  return out;
}

}  // namespace

std::uint64_t chain_step(std::uint64_t before, std::uint64_t token) {
  return fnv1a(fmt::format("{:016x}{:016x}", before, token)) >> 1;
}

Plan make_plan(const Scenario& scenario, const PlanRequest& request) {
  return Planner(scenario, request).make();
}

std::string to_json_text(const Plan& plan) {
  Json json = {{"schema", 1},
               {"name", plan.name},
               {"level", to_string(plan.level)},
               {"seed", plan.seed},
               {"backend", plan.backend},
               {"app", plan.app},
               {"arguments", plan.arguments},
               {"phases", plan.phases},
               {"scenario", plan.scenario},
               {"firings", Json::array()},
               {"verify", rows(plan.verify)},
               {"load", rows(plan.load)}};
  for (const Firing& firing : plan.firings) {
    json["firings"].push_back({{"fault", firing.fault},
                               {"round", firing.round},
                               {"at", firing.at},
                               {"pick", firing.pick},
                               {"calls", rows(firing.calls)}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::expected<Plan, std::string> plan_from_json(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("schema") != 1) return std::unexpected("the plan has another schema");
    Plan plan;
    plan.name = json.at("name");
    plan.level = level_from(json.at("level").get<std::string>()).value_or(Level::kMedium);
    plan.seed = json.at("seed");
    plan.backend = json.at("backend").get<Backend>();
    plan.app = json.at("app");
    plan.arguments = json.value("arguments", "");
    plan.phases = json.at("phases").get<Phases>();
    plan.scenario = json.at("scenario");
    for (const Json& each : json.at("firings")) {
      plan.firings.push_back({.fault = each.at("fault"),
                              .round = each.at("round"),
                              .at = each.at("at").get<Duration>(),
                              .pick = each.at("pick"),
                              .calls = calls_from(each.at("calls"))});
    }
    plan.verify = calls_from(json.at("verify"));
    plan.load = calls_from(json.at("load"));
    return plan;
  } catch (const Json::exception& error) {
    return std::unexpected(std::string("the plan cannot be read: ") + error.what());
  }
}

std::uint64_t hash(const Plan& plan) { return fnv1a(to_json_text(plan)); }

}  // namespace keelback::chaos
