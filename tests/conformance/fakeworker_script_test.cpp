// Every word of a fake worker's script does what src/fakeworker/script.h says; and it is strict
// with its supervisor.
#include <sys/wait.h>

#include <chrono>

#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::unique_ptr<Peer> start(const std::string& script) {
  return Peer::start(Program::kFake, script);
}
std::unique_ptr<Peer> ready(const std::string& script) {
  return Peer::ready(Program::kFake, script);
}
wire::Type next_type(Peer& peer) {
  const auto message = peer.next();
  return message ? message->type() : wire::Type{};
}

TEST(FakeWorkerScript, TakesItsTimeToImportAndToSetUp) {
  const auto began = Clock::now();
  auto peer = start("import_ms=60,setup_ms=90");
  EXPECT_EQ(next_type(*peer), wire::Type::kConnect);
  EXPECT_EQ(next_type(*peer), wire::Type::kHello);
  EXPECT_GE(Clock::now() - began, 60ms);
  EXPECT_EQ(next_type(*peer), wire::Type::kReady);
  EXPECT_GE(Clock::now() - began, 150ms);
}

TEST(FakeWorkerScript, FailsItsStartAtTheStepOfTheScript) {
  auto peer = start("fail=hello");
  EXPECT_EQ(next_type(*peer), wire::Type::kConnect);
  const auto failed = peer->next();
  ASSERT_TRUE(failed && failed->type() == wire::Type::kStartFailed);
  EXPECT_EQ(Json::parse(failed->body)["step"], "hello");
  EXPECT_EQ(peer->status(), 1 << 8);
}

TEST(FakeWorkerScript, RefusesAScriptWithAMisspeltWord) {
  auto peer = start("unclean_evry=2");
  EXPECT_EQ(next_type(*peer), wire::Type::kConnect);
  const auto failed = peer->next();
  ASSERT_TRUE(failed && failed->type() == wire::Type::kStartFailed);
  EXPECT_THAT(failed->body, HasSubstr("unclean_evry=2"));
}

TEST(FakeWorkerScript, ExitsAtTheStepOfTheScript) {
  const std::vector<wire::Type> steps = {wire::Type::kConnect, wire::Type::kHello};
  std::size_t heard = 0;
  for (const char* step : {"connect", "hello", "setup"}) {
    auto peer = start(std::string("exit_at=") + step + ":9");
    for (std::size_t i = 0; i < heard; ++i) EXPECT_EQ(next_type(*peer), steps[i]);
    EXPECT_FALSE(peer->next()) << step;
    EXPECT_EQ(peer->status(), 9 << 8);
    ++heard;
  }
}

TEST(FakeWorkerScript, HangsAtTheStepOfTheScriptAndDiesWithTheLifeline) {
  auto peer = start("hang_at=hello");
  EXPECT_EQ(next_type(*peer), wire::Type::kConnect);
  EXPECT_TRUE(peer->await_asleep());
  EXPECT_EQ(peer->waiting(), 0u);
  peer->close_lifeline();
  EXPECT_EQ(peer->status(), SIGKILL);
}

TEST(FakeWorkerScript, SpeaksAnotherVersion) {
  auto peer = start("bad_version");
  const auto connect = peer->next();
  ASSERT_TRUE(connect);
  EXPECT_EQ(wire::decode_connect({connect->header, connect->body}), 99u);
}

TEST(FakeWorkerScript, IsSlowInEveryCall) {
  auto peer = ready("slow_ms=50");
  for (int i = 0; i < 2; ++i) {
    const auto began = Clock::now();
    expect_result(peer->call("echo", {i}), i);
    EXPECT_GE(Clock::now() - began, 50ms);
  }
}

TEST(FakeWorkerScript, CrashesInsideTheCallAfterSoManyAnswers) {
  auto peer = ready("crash_after_calls=2");
  expect_result(peer->call("echo", {1}), 1);
  expect_result(peer->call("echo", {2}), 2);
  const auto call = peer->send_call({.function = "echo", .payload = "[3]"});
  EXPECT_EQ(peer->status(), SIGSEGV);
  EXPECT_EQ(peer->mark(wire::kMarkStarted), call);
  EXPECT_NE(peer->mark(wire::kMarkEnded), call);
}

TEST(FakeWorkerScript, SendsGarbageInsteadOfAnAnswer) {
  auto peer = ready("garbage_after=1");
  expect_result(peer->call("echo", {1}), 1);
  (void)peer->send_call({.function = "echo", .payload = "[2]"});
  EXPECT_FALSE(peer->next()) << "no frame starts like this";
}

TEST(FakeWorkerScript, DiesInTheMiddleOfAFrame) {
  auto peer = ready("half_frame_after=0");
  (void)peer->send_call({.function = "echo", .payload = "[1]"});
  EXPECT_FALSE(peer->next());
  EXPECT_EQ(peer->status(), 0);
  EXPECT_TRUE(peer->ended_inside_a_frame());
}

TEST(FakeWorkerScript, AnswersTwice) {
  auto peer = ready("duplicate_reply");
  const Reply first = peer->call("echo", {1});
  const Reply second = peer->reply();
  EXPECT_EQ(first.call, second.call);
  expect_result(second, 1);
}

