// How a worker starts and ends: order of CONNECT, HELLO and READY, what HELLO says, failed starts,
// SHUTDOWN, the lifeline, and what a worker does when its supervisor goes or talks nonsense.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

TEST_P(Protocol, SaysConnectThenHelloThenReadyAndNothingElse) {
  auto peer = Peer::start(GetParam());
  const auto connect = peer->next();
  ASSERT_TRUE(connect);
  EXPECT_EQ(connect->type(), wire::Type::kConnect);
  EXPECT_EQ(wire::decode_connect({connect->header, connect->body}), wire::kVersion);
  const auto hello = peer->next();
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->type(), wire::Type::kHello);
  const auto ready = peer->next();
  ASSERT_TRUE(ready);
  EXPECT_EQ(ready->type(), wire::Type::kReady);
  for (const auto& message : {*connect, *hello, *ready}) {
    EXPECT_EQ(message.header.flags, 0);
    EXPECT_EQ(message.header.call, 0u);
  }
  // A pong comes after everything that the worker does on its own.
  peer->ping();
  EXPECT_EQ(peer->pong().running, 0u);
  EXPECT_EQ(peer->waiting(), 0u);
  EXPECT_EQ(peer->mark(wire::kMarkStarted), 0u) << "no call has started";
}

// Goal: HELLO has every field of its schema, with the right types, for every function.
TEST_P(Protocol, DescribesItsFunctionsInHello) {
  auto peer = Peer::start(GetParam());
  ASSERT_TRUE(peer->next());
  const auto message = peer->next();
  ASSERT_TRUE(message && message->type() == wire::Type::kHello);
  const Json hello = Json::parse(message->body, nullptr, false);
  ASSERT_TRUE(hello.is_object()) << message->body;
  EXPECT_TRUE(hello["runtime"].is_string());
  EXPECT_EQ(hello["pid"], peer->pid());
  EXPECT_TRUE(hello["app"].is_string());
  std::set<std::string> names;
  const std::set<std::string> kinds = {"positional_only", "positional_or_keyword", "var_positional",
                                       "keyword_only", "var_keyword"};
  for (const Json& function : hello["functions"]) {
    EXPECT_TRUE(function["name"].is_string());
    names.insert(function["name"].get<std::string>());
    EXPECT_TRUE(function["doc"].is_string());
    for (const char* flag : {"idempotent", "stream", "async", "interruptible"}) {
      EXPECT_TRUE(function[flag].is_boolean()) << flag << function;
    }
    EXPECT_TRUE(function["timeout"].is_null() || function["timeout"].is_number());
    EXPECT_TRUE(function["max_workers"].is_number_unsigned());
    EXPECT_TRUE(function["concurrency"].is_number_unsigned());
    for (const Json& parameter : function["params"]) {
      EXPECT_TRUE(parameter["name"].is_string());
      EXPECT_TRUE(kinds.contains(parameter["kind"].get<std::string>()));
      EXPECT_TRUE(parameter["required"].is_boolean());
      EXPECT_TRUE(parameter["type"].is_null() || parameter["type"].is_string());
    }
  }
  EXPECT_EQ(names.size(), hello["functions"].size()) << "no name twice";
}

