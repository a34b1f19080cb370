// The client of other nodes against a server that the test plays: each way in which a hop can
// break, and what is then known of it.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/reasons.h"
#include "hop/client.h"

namespace keelback {
namespace {

using namespace std::chrono_literals;
using nodes::HopResult;
using testing::Client;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One connection that the test has accepted. Waits at most 10 s.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  Peer(Peer&& other) noexcept : fd_(std::exchange(other.fd_, -1)), text_(other.text_) {}
  ~Peer() { close(); }
  bool connected() const { return fd_ >= 0; }
  // Head and body of the next request; empty: it did not come whole.
  std::string request() {
    for (;;) {
      const auto head = text_.find("\r\n\r\n");
      if (head != text_.npos) {
        const auto at = text_.find("Content-Length: ");
        const std::size_t size = head + 4 + std::stoul(text_.substr(at + 16));
        if (text_.size() >= size) {
          std::string whole = text_.substr(0, size);
          text_.erase(0, size);
          return whole;
        }
      }
      if (!fill()) return "";
    }
  }
  bool fill() {
    char bytes[4096];
    const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n > 0) text_.append(bytes, static_cast<std::size_t>(n));
    return n > 0;
  }
  // The client has closed the connection.
  bool at_end() {
    text_.clear();
    return !fill() && text_.empty();
  }
  void send(std::string_view text) {
    while (!text.empty()) {
      const auto n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void ok(std::string_view body, std::string_view more = {}) {
    send(
        fmt::format("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    "Keelback-Outcome: ok\r\nKeelback-Effect: done\r\nContent-Length: {}\r\n{}\r\n"
                    "{}",
                    body.size(), more, body));
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }

 private:
  int fd_;
  std::string text_;
};

// The other node: a socket that the test serves by hand.
class Node {
 public:
  Node() {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto* const any = reinterpret_cast<const sockaddr*>(&address);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_, any, size), 0);
    EXPECT_EQ(::listen(fd_, 64), 0);
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    url_ = fmt::format("http://127.0.0.1:{}", ntohs(address.sin_port));
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Node() { stop(); }
  Peer accept() { return Peer(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)); }
  // Nobody waits to be accepted.
  bool nobody_waits() {
    pollfd waits{.fd = fd_, .events = POLLIN, .revents = 0};
    return ::poll(&waits, 1, 0) == 0;
  }
  void stop() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  const std::string& url() const { return url_; }

 private:
  int fd_ = -1;
  std::string url_;
};

Call call_of(std::string function = "count") {
  return {.function = std::move(function), .session = "ann"};
}

// Blocks until the connection is idle: the client has read the answer.
void wait_idle(Client& client, const Node& node, std::size_t idle) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (client.use(node.url()).idle != idle && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  ASSERT_EQ(client.use(node.url()).idle, idle);
}

// Goal: calls one after another use one connection.
TEST(HopClient, KeepsItsConnectionAndUsesItAgain) {
  Node node;
  Client client;
  const auto first = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  const std::string request = peer.request();
  EXPECT_THAT(request, HasSubstr("POST /v1/call/count HTTP/1.1\r\nHost: 127.0.0.1:"));
  EXPECT_THAT(request, HasSubstr("\r\nKeelback-Session: ann\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nKeelback-Hop: 1 node-a "));
  peer.ok("1");
  ASSERT_TRUE(client.result(first));
  EXPECT_EQ(client.result(first)->end, HopResult::End::kOutcome);
  EXPECT_EQ(client.result(first)->outcome.payload, "1");
  for (int i = 0; i < 3; ++i) {
    const auto next = client.send(node.url(), {call_of()});
    ASSERT_NE(peer.request(), "");
    peer.ok(fmt::format("{}", i));
    ASSERT_TRUE(client.result(next));
    EXPECT_EQ(client.result(next)->outcome.payload, fmt::format("{}", i));
  }
  EXPECT_TRUE(node.nobody_waits());
  EXPECT_EQ(client.use(node.url()).connections, 1U);
}

