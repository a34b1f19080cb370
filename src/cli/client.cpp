#include "cli/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cctype>

#include "base/settings_schema.h"

namespace keelback::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr std::uint64_t kBodyMax = 2ULL << 30;
constexpr std::size_t kLineMax = 1ULL << 30;
constexpr std::size_t kHeaderMax = 64 << 10;

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// Better words than those of errno, for errors of an exchange.
std::string reason(const error_code& error) {
  if (error == beast::error::timeout) return "it did not answer in time";
  if (error == http::error::end_of_stream || error == asio::error::eof ||
      error == http::error::partial_message) {
    return "the connection was closed before the reply was complete";
  }
  if (error == http::error::body_limit) return "the reply is too large";
  if (error.category() == http::make_error_code(http::error::bad_version).category()) {
    return fmt::format("what answers does not speak HTTP ({})", error.message());
  }
  return error.message();
}

// One connection for one exchange.
class Exchange {
 public:
  Exchange(const Address& address, const std::string& token) : address_(address), token_(token) {}

  std::expected<void, ClientError> send(const HttpRequest& request) {
    if (const error_code error = connect()) return fail(false, error);
    set_deadline(request.timeout);
    http::request<http::string_body> message;
    message.method_string(request.method);
    message.target(request.target);
    message.version(11);
    message.set(http::field::host, host_header());
    message.set(http::field::user_agent, "keelback/" KEELBACK_VERSION);
    message.set(http::field::connection, "close");
    if (!token_.empty()) message.set(http::field::authorization, "Bearer " + token_);
    for (const auto& [name, value] : request.headers) message.set(name, value);
    message.body() = request.body;
    if (!request.body.empty() || request.method != "GET") message.prepare_payload();

    error_code sent;
    http::async_write(stream_, message, [&](const error_code& e, std::size_t) { sent = e; });
    run();
    // A server that refuses early closes while we still write: its reply says why.
    early_close_ = sent == asio::error::broken_pipe || sent == asio::error::connection_reset;
    if (sent && !early_close_) return fail(true, sent);
    return {};
  }

  std::expected<HttpReply, ClientError> receive(const Client::OnEvent* on_event) {
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(kBodyMax);
    parser.header_limit(kHeaderMax);
    error_code error;
    http::async_read_header(stream_, buffer_, parser,
                            [&](const error_code& e, std::size_t) { error = e; });
    run();
    if (error) return fail(true, error);
    HttpReply reply;
    reply.status = static_cast<int>(parser.get().result_int());
    for (const auto& field : parser.get()) {
      reply.headers[lower({field.name_string().data(), field.name_string().size()})] =
          std::string(field.value());
    }
    const Client::OnEvent none;
    EventReader reader(on_event != nullptr ? *on_event : none);
    const bool events = on_event != nullptr && reply.is("text/event-stream");
    std::string piece(64 << 10, '\0');
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      http::async_read_some(stream_, buffer_, parser,
                            [&](const error_code& e, std::size_t) { error = e; });
      run();
      if (error == http::error::need_buffer) error = {};
      const std::string_view got(piece.data(), piece.size() - parser.get().body().size);
      if (!events) {
        reply.body.append(got);
      } else if (!reader.feed(got)) {
        return reply;
      }
      if (error) return fail(true, error);
    }
    return reply;
  }

 private:
  using Stream = beast::basic_stream<asio::generic::stream_protocol>;

  std::unexpected<ClientError> fail(bool sent, const error_code& error) const {
    if (!sent) {
      return std::unexpected(ClientError{
          false, fmt::format("cannot reach the server at {}: {}", address_.text(), reason(error))});
    }
    return std::unexpected(ClientError{
        true, fmt::format("the server at {} did not reply: {}", address_.text(), reason(error))});
  }
  std::string host_header() const {
    if (!address_.path.empty()) return "localhost";
    return address_.text();
  }
  void run() {
    context_.restart();
    context_.run();
  }
  void set_deadline(const std::optional<std::chrono::nanoseconds>& timeout) {
    if (timeout) {
      stream_.expires_after(*timeout);
    } else {
      stream_.expires_never();
      error_code ignored;  // else it would wait for ever for a machine that has lost its power
      if (address_.path.empty()) {
        stream_.socket().set_option(asio::socket_base::keep_alive(true), ignored);
      }
    }
  }
  error_code connect_to(const asio::generic::stream_protocol::endpoint& endpoint) {
    error_code result;
    stream_.expires_after(kConnectTimeout);
    stream_.async_connect(endpoint, [&](const error_code& e) { result = e; });
    run();
    return result;
  }
  error_code connect() {
    if (!address_.path.empty()) {
      return connect_to(asio::local::stream_protocol::endpoint(address_.path));
    }
    error_code error;
    asio::ip::tcp::resolver resolver(context_);
    const auto found = resolver.resolve(address_.host, address_.port, error);
    if (error) return error;
    error = asio::error::host_not_found;
    for (const auto& entry : found) {
      error = connect_to(entry.endpoint());
      if (!error) return {};
      error_code ignored;
      stream_.socket().close(ignored);
    }
    return error;
  }

  const Address& address_;  // both outlive the exchange
  const std::string& token_;
  asio::io_context context_{1};
  Stream stream_{context_};
  beast::flat_buffer buffer_;
  bool early_close_ = false;
};

}  // namespace

