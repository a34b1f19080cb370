// Callers that misbehave: too many, too fast, too late, with wrong words.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "chaos/fault.h"

namespace keelback::chaos::faults::clients {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;

const std::vector<OutcomeKind> kLoad = {kTimeout, kOverloaded};

template <OutcomeKind kKind>
struct EndsAs final : OwnCalls {
  bool met(const CallEvent& call) const override { return call.kind == kKind; }
};

// A crowd has been there if nearly all of it came on time.
struct OnTime final : OwnCalls {
  void decide(const Seen& seen, Duration at) override {
    if (seen.sent != seen.planned) return;
    if (seen.punctual * 10 >= seen.sent * 9) {
      return bit(at, fmt::format("{} calls sent, {} of them on time", seen.sent, seen.punctual));
    }
    no_bite(fmt::format("only {} of {} calls were sent on time: this machine is too busy",
                        seen.punctual, seen.sent));
  }
};

struct Herd final : OwnCalls {
  void decide(const Seen& seen, Duration at) override {
    if (seen.sent != seen.planned || seen.last - seen.first > 50ms) return;
    const double within = std::chrono::duration<double, std::milli>(seen.last - seen.first).count();
    bit(at, fmt::format("{} calls within {:.1f} ms", seen.sent, within));
  }
};

struct SessionFlood final : OwnCalls {
  void before() override { opened_ = recorder().history().samples.back().opened; }
  void decide(const Seen& seen, Duration at) override {
    const std::uint64_t opened = recorder().history().samples.back().opened - opened_;
    const std::uint64_t full = how_many(kSessionLimit);
    if ((opened + full) * 10 < seen.planned * 9) return;
    bit(at, fmt::format("{} sessions were opened, {} refused for want of room", opened, full));
  }

 private:
  std::uint64_t opened_ = 0;
};

struct Vanish final : OwnCalls {
  void decide(const Seen&, Duration at) override {
    const auto known = std::ranges::count_if(
        calls(), [&](std::uint64_t index) { return recorder().cancelled_known(index); });
    if (known == 0) return;
    bit(at, fmt::format("{} calls were in flight when their clients left", known));
  }
};

// Clients that do not wait and do not give up: what fails is sent again in the same instant.
struct RetryStorm final : OwnCalls {
  void act(Duration at) override {
    const std::size_t known = recorder().history().calls.size();
    for (std::size_t i = 0; i < known; ++i) {
      const CallEvent call = recorder().history().calls[i];
      const bool theirs = call.origin == "load" || call.origin == spec().id;
      const bool plain = call.function == "echo" || call.function == "chain";
      const bool failed = call.finished() && !call.ok() && call.done >= noted().fired;
      if (theirs && plain && failed && !tries_.contains(call.index)) again(call, at);
    }
  }
  void decide(const Seen& seen, Duration at) override {
    if (seen.sent > 0) bit(at, fmt::format("{} failed calls were sent again at once", seen.sent));
  }

 private:
  // A retry inherits how often its call has been tried: the token's highest bits count.
  void again(const CallEvent& call, Duration at) {
    const bool ours = std::ranges::find(calls(), call.index) != calls().end();
    const std::uint64_t before = ours ? call.token >> 60 : 0;
    tries_[call.index] = before + 1;
    if (before >= count("retries")) return;
    PlannedCall made{.function = call.function,
                     .session = call.session,
                     .token = (call.token & (~std::uint64_t{0} >> 4)) | (before + 1) << 60,
                     .idempotent = call.idempotent,
                     .deadline = call.deadline};
    made.payload = call.function == "echo" ? fmt::format("[\"n{:x}\"]", made.token)
                                           : fmt::format("[{}]", made.token);
    sent(recorder().send(made, spec().id, at));
  }

