// Calls that go from one node to another over the real server: what arrives at the other node's
// driver, and what comes back of each outcome.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/reasons.h"
#include "hop/client.h"
#include "support/server_fixture.h"

namespace keelback {
namespace {

using namespace std::chrono_literals;
using nodes::HopResult;
using testing::Client;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class HopServerTest : public testing::ServerFixture {
 protected:
  HopServerTest() {
    config_.value.server.token = "of-clients";
    config_.value.cluster.token = "shared";
    config_.value.cluster.node = "node-b";
  }
  void start_node() {
    start();
    url_ = fmt::format("http://127.0.0.1:{}", port_);
  }
  // The outcome that comes back of one that the other node's driver gives.
  Outcome there_and_back(const Outcome& outcome) {
    driver_.on("f", {.outcome = outcome});
    const HopResult result = client_.ask(url_, {{.function = "f", .session = "ann"}});
    EXPECT_EQ(result.end, HopResult::End::kOutcome) << result.why;
    return result.outcome;
  }

  Client client_;
  std::string url_;
};

std::string bytes_of(const Attachment& attachment) { return std::string(attachment.data.view()); }

void expect_equal(const Attachments& got, const Attachments& sent) {
  ASSERT_EQ(got.size(), sent.size());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(got[i].name, sent[i].name);
    EXPECT_EQ(bytes_of(got[i]), bytes_of(sent[i])) << sent[i].name;
    EXPECT_EQ(got[i].dtype, sent[i].dtype) << sent[i].name;
    EXPECT_EQ(got[i].shape, sent[i].shape) << sent[i].name;
    EXPECT_EQ(got[i].content_type, sent[i].content_type) << sent[i].name;
    EXPECT_EQ(got[i].filename, sent[i].filename) << sent[i].name;
  }
}

void expect_equal(const Outcome& got, const Outcome& sent) {
  EXPECT_EQ(got.kind, sent.kind);
  EXPECT_EQ(got.effect, sent.effect);
  EXPECT_EQ(got.payload, sent.payload);
  expect_equal(got.attachments, sent.attachments);
  EXPECT_EQ(got.message, sent.message);
  ASSERT_EQ(got.python.has_value(), sent.python.has_value());
  if (sent.python) {
    EXPECT_EQ(got.python->type, sent.python->type);
    EXPECT_EQ(got.python->message, sent.python->message);
    EXPECT_EQ(got.python->traceback, sent.python->traceback);
    EXPECT_EQ(got.python->errors, sent.python->errors);
  }
  ASSERT_EQ(got.death.has_value(), sent.death.has_value());
  if (sent.death) {
    EXPECT_EQ(got.death->cause, sent.death->cause);
    EXPECT_EQ(got.death->signal, sent.death->signal);
    EXPECT_EQ(got.death->exit_code, sent.death->exit_code);
    EXPECT_EQ(got.death->oom_suspected, sent.death->oom_suspected);
    EXPECT_EQ(got.death->step, sent.death->step);
    EXPECT_EQ(got.death->detail, sent.death->detail);
    EXPECT_EQ(got.death->stderr_tail, sent.death->stderr_tail);
    EXPECT_EQ(got.death->role, sent.death->role);
  }
  EXPECT_EQ(got.dump, sent.dump);
  EXPECT_EQ(got.worker, sent.worker);
  EXPECT_EQ(got.attempts, sent.attempts);
  EXPECT_EQ(got.birth, sent.birth);
  EXPECT_EQ(got.epoch, sent.epoch);
  EXPECT_EQ(got.queued, sent.queued);
  EXPECT_EQ(got.ran, sent.ran);
  EXPECT_EQ(got.retry_after, sent.retry_after);
  EXPECT_EQ(got.key_reused, sent.key_reused);
  EXPECT_EQ(got.reason, sent.reason);
}

Outcome full(OutcomeKind kind, Effect effect) {
  return {.kind = kind,
          .effect = effect,
          .message = kind == OutcomeKind::kOk ? "" : "what happened: \"ü\"\n",
          .worker = {3, 17},
          .attempts = 2,
          .birth = 0xfedcba9876543210,
          .epoch = 4,
          .queued = 1234us,
          .ran = 5678901us};
}

// Goal: every kind, with every effect, comes back as it was.
TEST_F(HopServerTest, EveryKindOfOutcomeComesBack) {
  start_node();
  for (int i = 0; i < kOutcomeKinds; ++i) {
    for (const Effect effect : {Effect::kNone, Effect::kMaybe, Effect::kDone}) {
      SCOPED_TRACE(fmt::format("{} {}", i, static_cast<int>(effect)));
      Outcome outcome = full(static_cast<OutcomeKind>(i), effect);
      if (outcome.ok()) outcome.payload = R"({"a":[1,"ü"]})";
      expect_equal(there_and_back(outcome), outcome);
    }
  }
}

// Goal: every field that an outcome can have beside these.
TEST_F(HopServerTest, EveryFieldOfAnOutcomeComesBack) {
  start_node();
  Outcome error = full(OutcomeKind::kError, Effect::kDone);
  error.python = {.type = "ValueError", .message = "no \"é\"", .traceback = "Traceback…\n  f()\n"};
  expect_equal(there_and_back(error), error);

  Outcome misfit = full(OutcomeKind::kBadRequest, Effect::kNone);
  misfit.python = {.type = "TypeError",
                   .message = "m",
                   .errors = R"([{"loc":["a",0],"msg":"is no number","type":"int_type"}])"};
  expect_equal(there_and_back(misfit), misfit);

  Outcome reused = full(OutcomeKind::kBadRequest, Effect::kNone);
  reused.key_reused = true;
  expect_equal(there_and_back(reused), reused);

  Outcome died = full(OutcomeKind::kWorkerDied, Effect::kMaybe);
  died.death = {.cause = "signal",
                .signal = 9,
                .oom_suspected = true,
                .step = "hello",
                .detail = "d",
                .stderr_tail = "a\nb\n",
                .role = DeathRole::kSuspect};
  expect_equal(there_and_back(died), died);
  died.death = {.cause = "exit", .exit_code = 3};
  expect_equal(there_and_back(died), died);

  Outcome late = full(OutcomeKind::kTimeout, Effect::kMaybe);
  late.dump = "Thread 1\n";
  expect_equal(there_and_back(late), late);
  late.dump.clear();
  late.call = 77;  // its stacks come later, under this number
  EXPECT_EQ(there_and_back(late).call, 77U);

  Outcome busy = full(OutcomeKind::kOverloaded, Effect::kNone);
  busy.retry_after = 1500ms;
  busy.reason = "would_deadlock";
  expect_equal(there_and_back(busy), busy);

  Outcome bare{.kind = OutcomeKind::kShuttingDown};
  expect_equal(there_and_back(bare), bare);
}

// Goal: attachments go and come as they are: no type stays no type, text stays a field's text.
TEST_F(HopServerTest, AttachmentsGoAndComeAsTheyAre) {
  start_node();
  const auto data = [](std::string text) { return Buffer(std::move(text)); };
  const Attachments attachments = {
      {.name = "plain", .data = data(std::string("\r\n--x\0\xff", 7))},
      {.name = "field", .data = data("7"), .content_type = "text/plain"},
      {.name = "file", .data = data("png"), .content_type = "image/png", .filename = "a \"ü\".png"},
      {.name = "array", .data = data(std::string(24, '\1')), .dtype = "float32", .shape = {2, 3}},
      {.name = "scalar", .data = data(std::string(8, '\2')), .dtype = "<i8"},
      {.name = "empty", .data = data(""), .dtype = "float64", .shape = {0, 5}},
      {.name = "result", .data = data("r"), .content_type = "multipart/form-data"},
  };
  Outcome outcome = full(OutcomeKind::kOk, Effect::kDone);
  outcome.payload = R"({"$attachment":"plain"})";
  outcome.attachments = attachments;
  driver_.on("f", {.outcome = outcome});
  Call call{.function = "f", .payload = R"({"x":1})", .session = "ann", .attachments = attachments};
  const HopResult result = client_.ask(url_, {call});
  ASSERT_EQ(result.end, HopResult::End::kOutcome) << result.why;
  expect_equal(result.outcome, outcome);
  const auto seen = driver_.seen();
  EXPECT_EQ(seen[0].call.payload, call.payload);
  expect_equal(seen[0].call.attachments, attachments);

  outcome.attachments = {attachments[6]};  // its type is that of the form itself
  expect_equal(there_and_back(outcome), outcome);
}

// Goal: the other node's driver gets the call that was sent, from whom, and no parent: that number
// means something else there.
TEST_F(HopServerTest, TheCallArrivesAsItIs) {
  start_node();
  driver_.on("größe/%", {});
  const Call sent{.function = "größe/%",
                  .payload = R"({"name":"Ada"})",
                  .session = "ann é",
                  .affinity = Affinity::kStrictFailFast,
                  .open = SessionOpen::kExisting,
                  .expect_epoch = Fence{.birth = 0xff, .epoch = 3},
                  .deadline = 60s,
                  .priority = Priority::kLow,
                  .idempotent = true,
                  .idempotency_key = "key 1",
                  .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                  .batch_key = "b",
                  .parent = 12};
  EXPECT_EQ(client_.ask(url_, {sent}).end, HopResult::End::kOutcome);
  const auto seen = driver_.seen();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].sender, "node-a");
  const Call& got = seen[0].call;
  EXPECT_EQ(got.function, sent.function);
  EXPECT_EQ(got.payload, sent.payload);
  EXPECT_EQ(got.session, sent.session);
  EXPECT_EQ(got.affinity, sent.affinity);
  EXPECT_EQ(got.open, sent.open);
  EXPECT_EQ(got.expect_epoch->birth, 0xffU);
  EXPECT_EQ(got.expect_epoch->epoch, 3U);
  EXPECT_LE(*got.deadline, 60s);
  EXPECT_GT(*got.deadline, 30s);
  EXPECT_EQ(got.priority, sent.priority);
  EXPECT_TRUE(got.idempotent);
  EXPECT_EQ(got.idempotency_key, sent.idempotency_key);
  EXPECT_EQ(got.traceparent, sent.traceparent);
  EXPECT_EQ(got.batch_key, sent.batch_key);
  EXPECT_EQ(got.parent, 0U);

  EXPECT_EQ(client_.ask(url_, {{.function = "größe/%"}}).end, HopResult::End::kOutcome);
  const Call plain = driver_.seen()[1].call;
  EXPECT_EQ(plain.session, "");
  EXPECT_EQ(plain.open, SessionOpen::kAny);
  EXPECT_FALSE(plain.affinity || plain.expect_epoch || plain.deadline || plain.idempotent);
  EXPECT_EQ(plain.priority, Priority::kNormal);
}

