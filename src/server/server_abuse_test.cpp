// What the network and bad clients do: cuts, floods, slowness, disappearance.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "support/server_fixture.h"

namespace keelback::testing {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

using AbuseTest = ServerFixture;

// Goal: wherever the network cuts a request, it is one request.
TEST_F(AbuseTest, ARequestMayComeInAnyTwoPieces) {
  driver_.on("f", {});
  start();
  const std::string text = request("POST", "/v1/call/f", "Keelback-Session: ann\r\n", "[1,2,3]");
  RawClient client = connect();
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    client.send(std::string_view(text).substr(0, cut));
    // The server has seen the first piece before the second is sent: it answers another client.
    driver_.on_loop([] {});
    client.send(std::string_view(text).substr(cut));
    const auto response = client.receive();
    ASSERT_EQ(response.status, 200) << cut;
    ASSERT_EQ(response.body, "[1,2,3]") << cut;
  }
  EXPECT_EQ(driver_.seen().size(), text.size() - 1);
}

TEST_F(AbuseTest, ByteByByte) {
  driver_.on("f", {});
  start();
  RawClient client = connect();
  for (const char byte : request("POST", "/v1/call/f", {}, "[1]")) {
    ASSERT_TRUE(client.send({&byte, 1}));
    driver_.on_loop([] {});
  }
  EXPECT_EQ(client.receive().body, "[1]");
}

// Goal: pipelined requests are answered in order, one at a time, also when the client has already
// closed its sending side, and also when they are far more than the buffer holds.
TEST_F(AbuseTest, PipelinedRequestsAreAnsweredInOrder) {
  driver_.on("f", {});
  start();
  RawClient client = connect();
  std::string all;
  constexpr int kMany = 2000;
  for (int i = 0; i < kMany; ++i) {
    all += (i % 3 == 0 ? "\r\n" : "") + request("POST", "/v1/call/f", {}, fmt::format("[{}]", i));
    if (i % 5 == 0) all += request("GET", "/livez");
  }
  std::thread sender([&] {
    client.send(all);
    client.half_close();
  });
  for (int i = 0; i < kMany; ++i) {
    ASSERT_EQ(client.receive().body, fmt::format("[{}]", i));
    if (i % 5 == 0) {
      ASSERT_EQ(client.receive().body, R"({"live":true})");
    }
  }
  sender.join();
  EXPECT_TRUE(client.at_end());
}

