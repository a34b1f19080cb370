#include "bench/http_load.h"

#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "bench/http_client.h"

namespace keelback::bench {

using Clock = std::chrono::steady_clock;

std::expected<HttpFigures, std::string> run_http(const HttpLoad& load) {
  const std::string request = http_request(load.port, load.path, load.body, load.session);
  std::mutex mutex;
  HttpFigures sum;
  std::string error;
  const auto began = Clock::now();
  const auto run = [&] {
    HttpFigures own;
    std::string why;
    std::optional<HttpConnection> connection;
    for (auto before = Clock::now(); before - began < load.length;) {
      if (!connection || load.reconnect) {
        auto opened = HttpConnection::open(load.port);
        if (!opened) {
          why = opened.error();
          break;
        }
        connection = std::move(*opened);
      }
      const int status = connection->exchange(request);
      const auto after = Clock::now();
      if (status == 0) {
        why = "the connection broke";
        break;
      }
      ++(status == 200 ? own.ok : own.other);
      own.latency.record(after - before);
      before = after;
    }
    std::lock_guard lock(mutex);
    sum.latency.merge(own.latency);
    sum.ok += own.ok;
    sum.other += own.other;
    if (!why.empty()) error = why;
  };
  {
    std::vector<std::jthread> threads;
    for (std::uint32_t i = 0; i < load.callers; ++i) threads.emplace_back(run);
  }
  sum.took = Clock::now() - began;
  if (!error.empty()) return std::unexpected(error);
  return sum;
}

}  // namespace keelback::bench