// Goal: as many connections as there may be, and not one more; the rest waits for its turn.
TEST(HopClient, BoundsItsConnectionsAndWhatWaits) {
  Node node;
  Client client({.connections_max = 2, .waiting_max = 1});
  std::vector<Client::HopId> hops;
  for (int i = 0; i < 3; ++i) hops.push_back(client.send(node.url(), {call_of()}));
  const HopResult refused = client.ask(node.url(), {call_of()});
  EXPECT_EQ(refused.end, HopResult::End::kNotConnected);
  EXPECT_EQ(refused.why, "1 calls wait for a connection to it");
  Peer first = node.accept();
  Peer second = node.accept();
  ASSERT_NE(first.request(), "");
  ASSERT_NE(second.request(), "");
  EXPECT_TRUE(node.nobody_waits());
  EXPECT_EQ(client.use(node.url()).waiting, 1U);
  second.ok("2");
  ASSERT_NE(second.request(), "") << "the third call comes on the connection that is free";
  second.ok("3");
  first.ok("1");
  std::vector<std::string> payloads;
  for (const auto hop : hops) {
    ASSERT_TRUE(client.result(hop));
    payloads.push_back(client.result(hop)->outcome.payload);
  }
  std::ranges::sort(payloads);
  EXPECT_THAT(payloads, ElementsAre("1", "2", "3"));
  EXPECT_TRUE(node.nobody_waits());
}

// Goal: a call is sent again only if nothing of it was taken: here the node has closed the idle
// connection before.
TEST(HopClient, AConnectionThatWasClosedWhileIdleIsNoError) {
  Node node;
  Client client;
  for (int round = 0; round < 3; ++round) {
    const auto hop = client.send(node.url(), {call_of()});
    Peer peer = node.accept();
    ASSERT_TRUE(peer.connected()) << "a new connection each time";
    ASSERT_NE(peer.request(), "");
    peer.ok("1");
    ASSERT_TRUE(client.result(hop));
    EXPECT_EQ(client.result(hop)->end, HopResult::End::kOutcome);
    wait_idle(client, node, 1);
    round == 0 ? peer.close() : peer.reset();
  }
}

// Goal: bytes that nobody asked for end a connection; they are no answer to the next call.
TEST(HopClient, WhatComesUnaskedIsNoAnswer) {
  Node node;
  Client client;
  const auto hop = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  peer.ok("1");
  ASSERT_TRUE(client.result(hop));
  wait_idle(client, node, 1);
  peer.ok("\"forged\"");
  EXPECT_TRUE(peer.at_end());
  const auto next = client.send(node.url(), {call_of()});
  Peer fresh = node.accept();
  ASSERT_NE(fresh.request(), "");
  fresh.ok("2");
  ASSERT_TRUE(client.result(next));
  EXPECT_EQ(client.result(next)->outcome.payload, "2");
}

// Goal: nobody there: nothing was done.
TEST(HopClient, NobodyListens) {
  Node node;
  const std::string url = node.url();
  node.stop();
  Client client;
  const HopResult result = client.ask(url, {call_of()});
  EXPECT_EQ(result.end, HopResult::End::kNotConnected);
  EXPECT_EQ(result.why, "Connection refused");
  EXPECT_EQ(client.use(url).connections, 0U);
  EXPECT_EQ(client.ask("ftp://x", {call_of()}).end, HopResult::End::kNotConnected);
}

// Goal: a machine that does not answer costs connect_timeout and no more. 192.0.2.0/24 is for
// documents: no packet finds its way there, or the network refuses it at once.
TEST(HopClient, AMachineThatDoesNotAnswer) {
  Client client({.connect_timeout = 50ms});
  const HopResult result = client.ask("http://192.0.2.1:9", {call_of()});
  EXPECT_EQ(result.end, HopResult::End::kNotConnected) << result.why;
}

// Goal: once the request is out, whatever comes short of a whole answer is "maybe", and the call is
// not sent a second time.
TEST(HopClient, WhatBreaksAfterTheRequestIsBroken) {
  const std::string head =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nKeelback-Outcome: ok\r\n"
      "Keelback-Effect: done\r\n";
  const std::vector<std::string> answers = {
      "",
      "HTTP/1.1 20",
      head,
      head + "Content-Length: 9\r\n\r\n",
      head + "Content-Length: 9\r\n\r\n12345678",
      head + "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
      head + "\r\n12345",  // its length is where the connection ends: it might have been cut
      "220 smtp.example.com ESMTP\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue",  // of somebody else
      "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nnginx",
      "HTTP/1.1 500 X\r\nKeelback-Outcome: error\r\nKeelback-Effect: done\r\nContent-Length: 3\r\n"
      "\r\n{x}",
      "HTTP/1.1 101 Switching Protocols\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
      head + "X: " + std::string(20 << 10, 'x') + "\r\nContent-Length: 0\r\n\r\n",
  };
  Node node;
  for (const bool reset : {false, true}) {
    for (const std::string& answer : answers) {
      Client client;
      const auto hop = client.send(node.url(), {call_of()});
      Peer peer = node.accept();
      ASSERT_NE(peer.request(), "");
      peer.send(answer);
      reset ? peer.reset() : peer.close();
      const auto result = client.result(hop);
      ASSERT_TRUE(result) << answer;
      EXPECT_EQ(result->end, HopResult::End::kBroken) << answer;
      EXPECT_NE(result->why, "") << answer;
      EXPECT_TRUE(node.nobody_waits()) << "never sent again";
      EXPECT_EQ(client.use(node.url()).connections, 0U);
    }
  }
}

