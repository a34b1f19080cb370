// What another node of the cluster sends: whom the server believes, and what it answers.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/reasons.h"
#include "httptext/hop.h"
#include "support/server_fixture.h"

namespace keelback::server {
namespace {

using namespace std::chrono_literals;
using httptext::Header;
using nlohmann::json;
using ::testing::HasSubstr;
using testing::RawClient;
using testing::RawResponse;

using Fields = std::vector<std::pair<Header, std::string>>;

// A request of node-a, signed.
std::string hop_request(std::string_view method, std::string_view target, Fields fields,
                        std::string_view body, std::string_view token = "shared") {
  fields.emplace_back(Header::kContentDigest, httptext::content_digest(body));
  httptext::SignedHead head{.method = method, .target = target};
  for (const auto& [header, value] : fields) head.set(header, value);
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: node-b:8080\r\nContent-Length: {}\r\n",
                                 method, target, body.size());
  for (const auto& [header, value] : fields) {
    text += fmt::format("{}: {}\r\n", httptext::to_string(header), value);
  }
  return text +
         fmt::format("Keelback-Hop: {}\r\n\r\n{}", httptext::sign_hop(token, "node-a", head), body);
}

class ServerHopTest : public testing::ServerFixture {
 protected:
  ServerHopTest() {
    config_.value.server.token = "of-clients";
    config_.value.cluster.token = "shared";
    config_.value.cluster.node = "node-b";
    driver_.on("echo", {});
  }
  RawResponse send(std::string_view text) {
    RawClient client = connect();
    client.send(text);
    return client.receive();
  }
  const Fields json_call{{Header::kContentType, "application/json"},
                         {Header::kSession, "ann"},
                         {Header::kDeadlineMs, "700"}};
};

// Goal: the signature stands for server.token, and the driver knows who sent the call.
TEST_F(ServerHopTest, ASignedCallNeedsNoOtherToken) {
  start();
  const auto reply = send(hop_request("POST", "/v1/call/echo", json_call, "[1]"));
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.body, "[1]");
  EXPECT_EQ(reply.header("keelback-node"), "node-b");
  const auto seen = driver_.seen();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].sender, "node-a");
  EXPECT_EQ(seen[0].call.session, "ann");
  EXPECT_EQ(seen[0].call.deadline, 700ms);
  EXPECT_FALSE(seen[0].stream);

  RawClient client = connect();
  client.send(request("POST", "/v1/call/echo", "Authorization: Bearer of-clients\r\n", "[2]"));
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_EQ(driver_.seen()[1].sender, "") << "a client is no node";
}

// Goal: without the right signature nothing is done, whoever asks and for whatever.
TEST_F(ServerHopTest, WhatIsNotSignedIsRefused) {
  start();
  const std::string good = hop_request("POST", "/v1/call/echo", json_call, "[1]");
  std::string other_body = good;
  other_body.replace(other_body.rfind("[1]"), 3, "[2]");
  std::string other_session = good;
  other_session.replace(other_session.find("ann"), 3, "bob");
  std::string no_digest = good;
  no_digest.erase(no_digest.find("Content-Digest"),
                  no_digest.find("\r\n", no_digest.find("Content-Digest")) + 2 -
                      no_digest.find("Content-Digest"));
  const std::vector<std::string> bad = {
      hop_request("POST", "/v1/call/echo", json_call, "[1]", "another token"),
      other_body,
      other_session,
      no_digest,
      hop_request("GET", "/v1/pool", {}, ""),
      hop_request("GET", "/v1/no/such/route", {}, ""),
      hop_request("POST", "/v1/drain", {}, ""),
  };
  for (const std::string& text : bad) {
    const auto reply = send(text);
    EXPECT_EQ(reply.status, 401) << text;
    const json problem = json::parse(reply.body);
    EXPECT_EQ(problem["type"], "urn:keelback:http:bad_hop");
    EXPECT_FALSE(problem.contains("outcome"));
  }
  EXPECT_TRUE(driver_.seen().empty());
  EXPECT_EQ(server_->http_rejected(), bad.size());

  driver_.on_loop([this] { config_.value.cluster.token.clear(); });
  EXPECT_EQ(send(good).status, 401) << "nobody is believed without cluster.token";
  EXPECT_EQ(send(hop_request("POST", "/v1/call/echo", json_call, "[1]", "x")).status, 401);
  driver_.on_loop([this] { config_.value.server.token.clear(); });
  EXPECT_EQ(send(good).status, 401) << "nor where clients need no token";
  EXPECT_TRUE(driver_.seen().empty());
}

// Goal: a page of a browser stays out whatever it sends.
TEST_F(ServerHopTest, AForeignOriginStaysOut) {
  start();
  std::string text = hop_request("POST", "/v1/call/echo", json_call, "[1]");
  text.insert(text.find("Content-Length"), "Origin: http://evil.example\r\n");
  EXPECT_EQ(send(text).status, 403);
}

