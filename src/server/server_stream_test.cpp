// Streams as server-sent events: framing, back-pressure, endings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/sse.h"
#include "support/server_fixture.h"

namespace keelback::testing {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::StartsWith;

class StreamTest : public ServerFixture {
 protected:
  RawClient open(std::string_view function, int receive_buffer = 0, std::string_view headers = {}) {
    RawClient client = RawClient::tcp(port_, receive_buffer);
    client.send(request("POST", fmt::format("/v1/call/{}", function),
                        fmt::format("Accept: text/event-stream\r\n{}", headers)));
    return client;
  }
};

Outcome done() {
  return {.kind = OutcomeKind::kOk, .effect = Effect::kDone, .worker = {1, 2}, .attempts = 1};
}

TEST(Sse, EveryLineOfTheDataIsPrefixed) {
  std::string text;
  server::append_event(text, "item", "a\nb\r\nc\rd");
  EXPECT_EQ(text, "event: item\ndata: a\ndata: b\ndata: c\ndata: d\n\n");
}

// Goal: items in order, then one typed last event; the connection serves on.
TEST_F(StreamTest, ItemsThenEnd) {
  driver_.on("tokens", {.outcome = done(), .items = {"1", "\"two\"", "[3]"}});
  start();
  RawClient client = open("tokens");
  for (int round = 0; round < 2; ++round) {
    const auto response = client.receive();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.header("content-type"), "text/event-stream");
    EXPECT_EQ(response.header("keelback-call"), std::to_string(round + 1));
    EXPECT_THAT(response.body, StartsWith("event: item\ndata: 1\n\nevent: item\ndata: \"two\"\n\n"
                                          "event: item\ndata: [3]\n\nevent: end\ndata: {"));
    const json end = json::parse(response.body.substr(response.body.rfind("data: ") + 6));
    EXPECT_EQ(end["outcome"], "ok");
    EXPECT_EQ(end["items"], 3);
    EXPECT_EQ(end["worker"], "1.2");
    if (round == 0)
      client.send(request("POST", "/v1/call/tokens", "Accept: text/event-stream\r\n"));
  }
}

TEST_F(StreamTest, AFunctionThatDoesNotStreamIsOneItem) {
  driver_.on("plain", {.outcome = {.payload = "42", .attempts = 1}});
  start();
  EXPECT_THAT(open("plain").receive().body, StartsWith("event: item\ndata: 42\n\nevent: end\n"));
}

// Goal: a stream that breaks says how; what never ran is an HTTP error like any other.
TEST_F(StreamTest, ErrorsAreTyped) {
  driver_.on("breaks", {.outcome = {.kind = OutcomeKind::kWorkerDied, .effect = Effect::kMaybe},
                        .items = {"1"}});
  driver_.on("raises", {.outcome = {.kind = OutcomeKind::kError, .effect = Effect::kDone}});
  driver_.on("full", {.outcome = {.kind = OutcomeKind::kOverloaded, .retry_after = 1s}});
  start();
  const std::string broken = open("breaks").receive().body;
  EXPECT_THAT(broken, StartsWith("event: item\ndata: 1\n\nevent: error\ndata: {"));
  EXPECT_EQ(json::parse(broken.substr(broken.rfind("data: ") + 6))["outcome"], "worker_died");
  const auto raised = open("raises").receive();
  EXPECT_EQ(raised.status, 200);
  EXPECT_THAT(raised.body, StartsWith("event: error\n"));
  const auto full = open("full").receive();
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(full.header("retry-after"), "1");
  EXPECT_EQ(json::parse(full.body)["outcome"], "overloaded");
}

