// Functions that clients provide to Python code over HTTP. The scripted driver asks as Python code
// does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "support/server_fixture.h"

namespace keelback::testing {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ProvidersTest : public ServerFixture {
 protected:
  // A client that provides these names, once the server has said so.
  RawClient provide(std::string_view names, int receive_buffer = 0) {
    RawClient client = RawClient::tcp(port_, receive_buffer);
    client.send(request("GET", fmt::format("/v1/providers?names={}", names)));
    EXPECT_TRUE(client.receive_until(": keep-alive\n\n"));
    return client;
  }
  host::HostRequest asked(std::string name, std::string arguments = "[]") {
    return {.name = std::move(name),
            .arguments = std::move(arguments),
            .call = CallId{17},
            .session = "ann",
            .deadline = driver_.now() + 1h,
            .traceparent = {}};
  }
  // The data of the next event of this name.
  static json event(RawClient& client, std::string_view name) {
    if (!client.receive_until(fmt::format("event: {}\ndata: ", name))) return nullptr;
    return json::parse(client.receive_until("\n\n").value_or("null"), nullptr, false);
  }
  RawResponse answer(std::uint64_t id, std::string_view body,
                     std::string_view type = "application/json") {
    RawClient client = connect();
    client.send(
        fmt::format("POST /v1/providers/{} HTTP/1.1\r\nHost: localhost\r\n"
                    "Content-Type: {}\r\nContent-Length: {}\r\n\r\n{}",
                    id, type, body.size(), body));
    return client.receive();
  }
  static std::string problem(const RawResponse& response) {
    return json::parse(response.body)["type"];
  }
};

// Goal: what Python code asks reaches the client as an event, and what the client posts reaches the
// Python code.
TEST_F(ProvidersTest, ARequestIsAskedAndAnswered) {
  start();
  RawClient client = connect();
  client.send(request("GET", "/v1/providers?names=lookup,charge"));
  const auto head = client.receive_until("\r\n\r\n");
  ASSERT_TRUE(head);
  EXPECT_THAT(*head, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(*head, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_THAT(*head, HasSubstr("Cache-Control: no-store\r\n"));
  EXPECT_THAT(*head, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_TRUE(driver_.wait_provided("charge"));

  const std::uint64_t id = driver_.ask(asked("lookup", R"({"key": [1, "a"]})"));
  ASSERT_NE(id, 0U);
  const json event_data = event(client, "request");
  EXPECT_EQ(event_data["id"], id);
  EXPECT_EQ(event_data["name"], "lookup");
  EXPECT_EQ(event_data["arguments"], json::parse(R"({"key": [1, "a"]})")) << "itself, not a text";
  EXPECT_EQ(event_data["call"], 17);
  EXPECT_EQ(event_data["session"], "ann");
  EXPECT_GT(event_data["deadline_ms"], 3'500'000);
  EXPECT_LE(event_data["deadline_ms"], 3'600'000) << "what is left, not when it is";
  const auto response = answer(id, R"({"price": 3})");
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.body, "");
  const auto reply = driver_.reply(id);
  ASSERT_TRUE(reply);
  EXPECT_TRUE(reply->ok);
  EXPECT_EQ(reply->result, R"({"price": 3})");

  const std::uint64_t second = driver_.ask(asked("charge"));
  EXPECT_EQ(event(client, "request")["id"], second) << "the stream goes on";
  EXPECT_EQ(answer(second, R"({"title": "No card", "detail": "it has expired"})",
                   "application/problem+json")
                .status,
            204);
  EXPECT_FALSE(driver_.reply(second)->ok);
  EXPECT_EQ(driver_.reply(second)->error_type, "No card");
  EXPECT_EQ(driver_.reply(second)->error_message, "it has expired");
}

// Goal: one answer counts. An answer to what nobody waits for is told apart from one that is wrong
// in itself.
TEST_F(ProvidersTest, LateAnswersAreConflicts) {
  start();
  RawClient client = provide("f");
  const std::uint64_t id = driver_.ask(asked("f"));
  ASSERT_EQ(event(client, "request")["id"], id);
  EXPECT_EQ(answer(id, "1").status, 204);
  const auto again = answer(id, "2");
  EXPECT_EQ(again.status, 409);
  EXPECT_EQ(again.header("content-type"), "application/problem+json");
  EXPECT_EQ(problem(again), "urn:keelback:http:nobody_waits");
  EXPECT_EQ(driver_.reply(id)->result, "1");
  EXPECT_EQ(answer(id + 1, "1").status, 409) << "never asked";
  EXPECT_EQ(ask("POST", "/v1/providers/x", {}, "1").status, 404);
  EXPECT_EQ(ask("POST", "/v1/providers/-1", {}, "1").status, 404);
}

// Goal: when nobody waits any more, the client hears it once, and its answer is late.
TEST_F(ProvidersTest, ACancelIsTold) {
  start();
  RawClient client = provide("f");
  const std::uint64_t id = driver_.ask(asked("f"));
  ASSERT_EQ(event(client, "request")["id"], id);
  driver_.cancel_ask(id);
  EXPECT_EQ(event(client, "cancel"), json({{"id", id}}));
  EXPECT_EQ(answer(id, "1").status, 409);
  const std::uint64_t next = driver_.ask(asked("f"));
  const auto between = client.receive_until("event: request\n");
  ASSERT_TRUE(between);
  EXPECT_EQ(between->find("cancel"), std::string::npos) << *between;
  EXPECT_EQ(answer(next, "1").status, 204);
  driver_.cancel_ask(next);  // too late: it was answered
  const std::uint64_t last = driver_.ask(asked("f"));
  const auto after = client.receive_until("event: request\n");
  ASSERT_TRUE(after);
  EXPECT_EQ(after->find("cancel"), std::string::npos) << *after;
  EXPECT_EQ(answer(last, "1").status, 204);
}

// Goal: requests and cancels come in their order, whichever threads they come from.
TEST_F(ProvidersTest, RequestsFromManyThreadsComeInOrder) {
  start();
  RawClient client = provide("f");
  constexpr int kEach = 50;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) driver_.cancel_ask(driver_.ask(asked("f")));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::uint64_t> open;
  int cancelled = 0;
  while (cancelled < 4 * kEach) {
    const auto line = client.receive_until("\ndata: ");
    ASSERT_TRUE(line);
    const json data = json::parse(*client.receive_until("\n\n"));
    if (line->find("event: request") != std::string::npos) {
      EXPECT_TRUE(open.insert(data["id"].get<std::uint64_t>()).second);
    } else {
      EXPECT_EQ(open.erase(data["id"].get<std::uint64_t>()), 1U) << "a cancel before its request";
      ++cancelled;
    }
  }
  EXPECT_TRUE(open.empty());
}

// Goal: the connection holds the names. When it ends, whoever waits hears so, and a late answer is
// none.
TEST_F(ProvidersTest, AClientThatLeavesProvidesNoMore) {
  start();
  RawClient client = provide("f,g");
  RawClient other = provide("g");
  const std::uint64_t id = driver_.ask(asked("f"));
  ASSERT_EQ(event(client, "request")["id"], id);
  client.close();
  const auto reply = driver_.reply(id);
  ASSERT_TRUE(reply);
  EXPECT_FALSE(reply->ok);
  EXPECT_EQ(reply->error_message, "host_gone");
  EXPECT_TRUE(driver_.wait_provided("f", false));
  EXPECT_EQ(answer(id, "1").status, 409);
  const std::uint64_t next = driver_.ask(asked("g"));
  EXPECT_EQ(event(other, "request")["id"], next) << "the other one provides on";
  EXPECT_EQ(driver_.ask(asked("f")), 0U);
  RawClient back = provide("f");
  const std::uint64_t last = driver_.ask(asked("f"));
  EXPECT_EQ(event(back, "request")["id"], last);
  EXPECT_EQ(answer(last, "1").status, 204);
}

// Goal: any client that may operate the daemon answers; what another kind of provider was asked is
// not theirs.
TEST_F(ProvidersTest, RequestsOfOtherProvidersAreNotTheirs) {
  struct Silent final : host::Provider {
    void asked(host::HostRequest) override {}
    void cancelled(std::uint64_t) override {}
  };
  start();
  const auto silent = driver_.provide({"inside"}, std::make_shared<Silent>());
  const std::uint64_t id = driver_.ask(asked("inside"));
  EXPECT_EQ(answer(id, "1").status, 409);
  EXPECT_TRUE(driver_.answer(id, {})) << "it still waits";
  driver_.withdraw(silent);
}

TEST_F(ProvidersTest, SilenceIsFilledWithComments) {
  auto options = quick();
  options.heartbeat = 20ms;
  start(options);
  RawClient client = provide("f");
  EXPECT_TRUE(client.receive_until(": keep-alive\n\n"));
  EXPECT_TRUE(client.receive_until(": keep-alive\n\n"));
}

TEST_F(ProvidersTest, NamesAreChecked) {
  start();
  for (const char* query : {"", "?names=", "?names=a,a", "?name=a"}) {
    const auto response = ask("GET", fmt::format("/v1/providers{}", query));
    EXPECT_EQ(response.status, 400) << query;
    EXPECT_EQ(problem(response), "urn:keelback:http:bad_query") << query;
  }
  const auto head = ask("HEAD", "/v1/providers?names=f");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("content-type"), "text/event-stream");
  EXPECT_EQ(driver_.ask(asked("f")), 0U) << "a look at the head provides nothing";
  EXPECT_EQ(ask("POST", "/v1/providers", {}, "1").status, 405);
  EXPECT_EQ(ask("GET", "/v1/providers/1").status, 405);
}

// Goal: an answer that cannot be read costs its client nothing but another try.
TEST_F(ProvidersTest, AnswersAreChecked) {
  config_.value.calls.payload_max = {100};
  start();
  RawClient client = provide("f");
  const std::uint64_t id = driver_.ask(asked("f"));
  ASSERT_EQ(event(client, "request")["id"], id);
  EXPECT_EQ(answer(id, "NaN").status, 400);
  EXPECT_EQ(answer(id, "").status, 400);
  EXPECT_EQ(answer(id, "{}", "application/problem+json").status, 400);
  EXPECT_EQ(answer(id, "1", "text/plain").status, 415);
  EXPECT_EQ(answer(id, "\"" + std::string(99, 'x') + "\"").status, 413);
  RawClient chunks = connect();
  chunks.send(
      fmt::format("POST /v1/providers/{} HTTP/1.1\r\nHost: localhost\r\n"
                  "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "80\r\n{}\r\n0\r\n\r\n",
                  id, std::string(128, ' ')));
  EXPECT_EQ(chunks.receive().status, 413);
  EXPECT_EQ(answer(id, "\"" + std::string(98, 'x') + "\"").status, 204) << "payload_max itself";
}

// Goal: a worker may send any bytes. They do not get into a client's stream.
TEST_F(ProvidersTest, ArgumentsThatAreNotJsonAreNotAsked) {
  start();
  RawClient client = provide("f");
  const std::uint64_t bad = driver_.ask(asked("f", "[1\n\nevent: cancel\ndata: {}"));
  EXPECT_THAT(driver_.reply(bad)->error_message, HasSubstr("not JSON"));
  const std::uint64_t good = driver_.ask(asked("f"));
  EXPECT_EQ(event(client, "request")["id"], good);
}

// Goal: a client that does not read takes a bounded memory, and then counts as gone.
TEST_F(ProvidersTest, AClientThatDoesNotReadIsLeft) {
  auto options = quick();
  options.provider_unsent_max = 1 << 20;
  start(options);
  RawClient client = provide("f", 4096);
  const std::string large = "[\"" + std::string(256 << 10, 'x') + "\"]";
  std::vector<std::uint64_t> ids;
  while (ids.size() < 400) {  // 100 MiB: more than any socket takes
    const std::uint64_t id = driver_.ask(asked("f", large));
    if (id == 0) break;
    ids.push_back(id);
  }
  ASSERT_TRUE(driver_.wait_provided("f", false));
  for (const std::uint64_t id : ids) EXPECT_EQ(driver_.reply(id)->error_message, "host_gone");
}

// Goal: a client that reads is asked whatever Python code asks, in one piece.
TEST_F(ProvidersTest, OneLargeRequestIsNotTooMuch) {
  auto options = quick();
  options.provider_unsent_max = 1 << 10;
  start(options);
  RawClient client = provide("f");
  const std::string large = "[\"" + std::string(1 << 20, 'x') + "\"]";
  const std::uint64_t id = driver_.ask(asked("f", large));
  EXPECT_EQ(event(client, "request")["arguments"][0].get<std::string>().size(), 1U << 20);
  EXPECT_EQ(answer(id, "1").status, 204);
}

// Goal: whoever stops reading in the middle is left after a while, as with other streams.
TEST_F(ProvidersTest, AClientThatStallsForTooLongIsLeft) {
  auto options = quick();
  options.stream_stall_max = 100ms;
  start(options);
  RawClient client = provide("f", 4096);
  const std::uint64_t id = driver_.ask(asked("f", "[\"" + std::string(32 << 20, 'x') + "\"]"));
  EXPECT_EQ(driver_.reply(id)->error_message, "host_gone");
}

// Goal: while the daemon drains, accepted calls still have their functions. When it stops, the
// stream ends in good form, and nobody is left to be asked.
TEST_F(ProvidersTest, ADrainKeepsThemAndAStopEndsThem) {
  start();
  RawClient client = provide("f");
  server_->drain();
  const std::uint64_t id = driver_.ask(asked("f"));
  EXPECT_EQ(event(client, "request")["id"], id);
  const auto response = answer(id, "1");
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.header("connection"), "close");
  RawClient late = provide("g");
  const std::uint64_t open = driver_.ask(asked("f"));
  std::promise<void> stopped;
  server_->stop(10s, [&] { stopped.set_value(); });
  EXPECT_TRUE(client.receive_until(": the server stops\n\n\r\n0\r\n\r\n"));
  EXPECT_TRUE(late.receive_until("\r\n0\r\n\r\n"));
  EXPECT_EQ(driver_.reply(open)->error_message, "host_gone");
  EXPECT_TRUE(driver_.wait_provided("f", false));
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(late.at_end());
  client.close();
  late.close();
  EXPECT_EQ(stopped.get_future().wait_for(10s), std::future_status::ready);
  server_.reset();
}