TEST_F(ServerHopTest, ANodeThatIsNotTheOwnerSays421) {
  driver_.on("echo", {.outcome = {.kind = OutcomeKind::kNotReady,
                                  .message = "node-c owns it",
                                  .reason = std::string(kNotOwner)}});
  start();
  const auto reply = send(hop_request("POST", "/v1/call/echo", json_call, "[1]"));
  EXPECT_EQ(reply.status, 421);
  const json problem = json::parse(reply.body);
  EXPECT_EQ(problem["status"], 421);
  EXPECT_EQ(problem["reason"], "not_owner");
  EXPECT_EQ(problem["outcome"], "not_ready");
  EXPECT_EQ(problem["effect"], "none");
  EXPECT_EQ(problem["title"], "Another node owns the session");
}

TEST_F(ServerHopTest, ANodeCancelsItsCallByItsName) {
  driver_.on("held", {.hold = true});
  start();
  RawClient client = connect();
  Fields fields = json_call;
  fields.emplace_back(Header::kCall, "hop.1f.1");
  client.send(hop_request("POST", "/v1/call/held", fields, "[1]"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  EXPECT_EQ(send(hop_request("DELETE", "/v1/calls/hop.1f.1", {}, "")).status, 202);
  EXPECT_EQ(client.receive().status, 499);
  EXPECT_EQ(send(hop_request("DELETE", "/v1/calls/hop.1f.1", {}, "")).status, 404);
}

// Goal: a node ends a session at its owner, which says 421 if it is not the owner.
TEST_F(ServerHopTest, ANodeEndsASession) {
  driver_.edit([](auto& world) { world.sessions = {{.id = "an n"}, {.id = "bob"}}; });
  start();
  EXPECT_EQ(send(hop_request("DELETE", "/v1/sessions/an%20n", {}, "")).status, 204);
  EXPECT_EQ(driver_.world().ended_sessions, (std::vector<std::string>{"an n"}));
  const auto gone = send(hop_request("DELETE", "/v1/sessions/an%20n", {}, ""));
  EXPECT_EQ(gone.status, 404);
  EXPECT_EQ(json::parse(gone.body)["type"], "urn:keelback:http:no_such_session");
  EXPECT_EQ(send(hop_request("DELETE", "/v1/sessions/bob", {}, "", "x")).status, 401);
  driver_.edit([](auto& world) { world.owns_sessions = false; });
  EXPECT_EQ(send(hop_request("DELETE", "/v1/sessions/bob", {}, "")).status, 421);
  EXPECT_EQ(driver_.world().ended_sessions.size(), 1U);
}

// Goal: the sender can tell an item from the result of a function that does not stream.
TEST_F(ServerHopTest, TheResultOfAStreamIsNoItemForANode) {
  driver_.on("items", {.outcome = {.effect = Effect::kDone}, .items = {"1"}});
  driver_.on("plain", {.outcome = {.effect = Effect::kDone, .payload = "[7]"}});
  start();
  Fields fields = json_call;
  fields.emplace_back(Header::kAccept, "text/event-stream");
  EXPECT_THAT(send(hop_request("POST", "/v1/call/items", fields, "[]")).body,
              HasSubstr("event: item\ndata: 1\n\nevent: end\n"));
  EXPECT_THAT(send(hop_request("POST", "/v1/call/plain", fields, "[]")).body,
              HasSubstr("event: result\ndata: [7]\n\nevent: end\n"));
  EXPECT_TRUE(driver_.seen()[0].stream);
}

// Goal: every reply says which node it is from, a call's, an operator's and a refusal alike; and a
// daemon that is in no cluster says nothing.
TEST_F(ServerHopTest, EveryReplyNamesTheNode) {
  start();
  const std::string token = "Authorization: Bearer of-clients\r\n";
  for (const std::string& text :
       {request("POST", "/v1/call/echo", token, "[1]"), request("GET", "/v1/pool", token),
        request("GET", "/livez"), request("GET", "/v1/pool"), std::string("garbage\r\n\r\n")}) {
    const auto reply = send(text);
    EXPECT_NE(reply.status, 0) << text;
    EXPECT_EQ(reply.header("keelback-node"), "node-b") << text;
  }
  stop();
  config_.value.cluster.node.clear();
  start();
  EXPECT_EQ(send(request("GET", "/livez")).headers.count("keelback-node"), 0U);
  stop();
  config_.value.cluster.store = "postgres://db/keelback";
  start();
  EXPECT_NE(send(request("GET", "/livez")).header("keelback-node"), "") << "the host name";
}

}  // namespace
}  // namespace keelback::server
