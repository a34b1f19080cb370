// The part of a connection whose client provides functions to Python code: GET /v1/providers. The
// client is asked on its stream, and answers with requests of its own, on other connections.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <memory>
#include <utility>

#include "base/json_text.h"
#include "server/connection.h"
#include "server/providing.h"
#include "server/sse.h"

namespace keelback::server {
namespace {

constexpr std::string_view kStops = ": the server stops\n\n";

// Takes to the loop what the driver says on any thread, in the order in which it says it. The
// connection may have gone by then.
class Client final : public host::Provider {
 public:
  Client(boost::asio::io_context& loop, std::weak_ptr<Connection> connection)
      : loop_(boost::asio::make_strand(loop)), connection_(std::move(connection)) {}

  void asked(host::HostRequest request) override {
    boost::asio::post(loop_, [to = connection_, request = std::move(request)]() mutable {
      if (const auto connection = to.lock()) connection->on_asked(std::move(request));
    });
  }
  void cancelled(std::uint64_t request) override {
    boost::asio::post(loop_, [to = connection_, request] {
      if (const auto connection = to.lock()) connection->on_cancelled(request);
    });
  }

 private:
  const boost::asio::strand<Executor> loop_;
  const std::weak_ptr<Connection> connection_;
};

}  // namespace

void Connection::provide(std::vector<std::string> names) {
  // The stop has told those that provide. It does not look at them again before its limit.
  if (hub_->stopping()) return reply(problem(503, "stopping", "the server stops"));
  open_stream();
  // The head goes out at once. Whoever has read it knows that the names are provided.
  stream_->pending = kHeartbeat;
  hub_->provided.names += names.size();
  providing_ = std::make_unique<Providing>();
  providing_->names = names.size();
  providing_->id = hub_->driver.provide(std::move(names),
                                        std::make_shared<Client>(hub_->loop, weak_from_this()));
  flush_stream();
}

void Connection::on_asked(host::HostRequest&& request) {
  if (!providing_) return;  // withdrawn: whoever waits has heard so
  if (!is_json(request.arguments)) {
    ++hub_->provided.failed;
    static_cast<void>(hub_->driver.answer(
        request.id,
        {.ok = false, .error_type = "ValueError", .error_message = "the arguments are not JSON"}));
    return;
  }
  providing_->open.insert(request.id);
  hub_->host_requests.emplace(request.id, this);
  const std::size_t unsent =
      stream_->pending.size() + (stream_->writing ? stream_->wire.size() : std::size_t{0});
  // The client does not read, or reads too slowly: it is as good as gone.
  if (unsent > hub_->options.provider_unsent_max) return client_left();
  append_request_event(stream_->pending, request, request.deadline - hub_->driver.now());
  flush_stream();
}

void Connection::on_cancelled(std::uint64_t request) {
  // It may cross an answer.
  if (!providing_ || providing_->open.erase(request) == 0) return;
  hub_->host_requests.erase(request);
  ++hub_->provided.cancelled;
  append_cancel_event(stream_->pending, request);
  flush_stream();
}

void Connection::on_answered(std::uint64_t request) {
  hub_->host_requests.erase(request);
  if (providing_) providing_->open.erase(request);
}

void Connection::stop_providing() {
  const auto last = std::exchange(providing_, nullptr);
  if (!last) return;
  for (const std::uint64_t request : last->open) hub_->host_requests.erase(request);
  hub_->provided.names -= last->names;
  hub_->provided.gone += last->open.size();
  hub_->driver.withdraw(last->id);
  hub_->log_order(fmt::format("{} {} has ended; open requests: {}.", request_.method,
                              request_.target.substr(0, kLoggedTarget), last->open.size()));
}

void Connection::end_providing() {
  stop_providing();
  stream_->pending += kStops;
  stream_->ended = true;
  flush_stream();
}

}  // namespace keelback::server
