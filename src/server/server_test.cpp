// The routes, headers and documents of the server, over real sockets, on a scripted driver.
#include "server/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/asio/post.hpp>
#include <filesystem>
#include <future>
#include <mutex>
#include <nlohmann/json.hpp>

#include "support/server_fixture.h"

namespace keelback::testing {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

using ServerTest = ServerFixture;

Outcome answer(std::string payload) {
  return {.kind = OutcomeKind::kOk,
          .effect = Effect::kDone,
          .payload = std::move(payload),
          .worker = {2, 17},
          .attempts = 1,
          .birth = 0xdeadbeef,
          .epoch = 3,
          .queued = 1500us,
          .ran = 2ms};
}

// Goal: the result's bytes come back untouched, and the headers tell who computed them.
TEST_F(ServerTest, ACallAnswersTheFunctionsBytes) {
  const std::string odd = "[1, 2,\n  \"not re-encoded \\u00e9\" ]";
  driver_.on("greet", {.outcome = answer(odd)});
  start();
  const auto response =
      ask("POST", "/v1/call/greet",
          "Keelback-Session: ann\r\nKeelback-Deadline-Ms: 250\r\nKeelback-Priority: low\r\n"
          "Keelback-Expect-Epoch: deadbeef.3\r\nIdempotency-Key: k\r\n",
          R"({"name": "Ada"})");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, odd);
  EXPECT_EQ(response.header("content-type"), "application/json");
  EXPECT_EQ(response.header("keelback-worker"), "2.17");
  EXPECT_EQ(response.header("keelback-birth"), "00000000deadbeef");
  EXPECT_EQ(response.header("keelback-epoch"), "3");
  EXPECT_EQ(response.header("keelback-attempts"), "1");
  EXPECT_EQ(response.header("keelback-outcome"), "ok");
  EXPECT_EQ(response.header("keelback-effect"), "done");
  EXPECT_EQ(response.header("keelback-call"), "1");
  EXPECT_THAT(response.header("server-timing"),
              MatchesRegex("queue;dur=1.500, run;dur=2.000, total;dur=[0-9.]+"));
  EXPECT_THAT(response.header("date"), MatchesRegex("[A-Z][a-z][a-z], .* GMT"));
  const auto seen = driver_.seen();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].call.function, "greet");
  EXPECT_EQ(seen[0].call.payload, R"({"name": "Ada"})");
  EXPECT_EQ(seen[0].call.session, "ann");
  EXPECT_EQ(seen[0].call.deadline, 250ms);
  EXPECT_EQ(seen[0].call.priority, Priority::kLow);
  EXPECT_EQ(seen[0].call.expect_epoch->birth, 0xdeadbeefU);
  EXPECT_EQ(seen[0].call.idempotency_key, "k");
  EXPECT_FALSE(seen[0].stream);
}

TEST_F(ServerTest, AnEmptyBodyIsNoArguments) {
  driver_.on("f", {});
  start();
  EXPECT_EQ(ask("POST", "/v1/call/f").body, "[]");
  EXPECT_EQ(ask("POST", "/v1/call/a%2Fb%20%C3%A9").status, 404);
  EXPECT_EQ(driver_.seen()[1].call.function, "a/b \xC3\xA9");
}

// Goal: every outcome has its status and its effect, and says so in header and body alike.
TEST_F(ServerTest, EveryOutcomeHasItsStatusAndProblem) {
  for (int i = 1; i < kOutcomeKinds; ++i) {
    const auto kind = static_cast<OutcomeKind>(i);
    driver_.on(std::string(to_string(kind)),
               {.outcome = {.kind = kind, .effect = Effect::kMaybe, .message = "why"}});
  }
  start();
  RawClient client = connect();  // one connection: no outcome costs it
  for (int i = 1; i < kOutcomeKinds; ++i) {
    const auto kind = static_cast<OutcomeKind>(i);
    client.send(request("POST", fmt::format("/v1/call/{}", to_string(kind))));
    const auto response = client.receive();
    EXPECT_EQ(response.status, http_status(kind)) << to_string(kind);
    EXPECT_EQ(response.header("content-type"), "application/problem+json");
    EXPECT_EQ(response.header("keelback-outcome"), to_string(kind));
    const json problem = json::parse(response.body);
    EXPECT_EQ(problem["outcome"], to_string(kind));
    EXPECT_EQ(problem["status"], http_status(kind));
    EXPECT_EQ(problem["effect"], "maybe");
    EXPECT_EQ(problem["detail"], "why");
    EXPECT_EQ(problem["type"], fmt::format("urn:keelback:outcome:{}", to_string(kind)));
    EXPECT_FALSE(problem["title"].get<std::string>().empty());
  }
}

