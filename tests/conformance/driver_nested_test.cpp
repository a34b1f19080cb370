// Calls that Python code makes: of functions of its application, and of functions that the program
// with the pool provides.
#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// A provider that keeps what it is asked until the test answers, or answers at once.
class Desk final : public host::Provider {
 public:
  std::function<void(host::HostRequest)> at_once;  // on the asking thread

  void asked(host::HostRequest request) override {
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back(request);
    }
    if (at_once) at_once(std::move(request));
  }
  void cancelled(std::uint64_t request) override {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(request);
  }
  std::vector<host::HostRequest> all() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  std::vector<std::uint64_t> cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<host::HostRequest> asked_;
  std::vector<std::uint64_t> cancelled_;
};

std::string relay(const std::string& function, const std::string& arguments,
                  const std::string& more = "") {
  return R"({"function":")" + function + R"(","arguments":)" + arguments + more + "}";
}

class CallsOut : public DriverTest {
 protected:
  static Settings workers(std::uint32_t count) {
    Settings s = settings();
    s.pool.workers = count;
    return s;
  }
  std::shared_ptr<Desk> provide(World& world, std::vector<std::string> names = {"lookup"}) {
    auto desk = std::make_shared<Desk>();
    last_ = world.driver().provide(std::move(names), desk);
    return desk;
  }
  // Until so many requests have come; the last of them.
  static host::HostRequest asked(World& world, const Desk& desk, std::size_t count = 1) {
    EXPECT_TRUE(world.until([&] { return desk.all().size() >= count; }));
    return desk.all().empty() ? host::HostRequest{} : desk.all().back();
  }
  // Answers every request with its own arguments.
  static void echo(World& world, Desk& desk) {
    desk.at_once = [&world](host::HostRequest request) {
      EXPECT_TRUE(world.driver().answer(request.id, {.result = request.arguments}));
    };
  }
  host::ProviderId last_;
};

// The simulator's model workers ask for nothing.
std::vector<Backend> that_call_out() {
  std::vector<Backend> chosen = backends();
  std::erase(chosen, Backend::kSim);
  if (!std::filesystem::exists(KEELBACK_SOURCE_DIR "/python/keelback/nested.py")) {
    std::erase(chosen, Backend::kPython);
  }
  return chosen;
}
INSTANTIATE_TEST_SUITE_P(Backends, CallsOut, testing::ValuesIn(that_call_out()),
                         [](const auto& chosen) {
                           return chosen.param == Backend::kFake ? "fake" : "python";
                         });

void expect_failed_call(const Outcome& outcome, const std::string& how) {
  EXPECT_OUTCOME(outcome, kError, kDone);
  ASSERT_TRUE(outcome.python) << told(outcome);
  EXPECT_THAT(outcome.python->message, StartsWith(how));
}

// ---- functions of the application

// Goal: a function gets what the one that it calls returns, or hears how that ended.
TEST_P(CallsOut, AFunctionCallsAnotherOne) {
  World world(GetParam());
  world.warm();
  const Outcome outcome = world.call("relay", relay("echo", R"({"value":"Ada"})"));
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.payload, R"("Ada")");
  EXPECT_EQ(world.call("relay", relay("items", "[3]")).payload, "[0,1,2]") << "a stream's items";

  const Outcome failed = world.call("relay", relay("fail", R"(["so"])"));
  expect_failed_call(failed, "error: ValueError: so");
  EXPECT_EQ(failed.python->type, "keelback.CallFailed");
  expect_failed_call(world.call("relay", relay("nobody", "[]")), "unknown_function");
  expect_failed_call(world.call("relay", relay("echo", R"({"valeu":1})")), "bad_request");
  expect_failed_call(world.call("relay", relay("sleep", "[60000]", R"(,"timeout":0.05)")),
                     "timeout");
  expect_failed_call(world.call("relay", relay("crash", "[11]")), "worker_died");
  EXPECT_TRUE(world.adds_up());
}

TEST_P(CallsOut, ACallGoesThroughAChainOfCallers) {
  World world(GetParam(), workers(4));
  world.warm();
  std::string payload = relay("echo", "[7]");
  for (int i = 0; i < 2; ++i) payload = relay("relay", payload);
  const Outcome outcome = world.call("relay", payload);
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.payload, "7");
  EXPECT_EQ(world.stats().accepted, 4u);
}