// Goal: a body too large is refused at its announcement, and the refusal can be read.
TEST_F(AbuseTest, AGibibyteIsRefusedAtOnce) {
  start();
  for (const char* expect : {"", "Expect: 100-continue\r\n"}) {
    RawClient client = connect();
    client.send(
        fmt::format("POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\n{}"
                    "Content-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n",
                    expect));
    client.send(std::string(100'000, 'x'));
    const auto response = client.receive();
    EXPECT_EQ(response.status, 413);
    EXPECT_EQ(json::parse(response.body)["outcome"], "too_large");
    EXPECT_EQ(response.header("connection"), "close");
    EXPECT_EQ(response.header("keelback-effect"), "none");
    client.half_close();
    EXPECT_TRUE(client.at_end());
  }
  EXPECT_TRUE(driver_.seen().empty());
}

TEST_F(AbuseTest, ChunkedBodiesMeetTheSameLimit) {
  driver_.on("f", {});
  config_.value.calls.payload_max = {10};
  start();
  const std::string head =
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  RawClient client = connect();
  client.send(head + "5\r\n[1,2,\r\n5\r\n3,45]\r\n0\r\n\r\n");
  EXPECT_EQ(client.receive().body, "[1,2,3,45]");
  client.send(head + "5\r\n[1,2,\r\n6\r\n3,456]\r\n0\r\n\r\n");
  const auto response = client.receive();
  EXPECT_EQ(response.status, 413);
  EXPECT_EQ(json::parse(response.body)["outcome"], "too_large");
}

// Goal: a chunk that is announced larger than any body may be is refused at its announcement,
// whoever sends it and whatever is asked for.
TEST_F(AbuseTest, AChunkThatIsTooLargeIsNotWaitedFor) {
  start();
  for (const char* route :
       {"POST /v1/call/f", "PATCH /v1/config", "POST /v1/drain", "GET /nothere"}) {
    for (const char* size : {"8000000000000000", "7fffffffffffffff", "ffffffffffffffff"}) {
      RawClient client = connect();
      client.send(
          fmt::format("{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      "Transfer-Encoding: chunked\r\n\r\n{}\r\n",
                      route, size));
      const auto response = client.receive();  // the default wait for a body is 30 s
      EXPECT_TRUE(response.status == 413 || response.status == 404) << response.status << route;
    }
  }
  EXPECT_TRUE(driver_.seen().empty());
}

// Goal: who sends only beginnings of requests, however many, keeps nobody out.
TEST_F(AbuseTest, UnfinishedHeadersGiveWay) {
  driver_.on("f", {});
  auto options = quick();
  options.connections_max = 4;
  start(options);
  std::vector<RawClient> slow;
  for (int i = 0; i < 12; ++i) {
    slow.push_back(connect());
    slow.back().send("GET /livez HTTP/1.1\r\nHos");
    EXPECT_EQ(ask("POST", "/v1/call/f", {}, "[1]").body, "[1]") << i;
  }
}

TEST_F(AbuseTest, ContinueIsSentOnlyWhereTheBodyIsWanted) {
  driver_.on("f", {});
  start();
  RawClient client = connect();
  client.send(
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(client.receive_until("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send("[1]");
  EXPECT_EQ(client.receive().body, "[1]");
  client.send(
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
      "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.receive().status, 415);
  EXPECT_EQ(ask("POST", "/v1/call/f", "Expect: miracles\r\n").status, 417);
}

// Goal: bytes that are not HTTP get one answer and the door, and harm nobody.
TEST_F(AbuseTest, GarbageIsShownTheDoor) {
  start();
  const std::string cases[] = {
      "\x16\x03\x01\x02garbage\r\n\r\n",
      "GET /livez\r\n\r\n",
      "GET /livez HTTP/9.9\r\n\r\n",
      "GET /livez HTTP/1.1\nHost: localhost\n\n",
      std::string("GET /\0 HTTP/1.1\r\n\r\n", 19),
      "GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      "GET /livez HTTP/1.1\r\n\r\n",
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: "
      "chunked\r\n\r\n",
      "GET /" + std::string(20'000, 'a') + " HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nX: " + std::string(20'000, 'a') + "\r\n\r\n",
  };
  for (const std::string& text : cases) {
    RawClient client = connect();
    client.send(text);
    client.half_close();
    const auto response = client.receive();
    EXPECT_GE(response.status, 400) << text.substr(0, 40);
    EXPECT_LE(response.status, 505) << text.substr(0, 40);
    EXPECT_EQ(response.header("content-type"), "application/problem+json");
    EXPECT_TRUE(client.at_end()) << text.substr(0, 40);
  }
  EXPECT_EQ(server_->http_rejected(), std::size(cases));
  EXPECT_EQ(ask("GET", "/livez").status, 200);
}

// Goal: slowness costs the slow one its connection, in each phase.
TEST_F(AbuseTest, SlowClientsAreTimedOut) {
  driver_.on("f", {});
  auto options = quick();
  options.header_timeout = options.transfer_timeout = options.idle_timeout = 60ms;
  start(options);
  RawClient header = connect();
  header.send("GET /livez HTTP/1.1\r\nHos");
  EXPECT_EQ(header.receive().status, 408);
  RawClient body = connect();
  body.send(
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 10\r\n\r\n[1");
  EXPECT_EQ(body.receive().status, 408);
  RawClient idle = connect();
  EXPECT_TRUE(idle.at_end()) << "no request at all: no answer";
  EXPECT_TRUE(driver_.seen().empty());
}

TEST_F(AbuseTest, AReaderThatDoesNotReadItsReplyIsCut) {
  driver_.on("large", {.outcome = {.payload = std::string(32 << 20, '1')}});
  auto options = quick();
  options.transfer_timeout = 50ms;
  options.rate_min = 1 << 30;
  start(options);
  RawClient client = RawClient::tcp(port_, 4096);
  client.send(request("POST", "/v1/call/large"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return !seen.empty() && seen[0].done; }));
  EXPECT_TRUE(wait_for_metric("keelback_http_connections 1\n")) << "only the asking one is left";
}

TEST_F(AbuseTest, LargeRepliesArriveWhole) {
  std::string large = "\"" + std::string(5 << 20, 'y') + "\"";
  driver_.on("large", {.outcome = {.payload = large}});
  start();
  RawClient client = connect();
  for (int i = 0; i < 2; ++i) {
    client.send(request("POST", "/v1/call/large"));
    EXPECT_EQ(client.receive().body, large);
  }
  driver_.on("echo", {});
  EXPECT_EQ(ask("POST", "/v1/call/echo", {}, large).body, large);
}

// Goal: the connection limit holds, gives way to newcomers where it can, and says so where not.
TEST_F(AbuseTest, ConnectionsAreLimited) {
  driver_.on("slow", {.hold = true});
  auto options = quick();
  options.connections_max = 2;
  start(options);
  RawClient first = connect();
  first.send(request("POST", "/v1/call/slow"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  RawClient idle = connect();
  idle.send(request("GET", "/livez"));
  EXPECT_EQ(idle.receive().status, 200);
  RawClient second = connect();
  second.send(request("POST", "/v1/call/slow"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 2; }));
  EXPECT_TRUE(idle.at_end()) << "the idle one gave way";
  RawClient third = connect();
  const auto response = third.receive();
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.header("retry-after"), "1");
  EXPECT_EQ(server_->http_rejected(), 1U);
  driver_.finish(CallId{1}, {.payload = "1"});
  EXPECT_EQ(first.receive().status, 200) << "those who were there are served";
}

TEST_F(AbuseTest, BodiesTogetherAreLimited) {
  driver_.on("f", {});
  auto options = quick();
  options.buffered_max = 100'000;
  start(options);
  const std::string head =
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 90000\r\n\r\n";
  RawClient first = connect();
  first.send(head + std::string(60'000, '1'));
  RawClient second = connect();
  second.send(head + std::string(60'000, '1'));
  // Whoever came second in the server's eyes is refused; the other one is served.
  const auto refused = [](RawClient& client) { return client.receive(); };
  ASSERT_TRUE(wait_for_metric("keelback_http_rejected_total 1\n"));
  first.send(std::string(30'000, '1'));
  second.send(std::string(30'000, '1'));
  const int statuses[] = {refused(first).status, refused(second).status};
  EXPECT_THAT(statuses, ::testing::UnorderedElementsAre(200, 503));
}

// ---- clients that leave

// Goal: a client that is gone frees its stateless call; policy and session decide otherwise.
TEST_F(AbuseTest, ALeavingClientCancelsAsThePolicySays) {
  driver_.on("slow", {.hold = true});
  start();
  struct Case {
    DisconnectPolicy policy;
    const char* headers;
    bool cancels;
  };
  const Case cases[] = {{DisconnectPolicy::kStateless, "", true},
                        {DisconnectPolicy::kStateless, "Keelback-Session: a\r\n", false},
                        {DisconnectPolicy::kAlways, "Keelback-Session: a\r\n", true},
                        {DisconnectPolicy::kNever, "", false}};
  std::size_t calls = 0;
  for (const Case& each : cases) {
    for (const bool reset : {false, true}) {
      driver_.on_loop([&] { config_.value.server.cancel_on_disconnect = each.policy; });
      RawClient client = connect();
      client.send(request("POST", "/v1/call/slow", each.headers));
      ++calls;
      ASSERT_TRUE(driver_.wait([&](const auto& seen) { return seen.size() == calls; }));
      reset ? client.reset() : client.close();
      ASSERT_TRUE(wait_for_metric("keelback_http_connections 1\n")) << "the leaving was noticed";
      EXPECT_EQ(driver_.seen().back().cancelled, each.cancels) << calls;
    }
  }
}

// Goal: half-closed is not gone: the reply still comes, and nothing but the reply.
TEST_F(AbuseTest, AHalfClosedClientGetsItsReply) {
  driver_.on("slow", {.hold = true});
  start();
  RawClient client = connect();
  client.send(request("POST", "/v1/call/slow"));
  client.half_close();
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  // Many ticks later it is still there: a stale keep-alive would have been closed by now.
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ask("GET", "/livez").status, 200);
  EXPECT_FALSE(driver_.seen()[0].cancelled);
  driver_.finish(CallId{1}, {.payload = "\"still here\""});
  const auto bytes = client.receive_until("\"still here\"");
  ASSERT_TRUE(bytes);
  EXPECT_TRUE(bytes->starts_with("HTTP/1.1 200 OK\r\n")) << *bytes;
  EXPECT_TRUE(client.at_end());
}

// Goal: half-closed first, gone later: noticed all the same, though no byte says so.
TEST_F(AbuseTest, AHalfClosedClientThatLeavesIsNoticed) {
  driver_.on("slow", {.hold = true});
  start();
  RawClient client = connect();
  client.send(request("POST", "/v1/call/slow"));
  client.half_close();
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  client.close();
  EXPECT_TRUE(driver_.wait([](const auto& seen) { return seen[0].cancelled; }));
}

TEST_F(AbuseTest, UnixClientsThatLeaveAreNoticedToo) {
  driver_.on("slow", {.hold = true});
  std::string directory = std::filesystem::temp_directory_path() / "kb_server_XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  auto options = quick();
  options.listen = {"127.0.0.1:0", "unix:" + directory + "/k.sock"};
  start(options);
  RawClient client = RawClient::unix_socket(directory + "/k.sock");
  client.send(request("POST", "/v1/call/slow"));
  client.half_close();
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ask("GET", "/livez").status, 200);
  EXPECT_FALSE(driver_.seen()[0].cancelled);
  client.close();
  EXPECT_TRUE(driver_.wait([](const auto& seen) { return seen[0].cancelled; }));
  stop();
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace keelback::testing