// Goal: on a connection that was used before it is the same: the request was out.
TEST(HopClient, AUsedConnectionThatBreaksIsBrokenToo) {
  Node node;
  Client client;
  const auto first = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  peer.ok("1");
  ASSERT_TRUE(client.result(first));
  const auto second = client.send(node.url(), {call_of()});
  ASSERT_NE(peer.request(), "");
  peer.close();
  ASSERT_TRUE(client.result(second));
  EXPECT_EQ(client.result(second)->end, HopResult::End::kBroken);
  EXPECT_EQ(client.result(second)->why, "the node closed the connection");
  EXPECT_TRUE(node.nobody_waits());
}

// Goal: a request that the node cannot have read whole was not run. More than the sockets hold is
// on its way when the node goes.
TEST(HopClient, ARequestThatDidNotGoOutWholeWasNotRun) {
  Node node;
  Client client;
  Call call = call_of();
  call.payload = "\"" + std::string(24 << 20, 'x') + "\"";
  const auto hop = client.send(node.url(), {std::move(call)});
  Peer peer = node.accept();
  ASSERT_TRUE(peer.fill());
  peer.reset();
  const auto result = client.result(hop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->end, HopResult::End::kNotConnected) << result->why;
  EXPECT_TRUE(node.nobody_waits());
}

// Goal: a node that refuses a large request answers before it has read it.
TEST(HopClient, AnAnswerThatComesBeforeTheRequestIsOut) {
  Node node;
  Client client;
  Call call = call_of();
  call.payload = "\"" + std::string(24 << 20, 'x') + "\"";
  const auto hop = client.send(node.url(), {std::move(call)});
  Peer peer = node.accept();
  ASSERT_TRUE(peer.fill());
  const std::string body =
      R"({"outcome":"too_large","effect":"none","detail":"more","status":413})";
  peer.send(
      fmt::format("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n"
                  "Keelback-Outcome: too_large\r\nKeelback-Effect: none\r\n"
                  "Content-Length: {}\r\n\r\n{}",
                  body.size(), body));
  const auto result = client.result(hop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->end, HopResult::End::kOutcome);
  EXPECT_EQ(result->outcome.kind, OutcomeKind::kTooLarge);
  EXPECT_TRUE(peer.connected());
  EXPECT_EQ(client.use(node.url()).connections, 0U);
}

// Goal: an answer in the smallest pieces, behind interim ones, is that answer.
TEST(HopClient, ASlowAnswerIsReadPieceByPiece) {
  Node node;
  Client client;
  const auto hop = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  const std::string answer =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
      "Keelback-Outcome: ok\r\nKeelback-Effect: done\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\n\"ab\r\n2\r\nc\"\r\n0\r\n\r\n";
  for (const char byte : answer) peer.send({&byte, 1});
  ASSERT_TRUE(client.result(hop));
  EXPECT_EQ(client.result(hop)->end, HopResult::End::kOutcome) << client.result(hop)->why;
  EXPECT_EQ(client.result(hop)->outcome.payload, "\"abc\"");
  wait_idle(client, node, 1);
}

// Goal: a node that never answers is given up at the limit: "maybe" if the request is out.
TEST(HopClient, ANodeThatNeverAnswersIsGivenUp) {
  Node node;
  Client client({.connections_max = 1});
  const auto hop = client.send(node.url(), {call_of(), 300ms});
  const auto waits = client.send(node.url(), {call_of(), 50ms});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  ASSERT_TRUE(client.result(waits));
  EXPECT_EQ(client.result(waits)->end, HopResult::End::kNotConnected);
  ASSERT_TRUE(client.result(hop));
  EXPECT_EQ(client.result(hop)->end, HopResult::End::kBroken);
  EXPECT_EQ(client.result(hop)->why, "it has not answered within 300 ms");
  EXPECT_TRUE(peer.at_end());
}