TEST_P(CallsOut, ANestedCallHasASessionOfItsOwn) {
  World world(GetParam());
  world.warm();
  const std::string payload = relay("counter", "[]", R"(,"session":"ann")");
  EXPECT_EQ(world.call("relay", payload).payload, "1");
  EXPECT_EQ(world.call("relay", payload, "bob").payload, "2");
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "3");
  EXPECT_EQ(world.call("peek", "[]", "bob").payload, "0");
}

TEST_P(CallsOut, AResultWithAttachmentsIsAnErrorForTheCaller) {
  World world(GetParam());
  world.warm();
  expect_failed_call(world.call("relay", relay("attach_make", "[1,10]")),
                     "error: Its result has attachments");
}

// Goal: what a blocked caller's worker is told may be more than its socket takes, while the caller
// itself waits for the answer and nothing else.
TEST_P(CallsOut, LargeArgumentsAndResultsComeThrough) {
  World world(GetParam());
  world.warm();
  Call call = ask("relay", relay("echo", "[\"" + std::string(3 << 20, 'x') + "\"]"));
  const Outcome outcome = world.call(call);
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.payload.size(), (3u << 20) + 2);

  const auto desk = provide(world);
  desk->at_once = [&](host::HostRequest request) {
    // From a thread that reads no worker.
    std::thread([&world, id = request.id] {
      world.driver().answer(id, {.result = "\"" + std::string(3 << 20, 'y') + "\""});
    }).detach();
  };
  call = ask("ask_host", R"(["lookup"])");
  EXPECT_EQ(world.call(call).payload.size(), (3u << 20) + 2);
}

// Goal: calls beside each other in one worker each get what is theirs.
TEST_P(CallsOut, SharedCallsCallOutBesideEachOther) {
  World world(GetParam(), workers(1));
  world.warm();
  std::vector<Pending> calls;
  for (int i = 0; i < 20; ++i) {
    calls.push_back(
        world.submit(ask("relay_together", relay("together", "[" + std::to_string(i) + "]"))));
  }
  for (int i = 0; i < 20; ++i) {
    const Outcome outcome = world.wait(calls[static_cast<std::size_t>(i)]);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    EXPECT_EQ(outcome.payload, std::to_string(i));
  }
}

// Goal: nothing goes on that a call has asked for and nobody waits for, whatever has ended the
// call.
TEST_P(CallsOut, TheEndOfTheAskingCallCancelsWhatItHasCalled) {
  World world(GetParam());
  world.warm();
  const auto all_is_over = [&] {
    return world.until([&] { return world.stats().capacity.used == 0; });
  };
  Pending pending = world.submit(ask("relay", relay("sleep", "[60000]")));
  ASSERT_TRUE(world.running("sleep"));
  EXPECT_TRUE(world.driver().cancel(pending.id()));
  EXPECT_EQ(world.wait(pending).kind, OutcomeKind::kCancelled);
  EXPECT_TRUE(all_is_over());

  Call late = ask("relay", relay("sleep", "[60000]"));
  late.deadline = 300ms;
  EXPECT_EQ(world.call(late).kind, OutcomeKind::kTimeout);
  EXPECT_TRUE(all_is_over());

  pending = world.submit(ask("relay", relay("sleep", "[60000]")));
  ASSERT_TRUE(world.running("sleep"));
  for (const host::WorkerInfo& worker : world.driver().workers()) {
    if (worker.call != pending.id()) continue;
    world.driver().order_death(worker.worker);
    EXPECT_EQ(::kill(static_cast<pid_t>(worker.pid), SIGKILL), 0);
  }
  EXPECT_EQ(world.wait(pending).kind, OutcomeKind::kWorkerDied);
  EXPECT_TRUE(all_is_over());
  EXPECT_TRUE(world.adds_up());
}

// Goal: a call that could only wait for itself is refused at once, and Python code hears why.
TEST_P(CallsOut, ACallThatWouldWaitForItselfIsRefused) {
  World world(GetParam(), workers(1));
  world.warm();
  expect_failed_call(world.call("relay", relay("echo", "[1]")), "overloaded (would_deadlock)");
  expect_failed_call(
      world.call("relay_together", relay("together", "[1]", R"(,"session":"ann")"), "ann"),
      "overloaded (would_deadlock)");
  std::string payload = relay("together", "[1]");
  for (int i = 0; i < 17; ++i) payload = relay("relay_together", payload);
  const Outcome deep = world.call("relay_together", payload);
  EXPECT_OUTCOME(deep, kError, kDone);
  EXPECT_THAT(deep.message, HasSubstr("bad_request"));
  EXPECT_EQ(world.call("echo", "[1]").payload, "1");
}

