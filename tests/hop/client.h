// A HopClient on a loop of its own, used from the thread of a test.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/event_loop.h"
#include "nodes/hop_client.h"

namespace keelback::testing {

class Client {
 public:
  using HopId = nodes::HopClient::HopId;
  using Options = nodes::HopClient::Options;

  explicit Client(Options options = {}, std::string token = "shared") {
    loop_.run([&] {
      client_.emplace(loop_.context(), nodes::Sender{"node-a", std::move(token)}, options);
    });
  }
  ~Client() {
    loop_.run([&] { client_.reset(); });
  }

  struct Ask {
    Call call;
    std::optional<Duration> limit = {};
    bool stream = false;
  };
  HopId send(const std::string& url, Ask ask) {
    HopId id = 0;
    loop_.run([&] {
      const std::uint64_t key = ++last_key_;
      nodes::HopClient::OnItem item;
      if (ask.stream) item = [this, key](std::string&& text) { take(key, std::move(text)); };
      id = client_->send(url, std::move(ask.call), ask.limit, std::move(item),
                         [this, key](nodes::HopResult&& result) { take(key, std::move(result)); });
      const std::lock_guard lock(mutex_);
      keys_[id] = key;
    });
    return id;
  }
  HopId end_session(const std::string& url, const std::string& session) {
    HopId id = 0;
    loop_.run([&] {
      const std::uint64_t key = ++last_key_;
      id = client_->end_session(
          url, session, std::chrono::seconds(10),
          [this, key](nodes::HopResult&& result) { take(key, std::move(result)); });
      const std::lock_guard lock(mutex_);
      keys_[id] = key;
    });
    return id;
  }
  void grant(HopId hop, std::uint32_t items) {
    loop_.run([&] { client_->grant(hop, items); });
  }
  void cancel(HopId hop) {
    loop_.run([&] { client_->cancel(hop); });
  }
  void give_up(HopId hop) {
    loop_.run([&] { client_->give_up(hop, "the node was retired"); });
  }
  void forget(const std::string& url) {
    loop_.run([&] { client_->forget(url); });
  }
  nodes::HopClient::Use use(const std::string& url) {
    nodes::HopClient::Use use;
    loop_.run([&] { use = client_->use(url); });
    return use;
  }
  void destroy() {
    loop_.run([&] { client_.reset(); });
  }

  // Blocks until the result is there; nullopt after 10 s.
  std::optional<nodes::HopResult> result(HopId hop) {
    std::unique_lock lock(mutex_);
    const auto key = keys_.at(hop);
    if (!changed_.wait_for(lock, std::chrono::seconds(10),
                           [&] { return results_.contains(key); })) {
      return std::nullopt;
    }
    return results_.at(key);
  }
  // Sends it, and waits for the result.
  nodes::HopResult ask(const std::string& url, Ask ask) {
    const auto got = result(send(url, std::move(ask)));
    return got ? *got : nodes::HopResult{.why = "no result came within 10 s"};
  }
  // Blocks until so many items are there; false after 10 s.
  bool wait_items(HopId hop, std::size_t count) {
    std::unique_lock lock(mutex_);
    const auto key = keys_.at(hop);
    return changed_.wait_for(lock, std::chrono::seconds(10),
                             [&] { return items_[key].size() >= count; });
  }
  std::vector<std::string> items(HopId hop) {
    const std::lock_guard lock(mutex_);
    return items_[keys_.at(hop)];
  }
  std::size_t results() {
    const std::lock_guard lock(mutex_);
    return results_.size();
  }

 private:
  void take(std::uint64_t key, std::string&& item) {
    const std::lock_guard lock(mutex_);
    items_[key].push_back(std::move(item));
    changed_.notify_all();
  }
  void take(std::uint64_t key, nodes::HopResult&& result) {
    const std::lock_guard lock(mutex_);
    EXPECT_TRUE(results_.emplace(key, std::move(result)).second) << "one result for each call";
    changed_.notify_all();
  }

  host::EventLoop loop_;
  std::optional<nodes::HopClient> client_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t last_key_ = 0;
  std::map<HopId, std::uint64_t> keys_;
  std::map<std::uint64_t, std::vector<std::string>> items_;
  std::map<std::uint64_t, nodes::HopResult> results_;
};

}  // namespace keelback::testing