// Goal: a key of another request is told from a request that is wrong in itself: 422, everywhere.
TEST_F(ServerTest, AKeyOfAnotherRequestIs422) {
  driver_.on("pay", {.outcome = {.kind = OutcomeKind::kBadRequest, .key_reused = true}});
  start();
  const auto reply = ask("POST", "/v1/call/pay");
  EXPECT_EQ(reply.status, 422);
  const json problem = json::parse(reply.body);
  EXPECT_EQ(problem["status"], 422);
  EXPECT_EQ(problem["outcome"], "bad_request");
  EXPECT_EQ(problem["title"], "The idempotency key was used for another request");
}

// Goal: what is known of an error, a death and a wait is in the problem, structured, whatever
// bytes Python wrote.
TEST_F(ServerTest, ProblemsCarryWhatIsKnown) {
  driver_.on("raises", {.outcome = {.kind = OutcomeKind::kError,
                                    .effect = Effect::kDone,
                                    .message = "ValueError: no",
                                    .python = PythonError{"ValueError", "no \xFF", "Traceback"},
                                    .worker = {0, 1},
                                    .attempts = 1}});
  Death death{.cause = "signal", .signal = 9, .oom_suspected = true, .stderr_tail = "last words"};
  driver_.on("dies", {.outcome = {.kind = OutcomeKind::kWorkerDied,
                                  .effect = Effect::kMaybe,
                                  .death = death,
                                  .worker = {3, 9},
                                  .attempts = 2}});
  driver_.on("waits", {.outcome = {.kind = OutcomeKind::kTimeout, .dump = "Thread 1"}});
  driver_.on("full", {.outcome = {.kind = OutcomeKind::kOverloaded, .retry_after = 1200ms}});
  driver_.on("knot", {.outcome = {.kind = OutcomeKind::kOverloaded, .reason = "would_deadlock"}});
  start();
  const json raised = json::parse(ask("POST", "/v1/call/raises").body);
  EXPECT_EQ(raised["python"]["type"], "ValueError");
  EXPECT_EQ(raised["python"]["message"], "no \uFFFD");
  EXPECT_EQ(raised["python"]["traceback"], "Traceback");
  EXPECT_EQ(raised["worker"], "0.1");
  const json died = json::parse(ask("POST", "/v1/call/dies").body);
  EXPECT_EQ(died["death"]["cause"], "signal");
  EXPECT_EQ(died["death"]["signal"], 9);
  EXPECT_EQ(died["death"]["exit_code"], nullptr);
  EXPECT_EQ(died["death"]["oom_suspected"], true);
  EXPECT_EQ(died["death"]["stderr_tail"], "last words");
  EXPECT_EQ(died["attempts"], 2);
  EXPECT_EQ(json::parse(ask("POST", "/v1/call/waits").body)["dump"], "Thread 1");
  const auto full = ask("POST", "/v1/call/full");
  EXPECT_EQ(full.header("retry-after"), "2") << "whole seconds, rounded up";
  EXPECT_EQ(full.header("keelback-retry-after-ms"), "1200");
  EXPECT_EQ(json::parse(full.body)["retry_after_ms"], 1200);
  EXPECT_FALSE(json::parse(full.body).contains("reason"));
  EXPECT_EQ(json::parse(ask("POST", "/v1/call/knot").body)["reason"], "would_deadlock");
}