// ---- functions that the program provides

TEST_P(CallsOut, AHostFunctionKnowsWhoAsksAndItsAnswerComesBack) {
  World world(GetParam());
  world.warm();
  const auto desk = provide(world);
  Call call = ask("ask_host", R"({"name":"lookup","arguments":{"key":"a"}})", "ann");
  call.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  call.deadline = 10s;
  const Time before = world.driver().now();
  const Pending pending = world.submit(call);
  const host::HostRequest request = asked(world, *desk);
  EXPECT_EQ(request.name, "lookup");
  EXPECT_EQ(request.arguments, R"({"key":"a"})");
  EXPECT_EQ(request.call, pending.id());
  EXPECT_EQ(request.session, "ann");
  EXPECT_EQ(request.traceparent, call.traceparent);
  EXPECT_GE(request.deadline, before + 10s);
  EXPECT_LE(request.deadline, world.driver().now() + 10s);

  EXPECT_FALSE(pending.done());
  EXPECT_TRUE(world.driver().answer(request.id, {.result = R"({"value":1})"}));
  EXPECT_FALSE(world.driver().answer(request.id, {.result = "2"})) << "answered";
  EXPECT_FALSE(world.driver().answer(request.id + 1, {})) << "never asked";
  const Outcome outcome = world.wait(pending);
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.payload, R"({"value":1})");
  EXPECT_TRUE(desk->cancelled().empty());
}

// Goal: an answer from within asked() does not wait for anything, whoever reads the worker: here a
// blocked caller, and the loop.
TEST_P(CallsOut, AHostFunctionMayAnswerAtOnce) {
  World world(GetParam());
  world.warm();
  const auto desk = provide(world);
  echo(world, *desk);
  for (int i = 0; i < 50; ++i) {
    const std::string key = std::to_string(i);
    EXPECT_EQ(world.call("ask_host", R"(["lookup",[)" + key + "]]").payload, "[" + key + "]");
  }
  EXPECT_EQ(world.wait(world.submit(ask("ask_host", R"(["lookup",["loop"]])"))).payload,
            R"(["loop"])");
}

TEST_P(CallsOut, AHostFunctionThatFailsRaises) {
  World world(GetParam());
  world.warm();
  const auto desk = provide(world);
  desk->at_once = [&](const host::HostRequest& request) {
    EXPECT_TRUE(world.driver().answer(
        request.id, {.ok = false, .error_type = "KeyError", .error_message = "no such key"}));
  };
  const Outcome failed = world.call("ask_host", R"(["lookup"])");
  expect_failed_call(failed, "error: KeyError: no such key");
  EXPECT_EQ(failed.python->type, "keelback.CallFailed");

  desk->at_once = [&](const host::HostRequest& request) {
    EXPECT_TRUE(world.driver().answer(request.id, {.result = "{"}));
  };
  expect_failed_call(world.call("ask_host", R"(["lookup"])"), "error: ValueError");
}

TEST_P(CallsOut, AHostFunctionThatIsNotThereOrGoesAwayIsGone) {
  World world(GetParam());
  world.warm();
  const Outcome nobody = world.call("ask_host", R"(["lookup"])");
  expect_failed_call(nobody, "host_gone");
  EXPECT_EQ(nobody.python->type, "keelback.HostGone");

  const auto desk = provide(world);
  const Pending pending = world.submit(ask("ask_host", R"(["lookup"])"));
  const host::HostRequest request = asked(world, *desk);
  world.driver().withdraw(last_);
  const Outcome gone = world.wait(pending);
  expect_failed_call(gone, "host_gone");
  EXPECT_EQ(gone.python->type, "keelback.HostGone");
  EXPECT_FALSE(world.driver().answer(request.id, {})) << "late";
  EXPECT_TRUE(desk->cancelled().empty());
  expect_failed_call(world.call("ask_host", R"(["lookup"])"), "host_gone");
}

