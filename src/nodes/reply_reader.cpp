#include "nodes/reply_reader.h"

#include <boost/beast/http/error.hpp>
#include <memory>
#include <utility>

namespace keelback::nodes {
namespace {

using boost::beast::error_code;
using beast_view = boost::beast::string_view;
namespace beast_http = boost::beast::http;

constexpr std::size_t kFieldsMax = 128;

}  // namespace

class ReplyReader::Parser final : public beast_http::basic_parser<false> {
 public:
  explicit Parser(const Limits& limits) : body_max_(limits.body_max) {
    header_limit(static_cast<std::uint32_t>(limits.header_max));
    body_limit(boost::none);  // ours: what was taken counts no more
  }

  ReplyHead head;
  std::string body;
  std::size_t header_bytes = 0;

 private:
  void on_request_impl(beast_http::verb, beast_view, beast_view, int, error_code&) override {}
  void on_response_impl(int status, beast_view, int, error_code&) override { head.status = status; }
  void on_field_impl(beast_http::field, beast_view name, beast_view value,
                     error_code& ec) override {
    if (is_header_done()) return;  // a trailer says nothing that we act on
    if (head.fields.size() == kFieldsMax) {
      ec = beast_http::error::header_limit;
      return;
    }
    std::string lower(name);
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    head.fields.emplace_back(std::move(lower), std::string(value));
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code& ec) override {
    if (length.value_or(0) > body_max_) ec = beast_http::error::body_limit;
  }
  std::size_t on_body_impl(beast_view bytes, error_code& ec) override {
    if (body.size() + bytes.size() > body_max_) {
      ec = beast_http::error::body_limit;
      return 0;
    }
    body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_chunk_header_impl(std::uint64_t size, beast_view, error_code& ec) override {
    if (size > body_max_) ec = beast_http::error::body_limit;
  }
  std::size_t on_chunk_body_impl(std::uint64_t, beast_view bytes, error_code& ec) override {
    return on_body_impl(bytes, ec);
  }
  void on_finish_impl(error_code&) override {}

  const std::uint64_t body_max_;
};

ReplyReader::ReplyReader(Limits limits)
    : limits_(limits), parser_(std::make_unique<Parser>(limits_)) {}

ReplyReader::~ReplyReader() = default;

ReplyReader::Step ReplyReader::feed(std::string_view data, std::size_t& used) {
  used = 0;
  for (;;) {
    Parser& parser = *parser_;
    if (parser.is_header_done() && !header_reported_) {
      if (parser.head.status / 100 == 1) {
        if (parser.head.status == 101) return fail("it speaks another protocol");
        parser_ = std::make_unique<Parser>(limits_);
        continue;
      }
      if (parser.need_eof()) return fail("the reply does not say how long it is");
      header_reported_ = true;
      parser.head.keep_alive = parser.keep_alive();
      return Step::kHeader;
    }
    if (parser.is_done()) return Step::kDone;
    if (used == data.size()) return Step::kNeedMore;
    const bool in_header = !parser.is_header_done();
    error_code ec;
    const std::size_t taken =
        parser.put(boost::asio::const_buffer(data.data() + used, data.size() - used), ec);
    used += taken;
    if (in_header) parser.header_bytes += taken;
    const std::size_t pending = data.size() - used;
    // Beast takes complete fields one by one and limits only the rest. We limit the sum.
    if (in_header &&
        parser.header_bytes + (parser.is_header_done() ? 0 : pending) > limits_.header_max) {
      return fail("the reply's header is too long");
    }
    if (ec == beast_http::error::need_more) {
      if (pending >= limits_.header_max) return fail("a chunk header of the reply is too long");
      return Step::kNeedMore;
    }
    if (ec == beast_http::error::header_limit) return fail("the reply's header is too long");
    if (ec == beast_http::error::body_limit) return fail("the reply is too large");
    if (ec) return fail("the reply is not HTTP: " + ec.message());
  }
}

const ReplyHead& ReplyReader::head() const { return parser_->head; }

std::string ReplyReader::take_body() { return std::exchange(parser_->body, {}); }

ReplyReader::Step ReplyReader::fail(std::string why) {
  error_ = std::move(why);
  return Step::kFailed;
}

}  // namespace keelback::nodes