// Goal: bytes that are packed are not taken for the arguments. Nobody decodes them.
TEST_F(ServerTest, ABodyInAContentEncodingIsRefused) {
  driver_.on("f", {});
  start();
  for (const char* header : {"Content-Encoding: gzip\r\n", "content-encoding: br\r\n",
                             "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"}) {
    const auto packed = ask("POST", "/v1/call/f", header, "\x1f\x8b[]");
    EXPECT_EQ(packed.status, 415) << header;
    EXPECT_EQ(packed.header("accept-encoding"), "identity");
    EXPECT_THAT(json::parse(packed.body)["detail"].get<std::string>(),
                HasSubstr("Content-Encoding"));
  }
  EXPECT_EQ(ask("PATCH", "/v1/config", "Content-Encoding: gzip\r\n", "{}").status, 415);
  EXPECT_TRUE(driver_.seen().empty());
  EXPECT_EQ(ask("POST", "/v1/call/f", "Content-Encoding: Identity\r\n", "[]").status, 200);
}

// Goal: what is malformed is refused before the pool sees it, by name, and is counted apart.
TEST_F(ServerTest, MalformedCallsNeverReachThePool) {
  driver_.on("f", {});
  config_.value.calls.payload_max = {100};
  start();
  const auto bad_header = ask("POST", "/v1/call/f", "Keelback-Deadline-Ms: soon\r\n", "[]");
  EXPECT_EQ(bad_header.status, 400);
  EXPECT_EQ(bad_header.header("keelback-outcome"), "bad_request");
  EXPECT_THAT(json::parse(bad_header.body)["detail"].get<std::string>(),
              HasSubstr("Keelback-Deadline-Ms"));
  EXPECT_EQ(ask("POST", "/v1/call/f", "Keelback-Sesion: a\r\n").status, 400);
  EXPECT_EQ(ask("POST", "/v1/call/f", "Keelback-Session: a\r\nKeelback-Session: b\r\n").status,
            400);
  RawClient client = connect();
  client.send(
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\n\r\n[]");
  EXPECT_EQ(client.receive().status, 415);
  client.send("POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n[]");
  EXPECT_EQ(client.receive().status, 415) << "the connection is still good; no type is no JSON";
  const auto exact = ask("POST", "/v1/call/f", {}, "\"" + std::string(98, 'x') + "\"");
  EXPECT_EQ(exact.status, 200) << "payload_max itself";
  const auto large = ask("POST", "/v1/call/f", {}, "\"" + std::string(99, 'x') + "\"");
  EXPECT_EQ(large.status, 413);
  EXPECT_EQ(json::parse(large.body)["outcome"], "too_large");
  EXPECT_EQ(json::parse(large.body)["effect"], "none");
  EXPECT_EQ(driver_.seen().size(), 1U);
  EXPECT_EQ(server_->http_rejected(), 6U);
  EXPECT_EQ(json::parse(ask("GET", "/v1/pool").body)["http_rejected"], 6);
}

TEST_F(ServerTest, WrongPathsAndMethodsAreHelpedAlong) {
  start();
  const auto lost = ask("GET", "/v1/sesions");
  EXPECT_EQ(lost.status, 404);
  EXPECT_THAT(json::parse(lost.body)["detail"].get<std::string>(), HasSubstr("/v1/sessions"));
  const auto method = ask("GET", "/v1/call/f");
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.header("allow"), "POST, OPTIONS");
  const auto options = ask("OPTIONS", "/v1/config");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.header("allow"), "GET, HEAD, PATCH, OPTIONS");
  EXPECT_EQ(ask("OPTIONS", "*").status, 204);
  const auto get = ask("GET", "/livez");
  const auto head = ask("HEAD", "/livez");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("content-length"), std::to_string(get.body.size()));
  EXPECT_EQ(ask("HEAD", "/v1/call/f").status, 405);
  EXPECT_EQ(ask("GET", "/v1/../livez").status, 404);
  EXPECT_EQ(ask("GET", "/%2e%2e/etc/passwd").status, 404);
  EXPECT_EQ(ask("BREW", "/livez").status, 405);
}

TEST_F(ServerTest, HealthTellsTheTruth) {
  start();
  EXPECT_EQ(ask("GET", "/livez").status, 200);
  EXPECT_EQ(ask("GET", "/readyz").status, 200);
  driver_.edit([](auto& world) {
    world.pool.stats.ready = false;
    world.pool.stats.reasons = {"worker start failed in step setup"};
  });
  const auto response = ask("GET", "/readyz");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(json::parse(response.body)["reasons"][0], "worker start failed in step setup");
  EXPECT_EQ(ask("GET", "/livez").status, 200) << "alive all the same";
}