TEST_P(CallsOut, OfSeveralProvidersTheOneWithTheFewestOpenRequestsIsAsked) {
  World world(GetParam(), workers(3));
  world.warm();
  const auto first = provide(world);
  const Pending one = world.submit(ask("ask_host", R"(["lookup"])"));
  asked(world, *first);
  const auto second = provide(world);
  const Pending two = world.submit(ask("ask_host", R"(["lookup"])"));
  asked(world, *second);
  ASSERT_TRUE(world.driver().answer(first->all()[0].id, {}));
  EXPECT_OUTCOME(world.wait(one), kOk, kDone);
  const Pending three = world.submit(ask("ask_host", R"(["lookup"])"));
  asked(world, *first, 2);
  EXPECT_EQ(second->all().size(), 1u);
  for (const auto& desk : {first, second}) {
    ASSERT_TRUE(world.driver().answer(desk->all().back().id, {}));
  }
  EXPECT_OUTCOME(world.wait(two), kOk, kDone);
  EXPECT_OUTCOME(world.wait(three), kOk, kDone);
}

// Goal: a provider hears when nobody waits any more, whatever has ended the call, and its late
// answer changes nothing.
TEST_P(CallsOut, TheEndOfTheAskingCallCancelsItsHostRequest) {
  World world(GetParam());
  world.warm();
  const auto desk = provide(world, {"lookup", "other"});
  const auto ends = [&](const Pending& pending, const host::HostRequest& request) {
    EXPECT_TRUE(world.until([&] {
      const std::vector<std::uint64_t> heard = desk->cancelled();
      return std::ranges::find(heard, request.id) != heard.end();
    }));
    EXPECT_FALSE(world.driver().answer(request.id, {})) << "late";
    return world.wait(pending);
  };

  Pending pending = world.submit(ask("ask_host", R"(["lookup"])"));
  host::HostRequest request = asked(world, *desk, 1);
  EXPECT_TRUE(world.driver().cancel(pending.id()));
  EXPECT_EQ(ends(pending, request).kind, OutcomeKind::kCancelled);

  Call late = ask("ask_host", R"(["lookup"])");
  late.deadline = 200ms;
  pending = world.submit(late);
  request = asked(world, *desk, 2);
  EXPECT_EQ(ends(pending, request).kind, OutcomeKind::kTimeout);

  pending = world.submit(ask("ask_host", R"(["other"])"));
  request = asked(world, *desk, 3);
  ASSERT_TRUE(world.until([&] { return world.stats().capacity.used == 1; }));
  for (const host::WorkerInfo& worker : world.driver().workers()) {
    if (worker.call != pending.id()) continue;
    world.driver().order_death(worker.worker);
    EXPECT_EQ(::kill(static_cast<pid_t>(worker.pid), SIGKILL), 0);
  }
  EXPECT_EQ(ends(pending, request).kind, OutcomeKind::kWorkerDied);
  EXPECT_TRUE(world.adds_up());
}

// Goal: many requests of one worker are open at once and are answered in any order.
TEST_P(CallsOut, ManyHostRequestsOfOneWorkerAreAnsweredInAnyOrder) {
  World world(GetParam(), workers(1));
  world.warm();
  const auto desk = provide(world);
  std::vector<Pending> calls;
  for (int i = 0; i < 40; ++i) {
    calls.push_back(
        world.submit(ask("ask_host_together", R"(["lookup",[)" + std::to_string(i) + "]]")));
  }
  asked(world, *desk, 40);
  std::vector<host::HostRequest> requests = desk->all();
  std::ranges::reverse(requests);
  for (const host::HostRequest& request : requests) {
    EXPECT_TRUE(world.driver().answer(request.id, {.result = request.arguments}));
  }
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(world.wait(calls[static_cast<std::size_t>(i)]).payload,
              "[" + std::to_string(i) + "]");
  }
}

// Goal: a host function may call the pool for the call that asks.
TEST_P(CallsOut, AHostFunctionCallsThePool) {
  World world(GetParam());
  world.warm();
  const auto desk = provide(world);
  desk->at_once = [&](const host::HostRequest& request) {
    Call call = ask("echo", request.arguments);
    call.parent = request.call.value;
    world.driver().submit(call, [&world, id = request.id](Outcome&& outcome) {
      EXPECT_TRUE(world.driver().answer(id, {.result = outcome.payload}));
    });
  };
  EXPECT_EQ(world.call("ask_host", R"(["lookup",["x"]])").payload, R"("x")");
}

}  // namespace
}  // namespace keelback::test
