// What no server of ours would say. That outcomes come back as they are: tests/hop.
#include "nodes/hop_text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace keelback::nodes {
namespace {

const Sender kSender{"node-a", "secret"};

ReplyHead head_of(int status, std::vector<std::pair<std::string, std::string>> fields) {
  return {.status = status, .fields = std::move(fields)};
}

// Goal: an answer is an outcome only if it says which one and with which effect.
TEST(HopText, WhatIsNoOutcomeIsNotTakenForOne) {
  const auto kind = [](ReplyHead head, std::string body) {
    return read_reply(head, std::move(body)).kind;
  };
  using enum Answer::Kind;
  const std::pair<std::string, std::string> ok{"keelback-outcome", "ok"};
  const std::pair<std::string, std::string> error{"keelback-outcome", "error"};
  const std::pair<std::string, std::string> done{"keelback-effect", "done"};
  EXPECT_EQ(kind(head_of(200, {ok, done}), "1"), kOutcome);
  EXPECT_EQ(kind(head_of(200, {ok}), "1"), kForeign);
  EXPECT_EQ(kind(head_of(200, {done}), "1"), kForeign);
  EXPECT_EQ(kind(head_of(200, {ok, {"keelback-effect", "perhaps"}}), "1"), kForeign);
  EXPECT_EQ(kind(head_of(200, {{"keelback-outcome", "fine"}, done}), "1"), kForeign);
  for (const char* body : {"", "[]", "{", "\"x\"", "{}", R"({"outcome":1,"effect":2})",
                           R"({"outcome":"error"})", R"({"outcome":"error","effect":"x"})"}) {
    EXPECT_EQ(kind(head_of(500, {error, done}), body), kForeign) << body;
    EXPECT_EQ(kind(head_of(500, {}), body), kForeign) << body;
    EXPECT_EQ(read_last_event("error", body).kind, kForeign) << body;
    EXPECT_EQ(read_last_event("end", body).kind, kForeign) << body;
  }
  EXPECT_EQ(kind(head_of(503, {}), R"({"type":"urn:keelback:http:too_many_connections"})"),
            kRefused);
  EXPECT_EQ(kind(head_of(503, {}), R"({"type":"about:blank"})"), kForeign);
  EXPECT_EQ(kind(head_of(421, {}), "anything"), kNotOwner);
  EXPECT_EQ(read_last_event("end", R"({"outcome":"error","effect":"done"})").kind, kForeign);
  EXPECT_EQ(read_last_event("error", R"({"outcome":"ok","effect":"done"})").kind, kForeign);
  for (const char* type : {"multipart/form-data", "multipart/form-data; boundary=b"}) {
    EXPECT_EQ(kind(head_of(200, {ok, done, {"content-type", type}}), "--a\r\n"), kForeign);
  }
}

// Goal: fields of another type or beyond all bounds are as if they were not there, or cut.
TEST(HopText, SurvivesNonsenseInAProblem) {
  const Answer answer = read_last_event("error", R"({"outcome":"worker_died","effect":"maybe",
    "detail":7,"python":[],"errors":{},"death":{"signal":"x","exit_code":1.5,"oom_suspected":"y",
    "role":"hero"},"attempts":-1,"epoch":1e300,"birth":7,"worker":"x.y","dump_at":"/v1/calls/x/dump",
    "retry_after_ms":9223372036854775807,"reason":null,"status":"x"})");
  ASSERT_EQ(answer.kind, Answer::Kind::kOutcome);
  const Outcome& outcome = answer.outcome;
  EXPECT_EQ(outcome.kind, OutcomeKind::kWorkerDied);
  EXPECT_EQ(outcome.message, "");
  EXPECT_FALSE(outcome.python);
  ASSERT_TRUE(outcome.death);
  EXPECT_FALSE(outcome.death->signal || outcome.death->exit_code || outcome.death->oom_suspected);
  EXPECT_EQ(outcome.death->role, DeathRole::kNone);
  EXPECT_EQ(outcome.epoch, 0U);
  EXPECT_EQ(outcome.birth, 0U);
  EXPECT_EQ(outcome.call, 0U);
  EXPECT_EQ(outcome.retry_after, std::chrono::seconds(1'000'000));
}

// Goal: the deadline is whole milliseconds, never later than asked, never 0.
TEST(HopText, TheDeadlineIsRoundedDown) {
  for (const auto& [deadline, text] : std::vector<std::pair<std::chrono::nanoseconds, const char*>>{
           {std::chrono::microseconds(2999), "2"},
           {std::chrono::milliseconds(7), "7"},
           {std::chrono::nanoseconds(1), "1"},
           {std::chrono::nanoseconds(-5), "1"}}) {
    const RequestText request =
        call_request({.function = "f", .deadline = deadline},
                     {.authority = "node-b", .name = "hop.1", .boundary = "b"}, kSender);
    EXPECT_NE(request.head.find(std::string("\r\nKeelback-Deadline-Ms: ") + text + "\r\n"),
              std::string::npos)
        << request.head;
  }
}

// Goal: a path is one segment whatever the function is called.
TEST(HopText, NamesAreEscaped) {
  const RequestText request = call_request(
      {.function = "a/b c\r\n?"}, {.authority = "b", .name = "n", .boundary = "x"}, kSender);
  EXPECT_TRUE(request.head.starts_with("POST /v1/call/a%2Fb%20c%0D%0A%3F HTTP/1.1\r\n"));
  EXPECT_TRUE(cancel_request("hop.1", "b", kSender).starts_with("DELETE /v1/calls/hop.1 HTTP/1.1"));
}

}  // namespace
}  // namespace keelback::nodes
