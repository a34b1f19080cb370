// A server on a scripted driver, on a loopback port of its own, stopped after each test.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <string_view>

#include "server/server.h"
#include "support/raw_client.h"
#include "support/scripted_driver.h"

namespace keelback::testing {

using namespace std::chrono_literals;

// The configuration as a struct; patches set `sessions.idle_ttl` only, to "200ms" only.
class PlainConfig final : public server::ConfigPort {
 public:
  const Settings& settings() override { return value; }
  Document document() override {
    return {R"({"sessions.idle_ttl":")" +
                std::string(value.sessions.idle_ttl == 200ms ? "200ms" : "30m") + R"("})",
            std::to_string(version)};
  }
  std::expected<Document, PatchError> patch(std::string_view flat,
                                            std::optional<std::string_view> if_match) override {
    if (if_match && *if_match != std::to_string(version)) {
      return std::unexpected(PatchError{PatchError::Kind::kStale, {}});
    }
    if (flat != R"({"sessions.idle_ttl":"200ms"})") {
      return std::unexpected(PatchError{PatchError::Kind::kInvalid, {{"sessions.idel_ttl", "no"}}});
    }
    value.sessions.idle_ttl = 200ms;
    ++version;
    return document();
  }

  Settings value;
  int version = 1;
};

class ServerFixture : public ::testing::Test {
 protected:
  // Quick enough that a test may wait for a timeout to pass; the server measures them by its tick.
  static server::Options quick() {
    server::Options options;
    options.listen = {"127.0.0.1:0"};
    options.tick = 10ms;
    options.linger = 200ms;
    return options;
  }
  void start(server::Options options = quick()) {
    server_.emplace(driver_.loop(), driver_, config_, std::move(options));
    const auto endpoints = server_->listen();
    ASSERT_TRUE(endpoints) << endpoints.error();
    port_ = endpoints->front().port;
  }
  void stop(Duration limit = 2s) {
    if (!server_) return;
    std::promise<void> stopped;
    server_->stop(limit, [&] { stopped.set_value(); });
    ASSERT_EQ(stopped.get_future().wait_for(10s), std::future_status::ready);
    server_.reset();
  }
  void TearDown() override { stop(50ms); }

  RawClient connect() { return RawClient::tcp(port_); }
  static std::string request(std::string_view method, std::string_view target,
                             std::string_view headers = {}, std::string_view body = {}) {
    std::string text =
        fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}", method, target, headers);
    if (!body.empty()) {
      text += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
    }
    return text + "\r\n" + std::string(body);
  }
  RawResponse ask(std::string_view method, std::string_view target, std::string_view headers = {},
                  std::string_view body = {}) {
    RawClient client = connect();
    client.send(request(method, target, headers, body));
    return client.receive(method == "HEAD");
  }

  // Asks for /metrics, on connections of its own, until the line is there; false after 10 s.
  bool wait_for_metric(const std::string& line) {
    const auto end = std::chrono::steady_clock::now() + 10s;
    while (std::chrono::steady_clock::now() < end) {
      RawClient client = connect();
      client.send(request("GET", "/metrics", "Connection: close\r\n"));
      if (client.receive().body.find("\n" + line) != std::string::npos) return true;
    }
    return false;
  }

  ScriptedDriver driver_;
  PlainConfig config_;  // on the loop thread once the server listens: change it with on_loop
  std::optional<server::Server> server_;
  std::uint16_t port_ = 0;
};

}  // namespace keelback::testing