// Goal: an answer at the bound is taken, one byte more is not.
TEST(HopClient, BoundsTheAnswer) {
  Node node;
  for (const std::size_t size : {1000, 1001}) {
    Client client({.reply = {.body_max = 1000}});
    for (const bool chunked : {false, true}) {
      const auto hop = client.send(node.url(), {call_of()});
      Peer peer = node.accept();
      ASSERT_NE(peer.request(), "");
      const std::string body(size, '1');
      const std::string head =
          "HTTP/1.1 200 OK\r\nKeelback-Outcome: ok\r\nKeelback-Effect: done\r\nConnection: "
          "close\r\n";
      if (chunked) {
        peer.send(head + "Transfer-Encoding: chunked\r\n\r\n");
        for (std::size_t i = 0; i < size; ++i) peer.send("1\r\n1\r\n");
        peer.send("0\r\n\r\n");
      } else {
        peer.send(fmt::format("{}Content-Length: {}\r\n\r\n{}", head, size, body));
      }
      ASSERT_TRUE(client.result(hop));
      const bool fits = size == 1000;
      EXPECT_EQ(client.result(hop)->end, fits ? HopResult::End::kOutcome : HopResult::End::kBroken);
      EXPECT_EQ(client.result(hop)->outcome.payload, fits ? body : "");
      EXPECT_EQ(client.result(hop)->why, fits ? "" : "the reply is too large");
    }
  }
}

TEST(HopClient, ANodeThatDoesNotOwnTheSession) {
  Node node;
  Client client;
  const auto hop = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  peer.send("HTTP/1.1 421 Misdirected Request\r\nContent-Length: 2\r\n\r\n{}");
  ASSERT_TRUE(client.result(hop));
  EXPECT_EQ(client.result(hop)->end, HopResult::End::kNotOwner);
}

