#include "chaos/nodes/clients.h"

#include <fmt/format.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <memory>
#include <optional>

#include "nodes/hop_text.h"

namespace keelback::chaos {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

struct Exchanged {
  bool connected = false;
  std::optional<Response> response;  // none: the connection broke, or the time was over
  std::string why;
};

asio::awaitable<Exchanged> exchange(asio::io_context& loop, std::uint16_t port,
                                    const Request& request, Duration limit) {
  Exchanged out;
  error_code ec;
  const auto token = [&ec] { return asio::redirect_error(asio::use_awaitable, ec); };
  beast::tcp_stream stream(loop);
  stream.expires_after(limit);
  co_await stream.async_connect(asio::ip::tcp::endpoint(asio::ip::make_address("127.0.0.1"), port),
                                token());
  if (!ec) {
    out.connected = true;
    co_await http::async_write(stream, request, token());
  }
  if (!ec) {
    beast::flat_buffer buffer;
    Response response;
    co_await http::async_read(stream, buffer, response, token());
    if (!ec) out.response = std::move(response);
  }
  if (ec) out.why = ec.message();
  co_return out;
}

Request request_for(const Call& call) {
  Request request(http::verb::post, "/v1/call/" + call.function, 11);
  request.set(http::field::host, "127.0.0.1");
  request.set(http::field::content_type, "application/json");
  request.keep_alive(false);
  if (!call.session.empty()) request.set("Keelback-Session", call.session);
  if (call.idempotent) request.set("Keelback-Idempotent", "true");
  if (call.deadline) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(*call.deadline).count();
    request.set("Keelback-Deadline-Ms", std::to_string(ms));
  }
  request.body() = call.payload;
  request.prepare_payload();
  return request;
}

std::optional<Outcome> outcome_of(Response&& response) {
  nodes::ReplyHead head{.status = static_cast<int>(response.result_int())};
  for (const auto& field : response) {
    std::string name(field.name_string());
    for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    head.fields.emplace_back(std::move(name), std::string(field.value()));
  }
  nodes::Answer answer = nodes::read_reply(head, std::move(response.body()));
  if (answer.kind != nodes::Answer::Kind::kOutcome) return std::nullopt;
  return std::move(answer.outcome);
}

asio::awaitable<void> carry(asio::io_context& loop, std::vector<std::uint16_t> ports, Call call,
                            std::vector<std::uint32_t> nodes, Duration limit,
                            std::move_only_function<void(Clients::Answer&&)> done) {
  const Request request = request_for(call);
  Clients::Answer answer;
  answer.outcome.kind = OutcomeKind::kNotReady;
  answer.outcome.message = "no node takes connections";
  for (const std::uint32_t node : nodes) {
    answer.node = node;
    Exchanged exchanged = co_await exchange(loop, ports[answer.node], request, limit);
    if (!exchanged.connected) continue;
    std::optional<Outcome> outcome;
    if (exchanged.response) outcome = outcome_of(std::move(*exchanged.response));
    if (!outcome) {
      answer.broke = true;
      answer.outcome = {.kind = OutcomeKind::kWorkerDied,
                        .effect = Effect::kMaybe,
                        .message = fmt::format(
                            "the connection to the node broke: {}",
                            exchanged.why.empty() ? "its reply is no outcome" : exchanged.why)};
      answer.outcome.death = Death{.cause = "connection"};
      break;
    }
    answer.outcome = std::move(*outcome);
    const bool leaves =
        answer.outcome.kind == OutcomeKind::kShuttingDown && answer.outcome.effect == Effect::kNone;
    if (!leaves) break;
  }
  done(std::move(answer));
}

asio::awaitable<void> fetch(asio::io_context& loop, std::uint16_t port, std::string path,
                            Duration limit, std::move_only_function<void(Clients::Reply&&)> done) {
  Request request(http::verb::get, path, 11);
  request.set(http::field::host, "127.0.0.1");
  request.keep_alive(false);
  Exchanged exchanged = co_await exchange(loop, port, request, limit);
  Clients::Reply reply;
  if (exchanged.response) {
    reply.status = static_cast<int>(exchanged.response->result_int());
    reply.body = std::move(exchanged.response->body());
  }
  done(std::move(reply));
}

}  // namespace

void Clients::call(Call call, std::vector<std::uint32_t> nodes, Duration limit,
                   std::move_only_function<void(Answer&&)> done) {
  asio::co_spawn(loop_,
                 carry(loop_, ports_, std::move(call), std::move(nodes), limit, std::move(done)),
                 asio::detached);
}

void Clients::get(std::uint32_t node, std::string path, Duration limit,
                  std::move_only_function<void(Reply&&)> done) {
  asio::co_spawn(loop_, fetch(loop_, ports_[node], std::move(path), limit, std::move(done)),
                 asio::detached);
}

}  // namespace keelback::chaos