  std::map<std::uint64_t, std::uint64_t> tries_;  // of calls that failed: how often tried again
};

FaultClass of(FaultClass made) {
  made.reach = Reach::kPool;
  made.callers_only = true;
  made.where = Where::kEverywhere;
  return made;
}

Parameter so_many(std::string_view light, std::string_view medium, std::string_view heavy,
                  std::string_view name = "calls") {
  return {name, kCount, light, medium, heavy, "so many"};
}

std::function<void(CallPlan&)> same(std::string_view function, const std::string& payload) {
  return [=](CallPlan& plan) { plan.same(function, payload); };
}

void plan_burst(CallPlan& plan) {
  const double more = std::max(0.0, number_of(plan.fault, "factor") - 1);
  plan.spread(plan.scenario.load.rate * more,
              [&](Duration at) { return plan.call("echo", "", at); });
}

void plan_hot_session(CallPlan& plan) {
  const std::string session = "hot-" + plan.fault.id;
  plan.spread(plan.scenario.load.rate * number_of(plan.fault, "share"),
              [&](Duration at) { return plan.call("chain", "", at, session); });
}

void plan_flood(CallPlan& plan) {
  plan.repeat(count_of(plan.fault, "sessions"), [&](std::uint64_t i) {
    return plan.call("chain", "", 1ms * static_cast<std::int64_t>(i),
                     fmt::format("flood-{}-{}", plan.fault.id, i));
  });
}

std::vector<FaultClass> crowds() {
  return {
      of({.name = "client.burst",
          .what = "The load is multiplied.",
          .proof = "the calls of the burst were sent at their planned times",
          .lasts = true,
          .parameters = {{"factor", kNumber, "2", "4", "8", "times the rate"}},
          .expected = kLoad,
          .plan = plan_burst,
          .make = make_fault<OnTime>}),
      of({.name = "client.retry_storm",
          .what = "Clients send what has failed again at once, and again: the load feeds on its "
                  "own failures.",
          .proof = "failed calls were sent again",
          .lasts = true,
          .feeds_on_others = true,
          .parameters = {{"retries", kCount, "1", "3", "10", "so often each"}},
          .expected = kLoad,
          .make = make_fault<RetryStorm>}),
      of({.name = "client.herd",
          .what = "Many clients come at one instant.",
          .proof = "all of the herd was in flight within 50 ms",
          .parameters = {so_many("50", "200", "800", "clients")},
          .expected = kLoad,
          .plan =
              [](CallPlan& plan) {
                plan.repeat(count_of(plan.fault, "clients"),
                            [&](std::uint64_t) { return plan.call("echo"); });
              },
          .make = make_fault<Herd>}),
      of({.name = "client.hot_session",
          .what = "One session gets a large share of the load.",
          .proof = "so many calls of that session were sent",
          .lasts = true,
          .parameters = {{"share", kNumber, "0.3", "0.5", "0.8", "of the load"}},
          .expected = {kTimeout, kOverloaded, kSessionBusy},
          .plan = plan_hot_session,
          .make = make_fault<OnTime>}),
      of({.name = "client.session_flood",
          .what = "Every call opens a session of its own.",
          .proof = "the pool opened so many sessions, or refused them with session_limit",
          .parameters = {so_many("50", "200", "1000", "sessions")},
          .expected = {kTimeout, kOverloaded, kSessionLimit},
          .plan = plan_flood,
          .make = make_fault<SessionFlood>})};
}

std::vector<FaultClass> wrong_calls() {
  return {of({.name = "client.vanish",
              .what = "Clients leave while their calls run.",
              .proof = "the pool knew the calls when they were cancelled",
              .parameters = {so_many("5", "20", "50"),
                             {"takes", kDuration, "50ms", "100ms", "100ms", "each would take"}},
              .expected = {kTimeout, kOverloaded, kCancelled},
              .plan =
                  [](CallPlan& plan) {
                    plan.same("sleep", plan.milliseconds("takes"));
                    for (PlannedCall& each : plan.calls) each.leave_after = 10ms;
                  },
              .make = make_fault<Vanish>}),
          of({.name = "client.tiny_deadline",
              .what = "Calls come with next to no time.",
              .proof = "they ended as timeout",
              .parameters = {so_many("10", "50", "200"),
                             {"deadline", kDuration, "1ms", "1ms", "1ms", "theirs"}},
              .expected = kLoad,
              .plan =
                  [](CallPlan& plan) {
                    plan.same("sleep", "[20]");
                    for (PlannedCall& each : plan.calls)
                      each.deadline = duration_of(plan.fault, "deadline");
                  },
              .make = make_fault<EndsAs<kTimeout>>}),
          of({.name = "client.malformed",
              .what = "Calls whose arguments are no JSON.",
              .proof = "they ended as bad_request",
              .parameters = {so_many("5", "20", "50")},
              .expected = kLoad,
              .plan = same("echo-malformed", "{\"no\": json"),
              .make = make_fault<EndsAs<kBadRequest>>}),
          of({.name = "client.unknown_function",
              .what = "Calls of a function that is not there.",
              .proof = "they ended as unknown_function",
              .parameters = {so_many("5", "20", "50")},
              .expected = kLoad,
              .plan = same("no-such-function", "[]"),
              .make = make_fault<EndsAs<kUnknownFunction>>})};
}

}  // namespace

std::vector<FaultClass> classes() {
  std::vector<FaultClass> all = crowds();
  for (FaultClass& each : wrong_calls()) all.push_back(std::move(each));
  return all;
}

}  // namespace keelback::chaos::faults::clients
