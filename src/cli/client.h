// An HTTP client for docs/http.md: one request, one reply, over TCP or a Unix socket. It blocks,
// and one thread uses it. Each request opens a connection: a command makes few requests.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keelback::cli {

struct Address {
  std::string path;  // of a Unix socket; empty: TCP
  std::string host;  // without brackets
  std::string port;
  std::string text() const;  // "127.0.0.1:8080", "unix:/run/k.sock"
};
// "host:port", "http://host:port", "host" (port 8080), "[v6]:port", "unix:/path". The error is a
// sentence.
std::expected<Address, std::string> parse_address(std::string_view text);

struct ClientError {
  // Whether the server may have taken the request: then a call may have run.
  bool sent = false;
  std::string why;  // a sentence
};

struct HttpReply {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  const std::string* header(const std::string& lower_case_name) const;
  bool is(std::string_view content_type) const;  // without parameters
};

struct HttpRequest {
  std::string method = "GET";
  std::string target = "/";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // For the whole exchange; nullopt: as long as the server takes.
  std::optional<std::chrono::nanoseconds> timeout = std::chrono::seconds(30);
};

class Client {
 public:
  Client(Address address, std::string token)
      : address_(std::move(address)), token_(std::move(token)) {}

  const Address& address() const { return address_; }
  [[nodiscard]] std::expected<HttpReply, ClientError> request(const HttpRequest& request);

  // A request whose reply may be a stream of events. `on_event` gets each event's name and data as
  // it comes; false from it ends the exchange. Any other reply comes back as from request(); after
  // a stream the reply has an empty body.
  using OnEvent = std::function<bool(std::string_view name, std::string_view data)>;
  [[nodiscard]] std::expected<HttpReply, ClientError> stream(const HttpRequest& request,
                                                             const OnEvent& on_event);

 private:
  Address address_;
  std::string token_;
};

// Server-sent events out of bytes, in any pieces.
class EventReader {
 public:
  explicit EventReader(const Client::OnEvent& on_event) : on_event_(on_event) {}
  // False: on_event wanted no more, or a line is longer than 1 GiB.
  bool feed(std::string_view bytes);

 private:
  bool line(std::string_view text);

  const Client::OnEvent& on_event_;  // outlives the reader
  std::string partial_;
  std::string name_;
  std::string data_;
  bool has_data_ = false;
};

// Everything but unreserved characters as %XX: a path segment or a query value.
std::string percent_encode(std::string_view text);

}  // namespace keelback::cli