TEST(FakeWorkerScript, AnswersForACallThatIsOver) {
  auto peer = ready("zombie_reply");
  const auto old = peer->call("echo", {1}).call;
  const auto call = peer->send_call({.function = "echo", .payload = "[2]"});
  const Reply zombie = peer->reply();
  EXPECT_EQ(zombie.call, old);
  expect_result(zombie, "zombie");
  const Reply own = peer->reply();
  EXPECT_EQ(own.call, call);
  expect_result(own, 2);
}

TEST(FakeWorkerScript, IsUncleanEverySoOften) {
  auto peer = ready("unclean_every=3");
  for (int i = 1; i <= 6; ++i) EXPECT_EQ(peer->call("echo", {i}).unclean, i % 3 == 0) << i;
}

// Goal: the words are about calls, whether they run alone or beside others.
TEST(FakeWorkerScript, DoesToSharedCallsWhatItDoesToOthers) {
  const Ask shared = {.function = "together", .payload = "[1]", .row = 3};
  auto peer = ready("slow_ms=40,unclean_every=1,duplicate_reply");
  const auto began = Clock::now();
  for (int i = 0; i < 2; ++i) {
    const Reply reply = i == 0 ? peer->call(shared) : peer->reply();
    expect_result(reply, 1);
    EXPECT_FALSE(reply.unclean) << "which no shared call is";
  }
  EXPECT_GE(Clock::now() - began, 40ms);

  peer = ready("crash_after_calls=1");
  expect_result(peer->call(shared), 1);
  const auto call = peer->send_call(shared);
  EXPECT_EQ(peer->status(), SIGSEGV);
  EXPECT_EQ(peer->row_mark(3, wire::kRowStarted), call);
  EXPECT_NE(peer->row_mark(3, wire::kRowEnded), call);

  peer = ready("half_frame_after=0");
  (void)peer->send_call(shared);
  EXPECT_TRUE(peer->ended_inside_a_frame());
}

TEST(FakeWorkerScript, IsIllAfterSoManyCalls) {
  auto peer = ready("unhealthy_after=1");
  const auto check = [&] {
    std::string bytes;
    wire::append_check(bytes);
    peer->send(bytes);
    return peer->next().value();
  };
  const auto before = check();
  ASSERT_EQ(before.type(), wire::Type::kChecked);
  EXPECT_EQ(before.body.at(0), 1);
  expect_result(peer->call("echo", {1}), 1);
  const auto after = check();
  EXPECT_EQ(after.body.at(0), 0);
  EXPECT_GT(after.body.size(), 1u);
}

TEST(FakeWorkerScript, StaysWhenItIsAskedToLeave) {
  auto peer = ready("ignore_shutdown");
  std::string bytes;
  wire::append_shutdown(bytes);
  peer->send(bytes);
  expect_result(peer->call("echo", {1}), 1);
}

TEST(FakeWorkerScript, StaysWhenItsSocketsCloseAndDiesOfTheLifelineOnly) {
  auto peer = ready("term_immune");
  expect_result(peer->call("echo", {1}), 1);
  peer->close_data();
  peer->signal(SIGTERM);
  const auto token = peer->ping();
  EXPECT_EQ(peer->pong().token, token);
  EXPECT_TRUE(peer->await_asleep());
  peer->close_lifeline();
  EXPECT_EQ(peer->status(), SIGKILL);
}

// Goal: what a worker may take on trust, it does not: a supervisor that breaks these rules loses
// it.
TEST(FakeWorker, IsStrictWithItsSupervisor) {
  const auto in_row = [](std::uint16_t row, std::string function, std::string session = "") {
    return Ask{.function = std::move(function),
               .payload = "[600000]",
               .session = session,
               .birth = 1,
               .epoch = 1,
               .opens = !session.empty(),
               .row = row};
  };
  std::string end, save, shutdown;
  ASSERT_TRUE(wire::append_session_end(end, {.birth = 1, .session = "ann"}));
  ASSERT_TRUE(wire::append_save(save, {.birth = 1, .epoch = 1, .session = "ann"}));
  wire::append_shutdown(shutdown);
  const std::string alone = Peer::encode(1000, {.function = "echo", .payload = "[1]"});
  const std::string same_row = Peer::encode(1000, in_row(1, "together"));
  Ask of_ann = in_row(2, "together", "ann");
  of_ann.opens = false;
  const std::string same_session = Peer::encode(1000, of_ann);
  for (const std::string& wrong : {alone, same_row, same_session, end, save, shutdown}) {
    auto peer = ready("standard");
    ASSERT_TRUE(peer->await_started(peer->send_call(in_row(1, "together", "ann")), 1));
    peer->send(wrong);
    EXPECT_EQ(peer->status(), 1 << 8) << ::testing::PrintToString(wrong);
  }
  // As many as its concurrency says, and one more.
  auto peer = ready("standard");
  for (std::uint16_t row = 1; row <= 8; ++row) {
    ASSERT_TRUE(peer->await_started(peer->send_call(in_row(row, "threads")), row));
  }
  (void)peer->send_call(in_row(9, "threads"));
  EXPECT_EQ(peer->status(), 1 << 8);
}

}  // namespace
}  // namespace keelback::conformance