// Goal: whoever runs them, the standard functions look the same, so tests of the supervisor may use
// either. Their names, marks and parameters; not their descriptions.
TEST_P(Protocol, OffersTheStandardFunctions) {
  auto peer = Peer::start(GetParam());
  ASSERT_TRUE(peer->next());
  const auto message = peer->next();
  ASSERT_TRUE(message);
  std::map<std::string, std::string> found;
  const Json hello = Json::parse(message->body, nullptr, false);
  for (const Json& function : hello["functions"]) {
    std::string text = std::string(function["idempotent"] ? "i" : "-") +
                       (function["stream"] ? "s" : "-") + (function["async"] ? "a" : "-") +
                       (function["interruptible"] ? " interruptible" : "");
    if (function["concurrency"] != 1) text += " " + function["concurrency"].dump() + " at once";
    if (function["batch"] != 0) text += " " + function["batch"].dump() + " together";
    for (const Json& parameter : function["params"]) {
      text += " " + parameter["name"].get<std::string>() + (parameter["required"] ? "" : "?");
    }
    found[function["name"]] = text;
  }
  const std::map<std::string, std::string> expected = {
      {"append", "--- path line ms?"},
      {"append_threads", "--- 8 at once path line ms?"},
      {"append_together", "--a 64 at once path line ms?"},
      {"ask_host", "--- name arguments?"},
      {"ask_host_together", "--a 64 at once name arguments?"},
      {"attach_drop", "---"},
      {"attach_echo", "i--"},
      {"attach_keep", "---"},
      {"attach_make", "i-- n bytes"},
      {"attach_seen", "---"},
      {"attach_sum", "i--"},
      {"blob", "--- bytes"},
      {"count", "---"},
      {"count_together", "--a 64 at once"},
      {"counter", "---"},
      {"crash", "--- signal?"},
      {"echo", "i-- value"},
      {"ended", "---"},
      {"exit", "--- code?"},
      {"fail", "--- message"},
      {"gather", "--- 32 together ms act?"},
      {"gather_wait", "--- 4 together ms act?"},
      {"hold", "--- ms"},
      {"items", "-s- n"},
      {"litter", "---"},
      {"log", "--- text n?"},
      {"nap", "--- interruptible ms"},
      {"pause", "-s- ms"},
      {"peek", "---"},
      {"pid", "i--"},
      {"relay", "--- function arguments? session? timeout?"},
      {"relay_together", "--a 64 at once function arguments? session? timeout?"},
      {"sleep", "i-- ms"},
      {"spin", "--- ms"},
      {"spoil", "---"},
      {"threads", "--- 8 at once ms"},
      {"threads_crash", "--- 8 at once ms"},
      {"threads_late", "--- 8 at once ms"},
      {"threads_stuck", "--- 8 at once ms"},
      {"together", "--a 64 at once ms"},
      {"together_block", "--a 64 at once ms"},
      {"together_crash", "--a 64 at once ms"},
      {"together_die", "--a 64 at once ms"},
      {"together_exit", "--a 64 at once ms"},
      {"together_stream", "-sa 64 at once n ms?"},
      {"together_stuck", "--a 64 at once ms"},
      {"typed", "i-- n"},
      {"unserialisable", "---"}};
  // What only Python can do: stack arrays, and keep a GIL.
  for (const char* name : {"stack", "together_hold"}) found.erase(name);
  EXPECT_EQ(found, expected);
}

TEST_P(Protocol, LeadsAProcessGroupOfItsOwn) {
  auto peer = ready();
  EXPECT_EQ(::getpgid(peer->pid()), peer->pid());
  expect_result(peer->call("pid", Json::array()), peer->pid());
}

// Goal: a start that fails says which step and why, and exits 1.
TEST_P(Protocol, SaysWhyAStartFailed) {
  const bool fake = GetParam() == Program::kFake;
  auto peer = Peer::start(GetParam(), fake ? "fail=setup"
                                           : KEELBACK_SOURCE_DIR
                                          "/tests/conformance/apps/failing_setup.py");
  for (const wire::Type expected : {wire::Type::kConnect, wire::Type::kHello}) {
    const auto message = peer->next();
    ASSERT_TRUE(message);
    EXPECT_EQ(message->type(), expected);
  }
  const auto failed = peer->next();
  ASSERT_TRUE(failed);
  ASSERT_EQ(failed->type(), wire::Type::kStartFailed);
  const Json why = Json::parse(failed->body, nullptr, false);
  EXPECT_EQ(why["step"], "setup");
  EXPECT_EQ(why["type"], "RuntimeError");
  EXPECT_TRUE(why["message"].is_string() && why["traceback"].is_string()) << why;
  EXPECT_TRUE(peer->ended());
  const auto status = peer->status();
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 1) << *status;
}

