// Calls to a node with the real pool on the simulator: HTTP, configuration and core are those of
// the daemon.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>

#include "api/config.h"
#include "hop/client.h"
#include "server/server.h"
#include "server/store_config.h"
#include "simdriver/sim_driver.h"

namespace keelback {
namespace {

using namespace std::chrono_literals;
using nodes::HopResult;
using testing::Client;

class HopSimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = api::ConfigStore::load({.environment = {{"KEELBACK_CLUSTER_TOKEN", "shared"}}});
    ASSERT_TRUE(store);
    sim::Simulation::Options options;
    options.settings = store->settings();
    driver_.emplace(loop_, std::move(options));
    config_.emplace(std::move(*store),
                    [this](const Settings& settings) { driver_->configure(settings); });
    server_.emplace(loop_.context(), *driver_, *config_,
                    server::Options{.listen = {"127.0.0.1:0"}});
    const auto endpoints = server_->listen();
    ASSERT_TRUE(endpoints) << endpoints.error();
    url_ = fmt::format("http://127.0.0.1:{}", endpoints->front().port);
  }
  void TearDown() override {
    std::promise<void> stopped;
    server_->stop(1s, [&] { stopped.set_value(); });
    ASSERT_EQ(stopped.get_future().wait_for(10s), std::future_status::ready);
    server_.reset();
    driver_.reset();
  }

  host::EventLoop loop_;
  std::optional<simdriver::SimDriver> driver_;
  std::optional<server::StoreConfig> config_;
  std::optional<server::Server> server_;
  std::string url_;
  Client client_;
};

// Goal: a session lives on at its node from hop to hop, and what the core refuses comes back typed.
TEST_F(HopSimTest, ASessionIsServedByItsNode) {
  const Call count{.function = "count", .session = "ann", .deadline = 10s};
  const HopResult first = client_.ask(url_, {count});
  ASSERT_EQ(first.end, HopResult::End::kOutcome) << first.why;
  ASSERT_EQ(first.outcome.kind, OutcomeKind::kOk) << first.outcome.message;
  const HopResult second = client_.ask(url_, {count});
  EXPECT_EQ(first.outcome.payload, "1");
  EXPECT_EQ(second.outcome.payload, "2");
  EXPECT_NE(first.outcome.birth, 0U);
  EXPECT_EQ(second.outcome.birth, first.outcome.birth);
  EXPECT_EQ(second.outcome.worker, first.outcome.worker);
  EXPECT_EQ(second.outcome.epoch, 1U);

  Call stale = count;
  stale.expect_epoch = Fence{.birth = first.outcome.birth, .epoch = 2};
  EXPECT_EQ(client_.ask(url_, {stale}).outcome.kind, OutcomeKind::kStaleEpoch);
  const HopResult unknown = client_.ask(url_, {{.function = "nobody", .session = "ann"}});
  EXPECT_EQ(unknown.outcome.kind, OutcomeKind::kUnknownFunction);
  EXPECT_EQ(unknown.outcome.effect, Effect::kNone);
  const HopResult late =
      client_.ask(url_, {{.function = "sleep", .payload = "[5000]", .deadline = 30ms}});
  EXPECT_EQ(late.outcome.kind, OutcomeKind::kTimeout);
}

// Goal: a cancel ends the call at its node.
TEST_F(HopSimTest, ACallIsCancelledAtItsNode) {
  const auto hop = client_.send(
      url_, {{.function = "pause", .payload = "[60000]", .session = "ann", .deadline = 60s}});
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (driver_->info().stats.workers.busy == 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  client_.cancel(hop);
  const auto result = client_.result(hop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->end, HopResult::End::kOutcome) << result->why;
  EXPECT_EQ(result->outcome.kind, OutcomeKind::kCancelled);
}

}  // namespace
}  // namespace keelback