std::string Address::text() const {
  if (!path.empty()) return "unix:" + path;
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::expected<Address, std::string> parse_address(std::string_view text) {
  const std::string shown(text);
  if (text.starts_with("https://")) {
    return std::unexpected(shown + ": this server speaks plain HTTP, without TLS");
  }
  if (text.starts_with("http://")) text.remove_prefix(7);
  if (text.ends_with('/') && !text.starts_with("unix:")) text.remove_suffix(1);
  std::string full(text);
  if (!text.starts_with("unix:") && !text.empty()) {
    const bool bare_v6 = text.front() == '[' && text.back() == ']';
    if (bare_v6 || text.find(':') == std::string_view::npos) full += ":8080";
  }
  if (const auto ok = check_listen(full); !ok) return std::unexpected(ok.error());
  Address address;
  if (full.starts_with("unix:")) {
    address.path = full.substr(5);
    return address;
  }
  const std::size_t colon = full.rfind(':');
  address.host = full.substr(0, colon);
  address.port = full.substr(colon + 1);
  if (address.host.front() == '[') address.host = address.host.substr(1, address.host.size() - 2);
  return address;
}

const std::string* HttpReply::header(const std::string& lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? nullptr : &found->second;
}

bool HttpReply::is(std::string_view content_type) const {
  const std::string* given = header("content-type");
  if (given == nullptr) return false;
  std::string_view type = std::string_view(*given).substr(0, given->find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  return lower(type) == content_type;
}

std::expected<HttpReply, ClientError> Client::request(const HttpRequest& request) {
  Exchange exchange(address_, token_);
  if (auto sent = exchange.send(request); !sent) return std::unexpected(sent.error());
  return exchange.receive(nullptr);
}

std::expected<HttpReply, ClientError> Client::stream(const HttpRequest& request,
                                                     const OnEvent& on_event) {
  Exchange exchange(address_, token_);
  if (auto sent = exchange.send(request); !sent) return std::unexpected(sent.error());
  return exchange.receive(&on_event);
}

bool EventReader::feed(std::string_view bytes) {
  while (true) {
    const std::size_t end = bytes.find('\n');
    if (partial_.size() + std::min(end, bytes.size()) > kLineMax) return false;
    if (end == std::string_view::npos) {
      partial_ += bytes;
      return true;
    }
    partial_ += bytes.substr(0, end);
    bytes.remove_prefix(end + 1);
    if (partial_.ends_with('\r')) partial_.pop_back();
    if (!line(partial_)) return false;
    partial_.clear();
  }
}

bool EventReader::line(std::string_view text) {
  if (text.empty()) {
    const bool more = !has_data_ || on_event_(name_.empty() ? "message" : name_, data_);
    name_.clear();
    data_.clear();
    has_data_ = false;
    return more;
  }
  const std::size_t colon = text.find(':');
  const std::string_view field = text.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "event") name_ = value;
  if (field == "data") {
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  }
  return data_.size() <= kLineMax;
}

std::string percent_encode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.' || c == '~') {
      out += c;
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

}  // namespace keelback::cli