TEST_F(ProvidersTest, AStopWithoutPatienceEndsThem) {
  start();
  RawClient client = provide("f");
  const std::uint64_t id = driver_.ask(asked("f"));
  stop(0s);
  EXPECT_EQ(driver_.reply(id)->error_message, "host_gone");
  EXPECT_TRUE(driver_.wait_provided("f", false));
}

TEST_F(ProvidersTest, Http10GetsNoChunks) {
  start();
  RawClient client = connect();
  client.send("GET /v1/providers?names=f HTTP/1.0\r\n\r\n");
  const auto head = client.receive_until("\r\n\r\n");
  ASSERT_TRUE(head);
  EXPECT_EQ(head->find("Transfer-Encoding"), std::string::npos);
  EXPECT_THAT(*head, HasSubstr("Connection: close\r\n"));
  const std::uint64_t id = driver_.ask(asked("f"));
  const auto until = client.receive_until("event: request\ndata: ");
  EXPECT_EQ(until, ": keep-alive\n\nevent: request\ndata: ");
  EXPECT_EQ(answer(id, "1").status, 204);
}

// Goal: the token guards both routes. (OperatingRoutesAndUnixSocketsHaveTheirWalls: the listener.)
TEST_F(ProvidersTest, TheTokenGuardsThem) {
  config_.value.server.token = "s3cret";
  start();
  EXPECT_EQ(ask("GET", "/v1/providers?names=f").status, 401);
  EXPECT_EQ(ask("POST", "/v1/providers/1", {}, "1").status, 401);
  EXPECT_EQ(driver_.ask(asked("f")), 0U);
  RawClient client = connect();
  client.send(request("GET", "/v1/providers?names=f", "Authorization: Bearer s3cret\r\n"));
  EXPECT_TRUE(client.receive_until(": keep-alive\n\n"));
  EXPECT_NE(driver_.ask(asked("f")), 0U);
}

