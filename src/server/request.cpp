#include "server/request.h"

#include <algorithm>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>

#include "base/nearest.h"
#include "httptext/same_word.h"

namespace keelback::server {
namespace http = boost::beast::http;
namespace {

constexpr std::string_view kPrefix = "keelback-";

bool is_ours(std::string_view name) {
  return name.size() >= kPrefix.size() &&
         httptext::same_word(name.substr(0, kPrefix.size()), kPrefix);
}

// A header that is a list: if it comes twice, the lists are joined.
bool is_list(Header header) {
  return header == Header::kAccept || header == Header::kContentEncoding ||
         header == Header::kForwarded || header == Header::kForwardedFor;
}

// nullopt: not one that we look at.
std::optional<Header> header_of(http::field field, std::string_view name) {
  switch (field) {
    case http::field::host:
      return Header::kHost;
    case http::field::origin:
      return Header::kOrigin;
    case http::field::authorization:
      return Header::kAuthorization;
    case http::field::content_type:
      return Header::kContentType;
    case http::field::accept:
      return Header::kAccept;
    case http::field::expect:
      return Header::kExpect;
    case http::field::transfer_encoding:
      return Header::kTransferEncoding;
    case http::field::if_match:
      return Header::kIfMatch;
    case http::field::content_encoding:
      return Header::kContentEncoding;
    case http::field::forwarded:
      return Header::kForwarded;
    case http::field::unknown:
      break;
    default:
      return std::nullopt;
  }
  constexpr auto kFirst = static_cast<std::size_t>(Header::kForwardedFor);
  const auto names = httptext::header_names();
  for (std::size_t i = kFirst; i < names.size(); ++i) {
    if (names[i].size() == name.size() && httptext::same_word(names[i], name))
      return static_cast<Header>(i);
  }
  return std::nullopt;
}

}  // namespace

std::string_view nearest_header(std::string_view name) {
  return nearest(name,
                 httptext::header_names().subspan(static_cast<std::size_t>(Header::kSession)));
}

std::optional<Header> Request::repeated() const {
  for (int i = 0; i < kHeaders; ++i) {
    if ((twice >> i & 1) != 0) return static_cast<Header>(i);
  }
  return std::nullopt;
}

void Request::clear() {
  method.clear();
  target.clear();
  body.clear();
  unknown.clear();
  http11 = keep_alive = true;
  chunked = has_body = false;
  content_length = 0;
  seen = twice = 0;
}

RequestReader::RequestReader(Request& request, Limits limits) : request_(request), limits_(limits) {
  request_.clear();
  header_limit(static_cast<std::uint32_t>(limits.header_max));
  body_limit(boost::none);  // ours: the limit is known only after the header
}

RequestReader::Step RequestReader::feed(std::string_view data, std::size_t& used) {
  used = 0;
  for (;;) {
    if (is_header_done() && !header_reported_) return header_done();
    if (is_done()) return Step::kDone;
    if (used == data.size()) return Step::kNeedMore;
    const bool in_header = !is_header_done();
    error_code ec;
    const std::size_t taken =
        put(boost::asio::const_buffer(data.data() + used, data.size() - used), ec);
    used += taken;
    if (in_header) header_bytes_ += taken;
    if (too_many_fields_) return fail(431, "the request has too many header fields");
    // Beast takes complete fields one by one and limits only the rest. We limit the sum.
    const std::size_t pending = data.size() - used;
    if (in_header && header_bytes_ + (is_header_done() ? 0 : pending) > limits_.header_max) {
      return fail(http::error::header_limit);
    }
    if (ec == http::error::need_more) {
      if (pending >= limits_.header_max) return fail(400, "a chunk header or trailer is too long");
      return Step::kNeedMore;
    }
    if (ec) return fail(ec);
  }
}

RequestReader::Step RequestReader::header_done() {
  header_reported_ = true;
  request_.keep_alive = keep_alive();
  request_.chunked = chunked();
  request_.content_length = content_length().value_or(0);
  request_.has_body = request_.chunked || request_.content_length > 0;
  if (request_.has(Header::kTransferEncoding)) {
    if (!request_.http11) return fail(400, "HTTP/1.0 has no Transfer-Encoding");
    if (!httptext::same_word(request_.get(Header::kTransferEncoding), "chunked")) {
      return fail(501, "the only Transfer-Encoding is chunked");
    }
  }
  return Step::kHeader;
}

void RequestReader::set_body_max(std::uint64_t bytes, bool discard) {
  body_max_ = bytes;
  discard_ = discard;
}

void RequestReader::on_request_impl(http::verb, view method, view target, int version,
                                    error_code&) {
  request_.method.assign(method.data(), method.size());
  request_.target.assign(target.data(), target.size());
  request_.http11 = version >= 11;
}

void RequestReader::on_field_impl(http::field field, view name, view value, error_code& ec) {
  if (++fields_ > limits_.fields_max) {
    too_many_fields_ = true;
    ec = http::error::header_limit;
    return;
  }
  if (is_header_done()) return;  // a trailer says nothing that we act on
  const std::string_view name_view(name.data(), name.size());
  const auto header = header_of(field, name_view);
  if (!header) {
    if (is_ours(name_view) && request_.unknown.empty()) request_.unknown = name_view;
    return;
  }
  const auto index = static_cast<std::size_t>(*header);
  if (!request_.has(*header)) {
    request_.seen |= 1U << index;
    request_.values[index].assign(value.data(), value.size());
  } else if (is_list(*header)) {
    request_.values[index].append(", ").append(value.data(), value.size());
  } else {
    request_.twice |= 1U << index;
  }
}

void RequestReader::on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code&) {
  constexpr std::uint64_t kReserveMax = 1 << 20;  // memory for more is taken when the bytes come
  if (!discard_) request_.body.reserve(std::min(length.value_or(0), kReserveMax));
}

std::size_t RequestReader::on_body_impl(view body, error_code& ec) {
  body_bytes_ += body.size();
  if (body_bytes_ > body_max_) {
    ec = http::error::body_limit;
    return 0;
  }
  if (!discard_) request_.body.append(body.data(), body.size());
  return body.size();
}

// A chunk that is announced too large is not waited for.
void RequestReader::on_chunk_header_impl(std::uint64_t size, view, error_code& ec) {
  if (size > body_max_ - std::min(body_bytes_, body_max_)) ec = http::error::body_limit;
}

RequestReader::Step RequestReader::fail(int status, std::string why) {
  error_status_ = status;
  error_ = std::move(why);
  return Step::kFailed;
}

RequestReader::Step RequestReader::fail(const error_code& ec) {
  if (ec == http::error::header_limit) return fail(431, "the request header is too long");
  if (ec == http::error::body_limit) return fail(413, "the body is too large");
  if (ec == http::error::bad_version) return fail(505, "only HTTP/1.0 and HTTP/1.1 are spoken");
  return fail(400, "this is not HTTP: " + ec.message());
}

}  // namespace keelback::server