// Goal: a reader that does not read holds the generator back: credit is given only for what the
// socket has taken. When it reads again it gets everything, in order.
TEST_F(StreamTest, ASlowReaderHoldsTheStreamBack) {
  std::vector<std::string> items;
  for (int i = 0; i < 400; ++i)
    items.push_back(fmt::format("\"{}{}\"", i, std::string(64 << 10, 'x')));
  driver_.on("flood", {.outcome = done(), .items = items});
  start();
  RawClient client = open("flood", 4096);
  // Settles where the socket is full: emitted stops growing, never 16 beyond what was granted.
  std::uint64_t emitted = 0;
  ASSERT_TRUE(
      driver_.wait([](const auto& seen) { return seen.size() == 1 && seen[0].emitted >= 16; }));
  ASSERT_TRUE(client.receive_until("event: item\n"));
  const auto settled = [&] {
    const auto seen = driver_.seen()[0];
    EXPECT_LE(seen.emitted, seen.granted + 16);
    return std::exchange(emitted, seen.emitted) == seen.emitted;
  };
  int quiet = 0;
  for (int i = 0; i < 500 && quiet < 5; ++i) {
    quiet = settled() ? quiet + 1 : 0;
    driver_.wait([](const auto&) { return false; }, 10ms);
  }
  EXPECT_EQ(quiet, 5);
  EXPECT_LT(emitted, 400U) << "some of 25 MiB must still be with the generator";
  for (int i = 0; i < 400; ++i) {
    ASSERT_TRUE(client.receive_until(fmt::format("data: \"{}x", i))) << i;
  }
  EXPECT_TRUE(client.receive_until("event: end\n"));
}

TEST_F(StreamTest, SilenceIsFilledWithComments) {
  driver_.on("silent", {.outcome = done(), .hold = true});
  auto options = quick();
  options.heartbeat = 20ms;
  start(options);
  RawClient client = open("silent");
  EXPECT_TRUE(client.receive_until(": keep-alive\n\n"));
  EXPECT_TRUE(client.receive_until(": keep-alive\n\n"));
  driver_.finish(CallId{1}, {.kind = OutcomeKind::kTimeout, .effect = Effect::kNone});
  EXPECT_TRUE(client.receive_until("event: error\n")) << "the head is out: an event, not a status";
}

// Goal: a reader that left cancels its stream.
TEST_F(StreamTest, AReaderThatLeavesCancels) {
  driver_.on("long", {.outcome = done(), .items = {"1"}, .hold = true});
  start();
  RawClient client = open("long");
  ASSERT_TRUE(client.receive_until("data: 1\n\n"));
  client.close();
  EXPECT_TRUE(driver_.wait([](const auto& seen) { return seen[0].cancelled; }));
}

// Goal: under `stateless` a session's stream is not cancelled, so it must run to its end unread.
TEST_F(StreamTest, ASessionsStreamRunsToItsEndUnread) {
  std::vector<std::string> items(100, "\"" + std::string(256 << 10, 'x') + "\"");
  driver_.on("long", {.outcome = done(), .items = items});
  start();
  RawClient client = open("long", 4096, "Keelback-Session: ann\r\n");
  ASSERT_TRUE(client.receive_until("event: item\n"));
  client.reset();
  EXPECT_TRUE(driver_.wait([](const auto& seen) { return seen[0].done; }));
  EXPECT_FALSE(driver_.seen()[0].cancelled);
  EXPECT_EQ(driver_.seen()[0].emitted, 100U);
}

TEST_F(StreamTest, AReaderThatStallsForTooLongIsLeft) {
  std::vector<std::string> items(400, "\"" + std::string(64 << 10, 'x') + "\"");
  driver_.on("flood", {.outcome = done(), .items = items});
  auto options = quick();
  options.stream_stall_max = 100ms;
  start(options);
  RawClient client = open("flood", 4096);
  EXPECT_TRUE(driver_.wait([](const auto& seen) { return !seen.empty() && seen[0].cancelled; }));
}

TEST_F(StreamTest, Http10GetsNoChunks) {
  driver_.on("tokens", {.outcome = done(), .items = {"1"}});
  start();
  RawClient client = connect();
  client.send("POST /v1/call/tokens HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n");
  const auto response = client.receive();
  EXPECT_EQ(response.header("transfer-encoding"), "");
  EXPECT_THAT(response.body, StartsWith("event: item\ndata: 1\n\nevent: end\n"));
}

}  // namespace
}  // namespace keelback::testing