// Goal: an operator reads in the log who provided what, from when to when.
TEST_F(ProvidersTest, TheLogSaysWhoProvidesWhat) {
  std::mutex mutex;
  std::vector<std::string> said;
  auto options = quick();
  options.log = [&](LogLevel, const std::string& text) {
    const std::lock_guard lock(mutex);
    said.push_back(text);
  };
  start(options);
  RawClient client = provide("f");
  const std::uint64_t id = driver_.ask(asked("f"));
  EXPECT_EQ(event(client, "request")["id"], id);
  client.close();
  EXPECT_TRUE(driver_.reply(id));
  stop();
  EXPECT_THAT(said, ElementsAre("GET /v1/providers?names=f of 127.0.0.1.",
                                "GET /v1/providers?names=f has ended; open requests: 1."));
}

// Goal: each request is counted once, by its end.
TEST_F(ProvidersTest, MetricsCountNamesAndEnds) {
  start();
  RawClient client = provide("f,g");
  RawClient other = provide("g");
  EXPECT_TRUE(wait_for_metric("keelback_providers 3\n"));
  const std::uint64_t first = driver_.ask(asked("f"));
  const std::uint64_t second = driver_.ask(asked("f"));
  const std::uint64_t third = driver_.ask(asked("f"));
  ASSERT_EQ(event(client, "request")["id"], first);
  ASSERT_EQ(event(client, "request")["id"], second);
  ASSERT_EQ(event(client, "request")["id"], third);
  answer(first, "1");
  answer(second, R"({"title": "no"})", "application/problem+json");
  driver_.cancel_ask(third);
  ASSERT_EQ(event(client, "cancel")["id"], third);
  ASSERT_EQ(answer(third, "1").status, 409);
  const std::uint64_t fourth = driver_.ask(asked("f"));
  ASSERT_EQ(event(client, "request")["id"], fourth);
  client.close();
  EXPECT_TRUE(wait_for_metric("keelback_providers 1\n"));
  for (const char* outcome : {"ok", "error", "cancelled", "host_gone"}) {
    EXPECT_TRUE(
        wait_for_metric(fmt::format("keelback_host_requests_total{{outcome=\"{}\"}} 1\n", outcome)))
        << outcome;
  }
}

// Goal: a host function that calls the pool on a call's behalf names that call.
TEST_F(ProvidersTest, ACallMayNameItsParent) {
  driver_.on("g", {});
  start();
  EXPECT_EQ(ask("POST", "/v1/call/g", "Keelback-Parent: 17\r\n", "[1]").status, 200);
  EXPECT_EQ(driver_.seen()[0].call.parent, 17U);
  const auto wrong = ask("POST", "/v1/call/g", "Keelback-Parent: first\r\n", "[1]");
  EXPECT_EQ(wrong.status, 400);
  EXPECT_THAT(json::parse(wrong.body)["detail"].get<std::string>(), HasSubstr("Keelback-Parent"));
  EXPECT_EQ(driver_.seen().size(), 1U);
}

}  // namespace
}  // namespace keelback::testing