// Goal: with a token, health says no more than yes or no to strangers, and all else needs it.
TEST_F(ServerTest, TokenGuardsAllButHealth) {
  config_.value.server.token = "s3cret";
  auto options = quick();
  options.listen = {"0.0.0.0:0"};
  start(options);
  driver_.edit([](auto& world) {
    world.pool.stats.ready = false;
    world.pool.stats.reasons = {"secret path in a traceback"};
  });
  for (const char* target : {"/v1/pool", "/metrics", "/v1/config", "/nothing"}) {
    const auto response = ask("GET", target);
    EXPECT_EQ(response.status, 401) << target;
    EXPECT_EQ(response.header("www-authenticate"), "Bearer");
  }
  EXPECT_EQ(ask("GET", "/v1/pool", "Authorization: Bearer s3cret\r\n").status, 200);
  EXPECT_EQ(ask("GET", "/livez").status, 200);
  EXPECT_EQ(ask("GET", "/readyz").body, R"({"ready":false})");
  EXPECT_THAT(ask("GET", "/readyz", "Authorization: Bearer s3cret\r\n").body,
              HasSubstr("traceback"));
  driver_.on_loop([this] { config_.value.server.token = "new"; });
  EXPECT_EQ(ask("GET", "/v1/pool", "Authorization: Bearer s3cret\r\n").status, 401) << "live";
  EXPECT_EQ(ask("GET", "/v1/pool", "Authorization: Bearer new\r\n").status, 200);
}

// Goal: who may call functions cannot operate the daemon where server.admin_listen names other
// addresses; and a unix socket is open or asks for the token, as server.unix_token says, live.
TEST_F(ServerTest, OperatingRoutesAndUnixSocketsHaveTheirWalls) {
  driver_.on("f", {});
  std::string directory = std::filesystem::temp_directory_path() / "kb_admin_XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  config_.value.server.token = "s3cret";
  config_.value.server.admin_listen = {"unix:" + directory + "/k.sock"};
  start();
  const std::string token = "Authorization: Bearer s3cret\r\n";
  const auto operate = [&](const std::string& headers) {
    RawClient client = RawClient::unix_socket(directory + "/k.sock");
    client.send(request("GET", "/v1/config", headers));
    return client.receive().status;
  };
  for (const char* route :
       {"GET /v1/pool", "GET /v1/cluster", "GET /v1/workers", "POST /v1/workers/1/recycle",
        "GET /v1/sessions", "GET /v1/quarantine", "DELETE /v1/quarantine/1", "GET /v1/config",
        "PATCH /v1/config", "POST /v1/reload", "POST /v1/drain", "GET /v1/providers?names=a",
        "POST /v1/providers/1", "GET /metrics"}) {
    const std::string_view text = route;
    const auto blank = text.find(' ');
    const auto response = ask(text.substr(0, blank), text.substr(blank + 1), token);
    EXPECT_EQ(response.status, 403) << route;
    EXPECT_THAT(response.body, HasSubstr("server.admin_listen")) << route;
  }
  EXPECT_EQ(ask("POST", "/v1/call/f", token, "[1]").status, 200);
  EXPECT_EQ(ask("GET", "/readyz").status, 200);
  EXPECT_EQ(operate(""), 200) << "the socket's permissions decide alone";
  driver_.on_loop([this] { config_.value.server.unix_token = Switch::kOn; });
  EXPECT_EQ(operate(""), 401);
  EXPECT_EQ(operate(token), 200);
  stop();
  std::filesystem::remove_all(directory);
}

TEST_F(ServerTest, DoesNotOpenToTheWorldWithoutAToken) {
  server_.emplace(driver_.loop(), driver_, config_,
                  server::Options{.listen = {"127.0.0.1:0", "0.0.0.0:0"}});
  const auto endpoints = server_->listen();
  ASSERT_FALSE(endpoints);
  EXPECT_THAT(endpoints.error(), HasSubstr("server.token"));
}