// Goal: how the end of a session gets to its owner, and what each of its answers means.
TEST(HopClient, ASessionIsEndedAtItsOwner) {
  Node node;
  Client client;
  const auto answered = [&](std::string_view reply) {
    const auto hop = client.end_session(node.url(), "an n/7");
    Peer peer = node.accept();
    const std::string request = peer.request();
    EXPECT_THAT(request, ::testing::StartsWith("DELETE /v1/sessions/an%20n%2F7 HTTP/1.1\r\n"));
    EXPECT_THAT(request, HasSubstr("\r\nKeelback-Hop: 1 "));
    peer.send(reply);
    EXPECT_TRUE(client.result(hop));
    return *client.result(hop);
  };
  const HopResult ended = answered("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(ended.end, HopResult::End::kOutcome);
  EXPECT_EQ(ended.outcome.kind, OutcomeKind::kOk);
  const std::string problem = R"({"type":"urn:keelback:http:no_such_session","status":404})";
  const HopResult none = answered(
      fmt::format("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                  problem.size(), problem));
  EXPECT_EQ(none.end, HopResult::End::kOutcome);
  EXPECT_EQ(none.outcome.reason, kNoSession);
  EXPECT_EQ(none.outcome.effect, Effect::kNone);
  EXPECT_EQ(answered("HTTP/1.1 421 Misdirected Request\r\nConnection: close\r\n"
                     "Content-Length: 2\r\n\r\n{}")
                .end,
            HopResult::End::kNotOwner);
}

// Goal: the reader of a stream sets the pace: 16 items unasked, then as many as it grants.
TEST(HopClient, AStreamWaitsForItsReader) {
  Node node;
  Client client;
  const auto hop = client.send(node.url(), {.call = call_of(), .stream = true});
  Peer peer = node.accept();
  EXPECT_THAT(peer.request(), HasSubstr("\r\nAccept: text/event-stream\r\n"));
  peer.send(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
      "\r\n");
  const auto chunk = [&peer](std::string_view text) {
    peer.send(fmt::format("{:x}\r\n{}\r\n", text.size(), text));
  };
  for (int i = 0; i < 20; ++i) {
    chunk(fmt::format("event: item\ndata: {}\n\n", i));
    chunk(": keep-alive\n\n");
  }
  chunk("event: item\ndata: {\ndata:  \"a\":1}\n\n");
  chunk(
      "event: end\ndata: {\"outcome\":\"ok\",\"effect\":\"done\",\"items\":21,\"worker\":\"2.7\","
      "\"attempts\":1,\"queue_ms\":1.5,\"run_ms\":2.25,\"birth\":\"00000000000000ff\","
      "\"epoch\":3}\n\n");
  peer.send("0\r\n\r\n");
  ASSERT_TRUE(client.wait_items(hop, 16));
  client.use(node.url());  // the loop has turned since
  EXPECT_EQ(client.items(hop).size(), 16U);
  client.grant(hop, 1);
  ASSERT_TRUE(client.wait_items(hop, 17));
  client.use(node.url());
  EXPECT_EQ(client.items(hop).size(), 17U);
  EXPECT_EQ(client.results(), 0U);
  client.grant(hop, 100);
  const auto result = client.result(hop);
  ASSERT_TRUE(result);
  const auto items = client.items(hop);
  ASSERT_EQ(items.size(), 21U);
  EXPECT_EQ(items[19], "19");
  EXPECT_EQ(items[20], "{\n \"a\":1}");
  EXPECT_EQ(result->outcome.effect, Effect::kDone);
  EXPECT_EQ(result->outcome.worker, (WorkerRef{2, 7}));
  EXPECT_EQ(result->outcome.birth, 255U);
  EXPECT_EQ(result->outcome.epoch, 3U);
  EXPECT_EQ(result->outcome.queued, 1500us);
  EXPECT_EQ(result->outcome.ran, 2250us);
  wait_idle(client, node, 1);
}

// Goal: a stream that breaks off is no end of the stream.
TEST(HopClient, AStreamThatBreaksOffIsBroken) {
  Node node;
  const std::string head =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string item = "15\r\nevent: item\ndata: 1\n\n\r\n";
  for (const std::string& rest :
       {std::string(), item, item + "0\r\n\r\n", item + "8\r\nevent: e",
        std::string("1d\r\nevent: end\ndata: {\"x\":\"y\"}\n\n\r\n0\r\n\r\n")}) {
    Client client;
    const auto hop = client.send(node.url(), {.call = call_of(), .stream = true});
    Peer peer = node.accept();
    ASSERT_NE(peer.request(), "");
    peer.send(head + rest);
    peer.close();
    ASSERT_TRUE(client.result(hop)) << rest;
    EXPECT_EQ(client.result(hop)->end, HopResult::End::kBroken) << rest;
  }
}

// Goal: a cancel goes to the node on a connection of its own, is repeated while it finds nothing
// there, and the call ends as the node says.
TEST(HopClient, ACancelIsAskedForUntilTheCallEnds) {
  Node node;
  Client client({.connections_max = 1, .cancel_again = 1ms});
  const auto hop = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  const std::string request = peer.request();
  const auto at = request.find("Keelback-Call: ") + 15;
  const std::string name = request.substr(at, request.find("\r\n", at) - at);
  EXPECT_THAT(name, HasSubstr("hop."));
  client.cancel(hop);
  client.cancel(hop);
  for (int i = 0; i < 2; ++i) {
    Peer other = node.accept();
    EXPECT_THAT(other.request(), HasSubstr("DELETE /v1/calls/" + name + " HTTP/1.1\r\n"));
    other.send("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
  }
  peer.ok("1");
  ASSERT_TRUE(client.result(hop));
  EXPECT_EQ(client.result(hop)->outcome.payload, "1") << "it ended before it heard of the cancel";
}

TEST(HopClient, ACallThatWasNotSentIsCancelledHere) {
  Node node;
  Client client({.connections_max = 1});
  const auto busy = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  const auto waits = client.send(node.url(), {call_of()});
  client.cancel(waits);
  ASSERT_TRUE(client.result(waits));
  EXPECT_EQ(client.result(waits)->outcome.kind, OutcomeKind::kCancelled);
  EXPECT_EQ(client.result(waits)->outcome.effect, Effect::kNone);
  EXPECT_EQ(client.use(node.url()).waiting, 0U);
  peer.ok("1");
  ASSERT_TRUE(client.result(busy));
  EXPECT_TRUE(node.nobody_waits());
}

// Goal: what waited counts against the deadline, and a call without time left is not sent.
TEST(HopClient, TheDeadlineIsWhatIsLeft) {
  Node node;
  Client client({.connections_max = 1});
  Call long_call = call_of();
  long_call.deadline = 60s;
  const auto first = client.send(node.url(), {long_call});
  Peer peer = node.accept();
  const std::string request = peer.request();
  const auto at = request.find("Keelback-Deadline-Ms: ");
  ASSERT_NE(at, request.npos);
  const long left = std::stol(request.substr(at + 22));
  EXPECT_LE(left, 60000);
  EXPECT_GT(left, 30000);
  Call short_call = call_of();
  short_call.deadline = 1ms;
  const auto second = client.send(node.url(), {short_call});
  std::this_thread::sleep_for(2ms);  // the deadline itself: there is nothing else to wait for
  peer.ok("1");
  ASSERT_TRUE(client.result(second));
  EXPECT_EQ(client.result(second)->outcome.kind, OutcomeKind::kTimeout);
  EXPECT_EQ(client.result(second)->outcome.effect, Effect::kNone);
  ASSERT_TRUE(client.result(first));
  wait_idle(client, node, 1);
}

// Goal: a node that was retired is not waited for.
TEST(HopClient, ANodeThatIsGoneIsForgotten) {
  Node node;
  Client client({.connections_max = 1});
  const auto sent = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  const auto waits = client.send(node.url(), {call_of()});
  client.forget(node.url());
  ASSERT_TRUE(client.result(sent));
  EXPECT_EQ(client.result(sent)->end, HopResult::End::kBroken);
  ASSERT_TRUE(client.result(waits));
  EXPECT_EQ(client.result(waits)->end, HopResult::End::kNotConnected);
  EXPECT_TRUE(peer.at_end());
  EXPECT_EQ(client.use(node.url()).connections, 0U);
}

// Goal: one hop to a silent node is given up, and others that it has go on.
TEST(HopClient, AHopIsGivenUp) {
  Node node;
  Client client;
  const auto first = client.send(node.url(), {call_of()});
  Peer silent = node.accept();
  ASSERT_NE(silent.request(), "");
  const auto second = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  client.give_up(first);
  ASSERT_TRUE(client.result(first));
  EXPECT_EQ(client.result(first)->end, HopResult::End::kBroken);
  EXPECT_EQ(client.result(first)->why, "the node was retired");
  EXPECT_TRUE(silent.at_end());
  peer.ok("1");
  ASSERT_TRUE(client.result(second));
  EXPECT_EQ(client.result(second)->outcome.payload, "1");
}

TEST(HopClient, AnIdleConnectionIsClosedInTheEnd) {
  Node node;
  Client client({.idle_timeout = 20ms});
  const auto hop = client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  peer.ok("1");
  ASSERT_TRUE(client.result(hop));
  EXPECT_TRUE(peer.at_end());
  EXPECT_EQ(client.use(node.url()).connections, 0U);
}

// Goal: a client that goes closes its connections, and nobody is called any more.
TEST(HopClient, GoesInTheMidstOfCalls) {
  Node node;
  Client client;
  client.send(node.url(), {call_of()});
  Peer peer = node.accept();
  ASSERT_NE(peer.request(), "");
  client.send(node.url(), {call_of(), 1ms});
  client.destroy();
  EXPECT_TRUE(peer.at_end());
}

// Goal: what HTTP would change on the way is refused, and not changed.
TEST(HopClient, WhatHttpCannotCarryIsBadRequest) {
  Node node;
  Client client;
  std::vector<Call> calls(6, call_of());
  calls[0].session = "a\nb";
  calls[1].batch_key = " b";
  calls[2].idempotency_key = "k\r";
  calls[3].attachments = {{.name = "arguments", .data = Buffer(std::string("x"))}};
  calls[4].attachments = {{.name = "100%22", .data = Buffer(std::string("x"))}};
  calls[5].function = "\xff";
  for (Call& call : calls) {
    const HopResult result = client.ask(node.url(), {std::move(call)});
    EXPECT_EQ(result.end, HopResult::End::kOutcome);
    EXPECT_EQ(result.outcome.kind, OutcomeKind::kBadRequest);
    EXPECT_EQ(result.outcome.effect, Effect::kNone);
    EXPECT_THAT(result.outcome.message, HasSubstr("cannot be sent to another node."));
  }
  EXPECT_TRUE(node.nobody_waits());
}

}  // namespace
}  // namespace keelback
