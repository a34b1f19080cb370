// One HTTP/1.x request, and the reader that fills it from bytes. Boost.Beast parses. The few
// headers that matter are copied into strings that keep their memory, so that a field allocates
// nothing.
#pragma once

#include <array>
#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "httptext/header.h"

namespace keelback::server {

using httptext::Header;
using httptext::kHeaders;
// The Keelback-* request header nearest to a name that is not one.
std::string_view nearest_header(std::string_view name);

struct Request {
  std::string method;
  std::string target;
  bool http11 = true;
  bool keep_alive = true;
  bool chunked = false;
  bool has_body = false;
  std::uint64_t content_length = 0;  // 0 if chunked
  std::string body;
  std::string unknown;  // the first Keelback-* header that we do not know

  bool has(Header header) const { return (seen >> static_cast<int>(header) & 1) != 0; }
  std::string_view get(Header header) const {  // empty if absent
    return has(header) ? std::string_view(values[static_cast<std::size_t>(header)])
                       : std::string_view();
  }
  // A Keelback-* header that we know.
  bool has_ours() const { return seen >> static_cast<int>(Header::kSession) != 0; }
  // A header that came twice, where that has no meaning.
  std::optional<Header> repeated() const;
  void clear();  // keeps the strings' room

  std::array<std::string, kHeaders> values;
  std::uint32_t seen = 0;
  std::uint32_t twice = 0;
};

// Fed with bytes, in any pieces. One reader per request.
class RequestReader final : public boost::beast::http::basic_parser<true> {
 public:
  struct Limits {
    std::size_t header_max;  // request line and fields, bytes; also any chunk header or trailer
    std::size_t fields_max = 128;
  };
  enum class Step {
    kNeedMore,  // everything that could be used was used
    kHeader,    // once: the header is complete; say set_body_max(), then go on
    kDone,
    kFailed,  // error_status() and error()
  };
  RequestReader(Request& request, Limits limits);

  // Uses the first `used` bytes of `data`. Pass the rest again, with the bytes that come after it.
  Step feed(std::string_view data, std::size_t& used);
  // Body bytes beyond this fail with 413; `discard` counts them without keeping them.
  void set_body_max(std::uint64_t bytes, bool discard);

  int error_status() const { return error_status_; }
  const std::string& error() const { return error_; }

 private:
  using error_code = boost::beast::error_code;
  using view = boost::beast::string_view;
  void on_request_impl(boost::beast::http::verb, view method, view target, int version,
                       error_code& ec) override;
  void on_response_impl(int, view, int, error_code&) override {}
  void on_field_impl(boost::beast::http::field field, view name, view value,
                     error_code& ec) override;
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code&) override;
  std::size_t on_body_impl(view body, error_code& ec) override;
  void on_chunk_header_impl(std::uint64_t size, view, error_code& ec) override;
  std::size_t on_chunk_body_impl(std::uint64_t, view body, error_code& ec) override {
    return on_body_impl(body, ec);
  }
  void on_finish_impl(error_code&) override {}

  Step fail(int status, std::string why);
  Step fail(const error_code& ec);
  Step header_done();

  Request& request_;  // outlives the reader
  Limits limits_;
  std::size_t header_bytes_ = 0;
  std::size_t fields_ = 0;
  bool header_reported_ = false;
  bool too_many_fields_ = false;
  std::uint64_t body_bytes_ = 0;
  std::uint64_t body_max_ = 0;
  bool discard_ = false;
  int error_status_ = 0;
  std::string error_;
};

}  // namespace keelback::server