// Goal: an application that cannot be had is a failed hello (of a zygote: a failed import).
TEST_P(Protocol, SaysThatTheApplicationCannotBeLoaded) {
  auto peer = Peer::start(GetParam(), "no/such/application.py");
  if (GetParam() == Program::kZygote) {
    EXPECT_EQ(peer->orders().ready["op"], "failed");
    EXPECT_EQ(peer->orders().ready["step"], "import");
    EXPECT_TRUE(peer->orders().ready["message"].is_string());
    return;
  }
  ASSERT_TRUE(peer->next());
  const auto failed = peer->next();
  ASSERT_TRUE(failed);
  ASSERT_EQ(failed->type(), wire::Type::kStartFailed);
  const Json why = Json::parse(failed->body, nullptr, false);
  EXPECT_EQ(why["step"], "hello");
  EXPECT_THAT(why["message"].get<std::string>(), HasSubstr("no/such/application.py"));
  const auto status = peer->status();
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 1) << *status;
}

TEST_P(Protocol, LeavesWithCodeZeroWhenItIsToldTo) {
  auto peer = ready();
  expect_result(peer->call("echo", {1}), 1);
  std::string bytes;
  wire::append_shutdown(bytes);
  peer->send(bytes);
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(peer->waiting(), 0u);
  const auto status = peer->status();
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << *status;
}

// Goal: SHUTDOWN is obeyed between calls: what runs is finished and answered.
TEST_P(Protocol, FinishesTheRunningCallBeforeItLeaves) {
  auto peer = ready();
  std::string bytes = Peer::encode(peer->skip_call(), {.function = "sleep", .payload = "[50]"});
  wire::append_shutdown(bytes);
  peer->send_packets({bytes});
  expect_result(peer->reply(), 50);
  const auto status = peer->status();
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << *status;
}

// ---- the supervisor goes

TEST_P(Protocol, EndsWhenItsDataSocketCloses) {
  auto peer = ready();
  peer->close_data();
  EXPECT_TRUE(peer->dead());
}

// Goal: the last write end of the lifeline closes, and the kernel kills, whatever the worker does.
TEST_P(Protocol, DiesWithTheLifelineWhileItIsIdle) {
  auto peer = ready();
  peer->close_lifeline();
  EXPECT_TRUE(peer->dead());
}
TEST_P(Protocol, DiesWithTheLifelineWhileItHoldsTheInterpreter) {
  auto peer = ready();
  ASSERT_TRUE(peer->await_started(peer->send_call({.function = "hold", .payload = "[600000]"})));
  peer->close_lifeline();
  EXPECT_TRUE(peer->dead());
  if (GetParam() != Program::kZygote) {  // the zygote, who would have the status, died with it
    const auto status = peer->status();
    ASSERT_TRUE(status);
    EXPECT_TRUE(WIFSIGNALED(*status) && WTERMSIG(*status) == SIGKILL) << *status;
  }
}

TEST_P(Protocol, IgnoresSigterm) {
  auto peer = ready();
  peer->signal(SIGTERM);
  const auto call = peer->send_call({.function = "sleep", .payload = "[100]"});
  ASSERT_TRUE(peer->await_started(call));
  peer->signal(SIGTERM);
  expect_result(peer->reply(), 100);
}

// ---- nonsense

// Goal: a worker that is sent no frame ends; it neither hangs nor guesses.
TEST_P(Protocol, EndsWhenWhatItReceivesIsNoFrame) {
  const auto frame = [](std::uint32_t length, std::uint8_t type, std::uint16_t zero) {
    std::string bytes(16, '\0');
    for (int i = 0; i < 4; ++i)
      bytes[static_cast<std::size_t>(i)] = static_cast<char>(length >> 8 * i);
    bytes[4] = static_cast<char>(type);
    bytes[6] = static_cast<char>(zero);
    return bytes;
  };
  for (const std::string& wrong :
       {frame(15, 3, 0), frame(0, 3, 0), frame(16, 99, 0), frame(16, 20, 0), frame(16, 3, 1),
        frame(20, 1, 0) + "\1\2\3\4"}) {
    auto peer = ready();
    peer->send(wrong);
    const auto status = peer->status();
    ASSERT_TRUE(status);
    EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 1)
        << *status << " for " << ::testing::PrintToString(wrong);
  }
}

INSTANTIATE_TEST_SUITE_P(Worker, Protocol,
                         ::testing::Values(Program::kFake, Program::kPython, Program::kZygote),
                         [](const auto& each) { return name_of(each.param); });

}  // namespace
}  // namespace keelback::conformance
