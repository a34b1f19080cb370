// A thousand random chains of calls that call, on each backend: through workers that run one call,
// workers that run many, and sessions, some with a deadline or a caller that cancels, some with a
// call that kills its worker. Each ends once, and none waits for itself until its deadline.
#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "base/prng.h"
#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

constexpr std::string_view kTreeSessions[] = {"", "", "", "ann", "bob", "cem"};
constexpr int kChains = 1000;
constexpr std::size_t kAtOnce = 24;

class CallTrees : public DriverTest {};
INSTANTIATE_TEST_SUITE_P(Backends, CallTrees, testing::ValuesIn(backends()),
                         [](const auto& chosen) {
                           return chosen.param == Backend::kSim    ? "sim"
                                  : chosen.param == Backend::kFake ? "fake"
                                                                   : "python";
                         });

std::string relayed(const std::string& function, const std::string& arguments,
                    std::string_view session) {
  std::string json = R"({"function": ")" + function + R"(", "arguments": )" + arguments;
  if (!session.empty()) json += R"(, "session": ")" + std::string(session) + '"';
  return json + '}';
}

Call random_chain(Prng& prng) {
  const auto session = [&prng] { return kTreeSessions[prng.below(std::size(kTreeSessions))]; };
  const auto relay = [&prng] { return prng.below(2) == 0 ? "relay" : "relay_together"; };
  std::string function = "together", payload = "[1]";
  if (prng.below(3) == 0) function = "echo";
  if (prng.below(100) == 0) {
    function = "crash";
    payload = "[11]";
  }
  for (std::uint64_t i = 0; i < 1 + prng.below(4); ++i) {
    payload = relayed(function, payload, session());
    function = relay();
  }
  Call call = ask(function, payload, std::string(session()));
  call.idempotent = prng.below(2) == 0;
  return call;
}

TEST_P(CallTrees, AThousandRandomChainsEndOnceAndNoneWaitsForItself) {
  Settings settings = World::default_settings();
  settings.pool.workers = 3;
  settings.calls.deadline = 100s;
  settings.breaker.failures = 0;
  settings.quarantine.deaths = 0;
  World world(GetParam(), settings);
  world.warm();
  Prng prng(1);
  std::vector<Pending> open;
  int refused = 0, ok = 0;
  const auto take_ended = [&] {
    std::erase_if(open, [&](const Pending& call) {
      if (!call.done()) return false;
      const Outcome outcome = call.outcome();
      EXPECT_NE(outcome.kind, OutcomeKind::kTimeout) << told(outcome);
      ok += outcome.ok();
      refused +=
          outcome.python && outcome.python->message.find("would_deadlock") != std::string::npos;
      return true;
    });
  };
  for (int i = 0; i < kChains; ++i) {
    open.push_back(world.submit(random_chain(prng)));
    if (prng.below(30) == 0) world.driver().cancel(open[prng.below(open.size())].id());
    ASSERT_TRUE(world.until(
        [&] {
          take_ended();
          return open.size() < kAtOnce;
        },
        60s))
        << "nothing ends";
  }
  ASSERT_TRUE(world.until(
      [&] {
        take_ended();
        return open.empty();
      },
      60s))
      << open.size() << " calls wait for themselves";
  EXPECT_GT(ok, kChains / 10);
  EXPECT_GT(refused, kChains / 100);
  EXPECT_TRUE(world.adds_up());
}

}  // namespace
}  // namespace keelback::test
