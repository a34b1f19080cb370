// The whole stack but processes: HTTP over the real pool on the simulator, with the real
// configuration. Time is the test's; only the sockets are real.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>

#include "api/config.h"
#include "server/server.h"
#include "server/store_config.h"
#include "simdriver/sim_driver.h"
#include "support/raw_client.h"

namespace keelback::server {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::HasSubstr;
using testing::RawClient;
using testing::RawResponse;

class ServerSimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = api::ConfigStore::load({});
    ASSERT_TRUE(store);
    sim::Simulation::Options options;
    options.settings = store->settings();
    driver_.emplace(loop_, std::move(options), simdriver::SimDriver::Pace::kManual);
    config_.emplace(std::move(*store),
                    [this](const Settings& settings) { driver_->configure(settings); });
    server_.emplace(loop_.context(), *driver_, *config_, Options{.listen = {"127.0.0.1:0"}});
    const auto endpoints = server_->listen();
    ASSERT_TRUE(endpoints) << endpoints.error();
    port_ = endpoints->front().port;
    driver_->advance(10s);  // workers are up
  }
  void TearDown() override {
    std::promise<void> stopped;
    server_->stop(1s, [&] { stopped.set_value(); });
    ASSERT_EQ(stopped.get_future().wait_for(10s), std::future_status::ready);
    server_.reset();
    driver_.reset();
  }
  // Sends, moves time until the pool has nothing in flight that this request put there, receives.
  RawResponse ask(std::string_view method, std::string_view target, std::string_view headers = {},
                  std::string_view body = {}) {
    RawClient client = RawClient::tcp(port_);
    client.send(
        fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    "Content-Length: {}\r\n{}\r\n{}",
                    method, target, body.size(), headers, body));
    if (target.starts_with("/v1/call/")) {
      ++calls_;
      const auto ended = [this] {
        const auto stats = driver_->info().stats;
        return stats.accepted == calls_ && stats.in_flight == 0;
      };
      const auto real_limit = std::chrono::steady_clock::now() + 10s;
      while (!ended() && std::chrono::steady_clock::now() < real_limit) driver_->advance(1ms);
    }
    return client.receive();
  }

  host::EventLoop loop_;
  std::optional<simdriver::SimDriver> driver_;
  std::optional<StoreConfig> config_;
  std::optional<Server> server_;
  std::uint16_t port_ = 0;
  std::uint64_t calls_ = 0;
};

// Goal: the pool's answers arrive as HTTP says they should.
TEST_F(ServerSimTest, CallsReachTheRealPool) {
  const auto echo = ask("POST", "/v1/call/echo", "Keelback-Session: ann\r\n", R"(["hi"])");
  EXPECT_EQ(echo.status, 200);
  EXPECT_EQ(echo.body, R"("hi")");
  EXPECT_EQ(echo.header("keelback-epoch"), "1");
  EXPECT_EQ(echo.header("keelback-birth").size(), 16U);
  const auto stale = ask("POST", "/v1/call/echo",
                         fmt::format("Keelback-Session: ann\r\nKeelback-Expect-Epoch: {}.2\r\n",
                                     echo.header("keelback-birth")),
                         "[1]");
  EXPECT_EQ(stale.status, 409);
  EXPECT_EQ(json::parse(stale.body)["outcome"], "stale_epoch");
  const auto unknown = ask("POST", "/v1/call/nobody");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(json::parse(unknown.body)["outcome"], "unknown_function");
  const auto late = ask("POST", "/v1/call/sleep", "Keelback-Deadline-Ms: 20\r\n", "[5000]");
  EXPECT_EQ(late.status, 504);
  EXPECT_EQ(json::parse(late.body)["outcome"], "timeout");
  EXPECT_TRUE(json::parse(ask("GET", "/openapi.json").body)["paths"].contains("/v1/call/echo"));
  EXPECT_EQ(ask("GET", "/readyz").status, 200);
}

// Goal: sessions.idle_ttl, changed while sessions live, is what expires them: in the next call, in
// listings, in statistics and in metrics, all of which agree.
TEST_F(ServerSimTest, TheRuntimeTimeoutIsObeyed) {
  for (const char* session : {"ann", "bob"}) {
    ASSERT_EQ(
        ask("POST", "/v1/call/count", fmt::format("Keelback-Session: {}\r\n", session)).status,
        200);
  }
  EXPECT_EQ(json::parse(ask("GET", "/v1/sessions").body)["total"], 2);
  const auto etag = ask("GET", "/v1/config").header("etag");
  const auto patched = ask("PATCH", "/v1/config", fmt::format("If-Match: {}\r\n", etag),
                           R"({"sessions.idle_ttl":"200ms"})");
  ASSERT_EQ(patched.status, 200) << patched.body;
  EXPECT_NE(patched.header("etag"), etag);
  driver_->advance(250ms);
  EXPECT_EQ(json::parse(ask("GET", "/v1/sessions").body)["total"], 0);
  const json pool = json::parse(ask("GET", "/v1/pool").body);
  EXPECT_EQ(pool["sessions"]["active"], 0);
  EXPECT_EQ(pool["sessions"]["expired"], 2);
  const auto metrics = ask("GET", "/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("keelback_sessions_active 0\n"));
  EXPECT_THAT(metrics, HasSubstr("keelback_sessions_total{event=\"expired\"} 2\n"));
  const auto expired = ask("POST", "/v1/call/count", "Keelback-Session: ann\r\n");
  EXPECT_EQ(expired.status, 410);
  EXPECT_EQ(json::parse(expired.body)["outcome"], "session_expired");
  EXPECT_EQ(ask("PATCH", "/v1/config", {}, R"({"sessions.idle_ttl":"5m"})").status, 200);
  EXPECT_EQ(ask("POST", "/v1/call/count", "Keelback-Session: ann\r\n").body, "1") << "born anew";
  driver_->advance(1min);
  EXPECT_EQ(ask("POST", "/v1/call/count", "Keelback-Session: ann\r\n").body, "2") << "and alive";
}

TEST_F(ServerSimTest, WrongChangesChangeNothing) {
  const auto before = ask("GET", "/v1/config");
  for (const char* body : {R"({"sessions.idel_ttl":"1s"})", R"({"sessions.idle_ttl":"soon"})",
                           R"({"sessions.idle_ttl":"1s","pool.backend":"fake"})", "[]", "{"}) {
    const auto response = ask("PATCH", "/v1/config", {}, body);
    EXPECT_EQ(response.status, 400) << body;
    EXPECT_FALSE(json::parse(response.body)["errors"].empty()) << body;
  }
  EXPECT_EQ(ask("PATCH", "/v1/config", "If-Match: \"0-0\"\r\n", "{}").status, 412);
  EXPECT_EQ(ask("GET", "/v1/config").header("etag"), before.header("etag"));
}

// Goal: after refusals and successes the sums hold, in one reply.
TEST_F(ServerSimTest, CountersAddUp) {
  for (int i = 0; i < 30; ++i) {
    ask("POST", i % 3 == 0 ? "/v1/call/nobody" : "/v1/call/echo", {}, "[1]");
  }
  const json calls = json::parse(ask("GET", "/v1/pool").body)["calls"];
  std::uint64_t sum = 0;
  for (const auto& [name, count] : calls.items()) {
    if (name != "accepted") sum += count.get<std::uint64_t>();
  }
  EXPECT_EQ(sum, calls["accepted"]);
  EXPECT_EQ(calls["accepted"], 30);
  EXPECT_EQ(calls["unknown_function"], 10);
}

}  // namespace
}  // namespace keelback::server