TEST_F(ServerTest, ForeignPagesAreRefused) {
  start();
  RawClient client = connect();
  client.send("GET /v1/pool HTTP/1.1\r\nHost: evil.example\r\n\r\n");
  EXPECT_EQ(client.receive().status, 403);
  client.send("GET /v1/pool HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n");
  EXPECT_EQ(client.receive().status, 403);
  client.send(
      fmt::format("GET /v1/pool HTTP/1.1\r\nHost: 127.0.0.1:{0}\r\n"
                  "Origin: http://127.0.0.1:{0}\r\n\r\n",
                  port_));
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(ServerTest, SessionsArePagedAndEnded) {
  driver_.edit([](auto& world) {
    for (const char* id : {"a", "b/c d", "\xC3\xA9"})
      world.sessions.push_back({.id = id, .state = "idle"});
  });
  start();
  json page = json::parse(ask("GET", "/v1/sessions?limit=2").body);
  EXPECT_EQ(page["total"], 3);
  EXPECT_EQ(page["items"].size(), 2U);
  EXPECT_EQ(page["next"], "b/c d");
  page = json::parse(ask("GET", "/v1/sessions?limit=2&after=b%2Fc+d").body);
  EXPECT_EQ(page["items"].size(), 1U);
  EXPECT_FALSE(page.contains("next"));
  EXPECT_EQ(ask("GET", "/v1/sessions?limit=0").status, 400);
  EXPECT_EQ(ask("GET", "/v1/sessions?limit=1001").status, 400);
  EXPECT_EQ(ask("GET", "/v1/sessions?after=%zz").status, 400);
  EXPECT_EQ(ask("DELETE", "/v1/sessions/b%2Fc%20d").status, 204);
  EXPECT_EQ(ask("DELETE", "/v1/sessions/b%2Fc%20d").status, 404);
  EXPECT_EQ(driver_.world().ended_sessions, std::vector<std::string>{"b/c d"});
}

TEST_F(ServerTest, ConfigurationIsReadAndChanged) {
  start();
  const auto before = ask("GET", "/v1/config");
  EXPECT_EQ(before.header("etag"), "\"1\"");
  EXPECT_EQ(json::parse(before.body)["sessions.idle_ttl"], "30m");
  const std::string change = R"({"sessions.idle_ttl":"200ms"})";
  const auto stale = ask("PATCH", "/v1/config", "If-Match: \"7\"\r\n", change);
  EXPECT_EQ(stale.status, 412);
  EXPECT_EQ(stale.header("etag"), "\"1\"");
  const auto wrong = ask("PATCH", "/v1/config", {}, R"({"sessions.idel_ttl":"1s"})");
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(json::parse(wrong.body)["errors"][0]["key"], "sessions.idel_ttl");
  const auto after = ask("PATCH", "/v1/config", "If-Match: \"1\"\r\n", change);
  EXPECT_EQ(after.status, 200);
  EXPECT_EQ(after.header("etag"), "\"2\"");
  EXPECT_EQ(json::parse(after.body)["sessions.idle_ttl"], "200ms");
  RawClient client = connect();
  client.send("PATCH /v1/config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_EQ(client.receive().status, 415);
}

TEST_F(ServerTest, OperatorsRoutes) {
  driver_.edit([](auto& world) {
    host::WorkerInfo worker;
    worker.worker = {1, 5};
    world.workers.push_back(worker);
    world.quarantine.push_back({.fingerprint = 0xabc, .function = "f"});
    world.pool.stats.quarantined = 1;
    world.application = std::make_shared<const Application>(Application{
        .name = "a", .runtime = "r", .health = false, .functions = {{.name = "greet"}}});
  });
  start();
  EXPECT_EQ(json::parse(ask("GET", "/v1/workers").body)[0]["generation"], 5);
  EXPECT_EQ(ask("POST", "/v1/workers/1/recycle").status, 202);
  EXPECT_EQ(ask("POST", "/v1/workers/2/recycle").status, 404);
  EXPECT_EQ(ask("POST", "/v1/workers/x/recycle").status, 404);
  EXPECT_EQ(driver_.world().recycled, std::vector<std::uint32_t>{1});
  EXPECT_EQ(json::parse(ask("GET", "/v1/quarantine").body)["items"][0]["function"], "f");
  EXPECT_EQ(ask("DELETE", "/v1/quarantine/0000000000000abc").status, 204);
  EXPECT_EQ(ask("DELETE", "/v1/quarantine/0000000000000abc").status, 404);
  EXPECT_EQ(json::parse(ask("GET", "/v1/functions").body)["functions"][0]["name"], "greet");
  auto paths = json::parse(ask("GET", "/openapi.json").body)["paths"];
  EXPECT_TRUE(paths.contains("/v1/call/greet"));
  EXPECT_EQ(paths["/v1/config"]["patch"]["requestBody"]["required"], true);
  const json node = paths["/v1/cluster"]["get"]["responses"]["200"]["content"]["application/json"]
                         ["schema"]["properties"]["nodes"]["items"];
  EXPECT_EQ(node["properties"]["url"]["type"], "string");
  EXPECT_EQ(json::parse(ask("POST", "/v1/reload").body)["reloaded"], true);
  driver_.edit([](auto& world) { world.reload_error = "SyntaxError in app.py"; });
  const auto failed = ask("POST", "/v1/reload");
  EXPECT_EQ(failed.status, 500);
  EXPECT_THAT(failed.body, HasSubstr("the old code still serves: SyntaxError"));
}

// Goal: a daemon that is no node says what it would have to be configured with; a node shows
// itself, and what its cluster does not do at the moment while it goes on to serve.
TEST_F(ServerTest, ANodeShowsItsCluster) {
  start();
  const auto alone = ask("GET", "/v1/cluster");
  EXPECT_EQ(alone.status, 404);
  EXPECT_THAT(json::parse(alone.body)["detail"], HasSubstr("cluster.store is not set"));
  EXPECT_THAT(ask("GET", "/metrics").body, Not(HasSubstr("keelback_cluster_")));
  driver_.edit([](auto& world) {
    world.cluster.emplace();
    world.cluster->node = "a";
    world.cluster->phase = "member";
    world.cluster->database_up = true;
    world.cluster->serves_sessions = true;
    world.cluster->nodes = {{.name = "a"}, {.name = "b", .url = "http://b", .draining = true}};
  });
  const json shown = json::parse(ask("GET", "/v1/cluster").body);
  EXPECT_EQ(shown["node"], "a");
  EXPECT_EQ(shown["nodes"][1]["url"], "http://b");
  EXPECT_FALSE(json::parse(ask("GET", "/readyz").body).contains("degraded"));
  EXPECT_EQ(json::parse(ask("GET", "/v1/pool").body)["degraded"], json::array());
  EXPECT_THAT(ask("GET", "/metrics").body, HasSubstr("keelback_cluster_database_up 1\n"));

  driver_.edit([](auto& world) {
    world.cluster->database_up = false;
    world.cluster->trouble = "no route to host";
  });
  const auto health = ask("GET", "/readyz");
  EXPECT_EQ(health.status, 200) << "calls without a session are served";
  EXPECT_THAT(json::parse(health.body)["degraded"][0], HasSubstr("no route to host"));
  EXPECT_EQ(json::parse(ask("GET", "/v1/pool").body)["degraded"],
            json::parse(health.body)["degraded"]);
  EXPECT_THAT(ask("GET", "/metrics").body, HasSubstr("keelback_cluster_database_up 0\n"));
}

// Goal: /metrics and /v1/pool tell the same story as the calls that were made.
TEST_F(ServerTest, MetricsAgreeWithThePool) {
  driver_.on("f", {.outcome = answer("1")});
  start();
  for (int i = 0; i < 3; ++i) ask("POST", "/v1/call/f");
  ask("POST", "/v1/call/nobody");
  const auto metrics = ask("GET", "/metrics");
  EXPECT_EQ(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(metrics.body, HasSubstr("keelback_calls_total{outcome=\"ok\"} 3\n"));
  EXPECT_THAT(metrics.body, HasSubstr("keelback_calls_total{outcome=\"unknown_function\"} 1\n"));
  EXPECT_THAT(metrics.body, HasSubstr("keelback_calls_accepted_total 4\n"));
  EXPECT_THAT(metrics.body,
              HasSubstr("keelback_call_seconds_count{function=\"f\",stage=\"run\"} 3\n"));
  const json calls = json::parse(ask("GET", "/v1/pool").body)["calls"];
  EXPECT_EQ(calls["accepted"], 4);
  EXPECT_EQ(calls["ok"], 3);
}

// Goal: a call in flight can be cancelled by the name its caller gave it.
TEST_F(ServerTest, CallsAreCancelledByName) {
  driver_.on("slow", {.hold = true});
  start();
  RawClient client = connect();
  client.send(request("POST", "/v1/call/slow", "Keelback-Call: job-7\r\n"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  EXPECT_EQ(ask("POST", "/v1/call/slow", "Keelback-Call: job-7\r\n").status, 409)
      << "one at a time";
  EXPECT_EQ(ask("DELETE", "/v1/calls/job-7").status, 202);
  const auto response = client.receive();
  EXPECT_EQ(response.status, 499);
  EXPECT_EQ(response.header("keelback-call"), "job-7");
  EXPECT_EQ(ask("DELETE", "/v1/calls/job-7").status, 404);
  client.send(request("POST", "/v1/call/slow"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 2; }));
  EXPECT_EQ(ask("DELETE", "/v1/calls/2").status, 202) << "or by its number";
  EXPECT_EQ(client.receive().status, 499);
  EXPECT_EQ(ask("DELETE", "/v1/calls/0").status, 404);
}

// Goal: a drain lets every call finish and lets nobody in afterwards.
TEST_F(ServerTest, DrainFinishesWhatRunsAndStopClosesTheDoors) {
  driver_.on("slow", {.hold = true});
  start();
  RawClient running = connect();
  running.send(request("POST", "/v1/call/slow"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  RawClient idle = connect();
  idle.send(request("GET", "/livez"));
  EXPECT_EQ(idle.receive().header("connection"), "");

  EXPECT_EQ(ask("POST", "/v1/drain").status, 202);
  EXPECT_EQ(driver_.world().drains, 1);
  const auto late = ask("GET", "/readyz");
  EXPECT_EQ(late.status, 503) << "newcomers are told";
  EXPECT_EQ(late.header("connection"), "close");

  std::promise<void> stopped;
  server_->stop(10s, [&] { stopped.set_value(); });
  EXPECT_TRUE(idle.at_end());
  auto done = stopped.get_future();
  EXPECT_EQ(done.wait_for(0s), std::future_status::timeout) << "a call runs";
  driver_.finish(CallId{1}, answer("\"finished\""));
  const auto response = running.receive();
  EXPECT_EQ(response.body, "\"finished\"");
  EXPECT_EQ(response.header("connection"), "close");
  EXPECT_TRUE(running.at_end());
  ASSERT_EQ(done.wait_for(10s), std::future_status::ready);
  EXPECT_FALSE(connect().connected());
}

// Goal: a client whose request is under way when the server stops gets a reply, never a connection
// that ends without one. The request may still be in the kernel's queue of new connections, may
// have arrived in part, or may not have been sent yet.
TEST_F(ServerTest, AStopAnswersTheRequestsThatAreUnderWay) {
  start();
  RawClient half = connect(), silent = connect();
  half.send("GET /readyz HTTP/1.1\r\n");
  EXPECT_EQ(ask("GET", "/livez").status, 200);  // after it both connections have been accepted

  std::promise<void> held, go_on, stopped;
  boost::asio::post(driver_.loop(), [&] {
    held.set_value();
    go_on.get_future().wait();
  });
  held.get_future().wait();
  RawClient queued = connect();
  queued.send(request("GET", "/readyz"));
  server_->stop(1h, [&] { stopped.set_value(); });
  go_on.set_value();
  half.send("Host: localhost\r\n\r\n");
  silent.send(request("GET", "/readyz"));

  for (RawClient* each : {&queued, &half, &silent}) {
    const auto reply = each->receive();
    EXPECT_EQ(reply.status, 503);
    EXPECT_EQ(reply.header("connection"), "close");
    EXPECT_TRUE(each->at_end());
  }
  EXPECT_EQ(stopped.get_future().wait_for(10s), std::future_status::ready);
}

// Goal: the log names who was refused and who gave an order, and takes a proxy's word only if it is
// trusted.
TEST_F(ServerTest, TheLogNamesTheClient) {
  std::mutex mutex;
  std::vector<std::string> said;
  server::Options options = quick();
  options.log = [&](LogLevel level, const std::string& text) {
    const std::lock_guard lock(mutex);
    said.push_back(std::string(level == LogLevel::kWarn ? "warn " : "info ") + text);
  };
  config_.value.server.trusted_proxies = {"10.0.0.0/8"};
  start(options);
  const std::string list = "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n";
  EXPECT_EQ(ask("POST", "/v1/drain", list).status, 202);
  EXPECT_EQ(ask("GET", "/v1/pool", "Origin: http://evil.example\r\n").status, 403);
  EXPECT_EQ(ask("GET", "/v1/pool").status, 200);
  stop();
  EXPECT_THAT(said, ::testing::ElementsAre("info POST /v1/drain of 127.0.0.1.",
                                           "warn GET /v1/pool of 127.0.0.1 is refused with 403."));
  said.clear();
  config_.value.server.trusted_proxies = {"127.0.0.1"};
  start(options);
  EXPECT_EQ(ask("POST", "/v1/drain", list).status, 202);
  for (int i = 0; i < 50; ++i) ask("GET", "/v1/pool", "Origin: http://evil.example\r\n");
  const auto told = [&] {  // refusals that the log has, by line or in a sum
    const std::lock_guard lock(mutex);
    int sum = 0;
    for (const std::string& line : said) {
      if (line.ends_with("is refused with 403.")) ++sum;
      if (line.ends_with("more requests were refused.")) sum += std::stoi(line.substr(5));
    }
    return sum;
  };
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (told() < 50 && std::chrono::steady_clock::now() < end) ask("GET", "/livez");
  EXPECT_EQ(told(), 50);
  stop();
  EXPECT_EQ(said[0], "info POST /v1/drain of 192.0.2.1.");
}

// Goal: whoever is told twice to stop obeys the less patient one, and both hear of the end.
TEST_F(ServerTest, ASecondStopShortensTheFirst) {
  driver_.on("stuck", {.hold = true});
  start();
  RawClient client = connect();
  client.send(request("POST", "/v1/call/stuck"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  std::promise<void> patient;
  std::promise<void> impatient;
  server_->stop(1h, [&] { patient.set_value(); });
  server_->stop(0s, [&] { impatient.set_value(); });
  EXPECT_EQ(patient.get_future().wait_for(10s), std::future_status::ready);
  EXPECT_EQ(impatient.get_future().wait_for(10s), std::future_status::ready);
  EXPECT_TRUE(client.at_end());
  server_.reset();
}

TEST_F(ServerTest, StopDoesNotWaitBeyondItsLimit) {
  driver_.on("stuck", {.hold = true});
  start();
  RawClient client = connect();
  client.send(request("POST", "/v1/call/stuck"));
  ASSERT_TRUE(driver_.wait([](const auto& seen) { return seen.size() == 1; }));
  stop(30ms);
  EXPECT_TRUE(client.at_end());
}

// Goal: the Unix socket serves its owner without a token, and is gone after the stop.
TEST_F(ServerTest, ServesUnixSocketsAndSeveralAddresses) {
  driver_.on("f", {});
  config_.value.server.token = "s3cret";
  std::string directory = std::filesystem::temp_directory_path() / "kb_server_XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/k.sock";
  auto options = quick();
  options.listen = {"127.0.0.1:0", "unix:" + path, "127.0.0.1:0"};
  start(options);
  RawClient client = RawClient::unix_socket(path);
  ASSERT_TRUE(client.connected());
  client.send(request("POST", "/v1/call/f", {}, "[7]"));
  EXPECT_EQ(client.receive().body, "[7]");
  stop();
  EXPECT_FALSE(std::filesystem::exists(path));
  std::filesystem::remove_all(directory);
}

// Goal: HTTP/1.0 clients get what they can understand.
TEST_F(ServerTest, SpeaksHttp10) {
  driver_.on("f", {});
  start();
  RawClient client = connect();
  client.send("POST /v1/call/f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(client.receive().header("connection"), "keep-alive");
  client.send("POST /v1/call/f HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_TRUE(client.at_end());
}

}  // namespace
}  // namespace keelback::testing