TEST_F(HopServerTest, ANodeThatIsNotTheOwnerSaysSo) {
  driver_.on("f", {.outcome = {.kind = OutcomeKind::kNotReady, .reason = std::string(kNotOwner)}});
  start_node();
  EXPECT_EQ(client_.ask(url_, {{.function = "f"}}).end, HopResult::End::kNotOwner);
  EXPECT_EQ(client_.ask(url_, {.call = {.function = "f"}, .stream = true}).end,
            HopResult::End::kNotOwner);
}

// Goal: a node with another token refuses, and the caller hears why; nothing was done.
TEST_F(HopServerTest, AnotherTokenIsNotReadyWithTheReason) {
  driver_.on("f", {});
  start_node();
  Client stranger({}, "another");
  const HopResult result = stranger.ask(url_, {{.function = "f"}});
  EXPECT_EQ(result.end, HopResult::End::kOutcome);
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kNotReady);
  EXPECT_EQ(result.outcome.effect, Effect::kNone);
  EXPECT_THAT(result.outcome.message,
              HasSubstr("it was refused with 401: the signature of Keelback-Hop is not made with "
                        "this cluster.token."));
  EXPECT_TRUE(driver_.seen().empty());
}

// Goal: a stream's items, its last outcome, and a function that does not stream.
TEST_F(HopServerTest, StreamsComeBack) {
  start_node();
  std::vector<std::string> items;
  for (int i = 0; i < 100; ++i) items.push_back(fmt::format("{}", i));
  Outcome end = full(OutcomeKind::kOk, Effect::kDone);
  driver_.on("items", {.outcome = end, .items = items});
  const auto hop = client_.send(url_, {.call = {.function = "items"}, .stream = true});
  ASSERT_TRUE(client_.wait_items(hop, 16));
  client_.grant(hop, 100);
  const auto result = client_.result(hop);
  ASSERT_TRUE(result);
  EXPECT_EQ(client_.items(hop), items);
  expect_equal(result->outcome, end);

  Outcome broken = full(OutcomeKind::kError, Effect::kDone);
  broken.python = {.type = "ValueError", .message = "m", .traceback = "t"};
  driver_.on("breaks", {.outcome = broken, .items = {"1"}});
  const auto breaks = client_.send(url_, {.call = {.function = "breaks"}, .stream = true});
  const auto error = client_.result(breaks);
  ASSERT_TRUE(error);
  EXPECT_THAT(client_.items(breaks), ElementsAre("1"));
  broken.queued = broken.ran = {};  // a stream's problem has no times
  expect_equal(error->outcome, broken);

  Outcome plain = full(OutcomeKind::kOk, Effect::kDone);
  plain.payload = "[7]";
  driver_.on("plain", {.outcome = plain});
  const auto no_stream = client_.send(url_, {.call = {.function = "plain"}, .stream = true});
  const auto whole = client_.result(no_stream);
  ASSERT_TRUE(whole);
  EXPECT_TRUE(client_.items(no_stream).empty());
  expect_equal(whole->outcome, plain);

  Outcome refused{.kind = OutcomeKind::kOverloaded, .message = "full"};
  driver_.on("refused", {.outcome = refused});
  const HopResult at_once = client_.ask(url_, {.call = {.function = "refused"}, .stream = true});
  expect_equal(at_once.outcome, refused);
}

// Goal: a cancel reaches the call at the other node, and its outcome comes back.
TEST_F(HopServerTest, ACancelReachesTheOtherNode) {
  driver_.on("held", {.hold = true});
  start_node();
  const auto hop = client_.send(url_, {{.function = "held", .session = "ann"}});
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  client_.cancel(hop);
  const auto result = client_.result(hop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->outcome.kind, OutcomeKind::kCancelled);
  EXPECT_EQ(result->outcome.effect, Effect::kMaybe);
}

// Goal: a node that stops between two calls costs nothing; the next call finds that out.
TEST_F(HopServerTest, ANodeThatStopsIsNotConnected) {
  driver_.on("f", {});
  start_node();
  EXPECT_EQ(client_.ask(url_, {{.function = "f"}}).end, HopResult::End::kOutcome);
  stop();
  EXPECT_EQ(client_.ask(url_, {{.function = "f"}}).end, HopResult::End::kNotConnected);
}

}  // namespace
}  // namespace keelback
