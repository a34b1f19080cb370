#include "server/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "server/hop.h"
#include "server/peer.h"
#include "server/sse.h"

namespace keelback::server {
namespace {

using namespace std::chrono_literals;
using boost::system::error_code;

constexpr std::size_t kReadLeast = 4 << 10;       // a new connection's buffer
constexpr std::size_t kReadMost = 64 << 10;       // while a body comes in
constexpr std::size_t kInlineBody = 16 << 10;     // smaller replies go out in one piece
constexpr std::size_t kKeepRoom = 64 << 10;       // a buffer that grew beyond this is given back
constexpr std::uint64_t kDiscardMost = 64 << 10;  // of a refused body, to keep the connection
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr Duration kFirstRequest =
    std::chrono::seconds(1);  // after the stop, of a client that has just connected
constexpr auto kNever = Clock::time_point::max();

void give_back(std::string& text) {
  text.clear();
  if (text.capacity() > kKeepRoom) text = std::string();
}

}  // namespace

Connection::Connection(std::shared_ptr<Hub> hub, Socket socket, Door door, std::string peer)
    : hub_(std::move(hub)),
      socket_(std::move(socket)),
      door_(door),
      peer_(std::move(peer)),
      in_(kReadLeast) {}

Connection::~Connection() = default;

void Connection::start() {
  deadline_ = Clock::now() + hub_->options.idle_timeout;
  pump();
}

Connection::GivesWay Connection::gives_way() const {
  // A new connection is no idle one: its first request has perhaps arrived and was not read yet.
  if (state_ == State::kIdle && begin_ == end_)
    return served_ ? GivesWay::kFirst : GivesWay::kSecond;
  if (state_ == State::kHeader) return GivesWay::kSecond;
  if (state_ == State::kBody && refusal_) return GivesWay::kThird;
  return GivesWay::kNever;
}

// ---- reading

void Connection::pump() {
  while (state_ == State::kIdle || state_ == State::kHeader || state_ == State::kBody) {
    if (state_ == State::kIdle && !begin_request()) break;
    std::size_t used = 0;
    const auto step = reader_->feed({in_.data() + begin_, end_ - begin_}, used);
    begin_ += used;
    if (!account_body()) break;
    if (step == RequestReader::Step::kNeedMore) {
      if (eof_) {  // the rest will never come
        hub_->count_rejected();
        return close();
      }
      break;
    }
    if (step == RequestReader::Step::kHeader) {
      on_header();
    } else if (step == RequestReader::Step::kDone) {
      on_request();
    } else {
      on_bad_request();
    }
  }
  read_more();
}

// False: nothing there to begin with.
bool Connection::begin_request() {
  // RFC 9112 2.2: an empty line before a request is ignored.
  while (end_ - begin_ >= 2 && in_[begin_] == '\r' && in_[begin_ + 1] == '\n') begin_ += 2;
  if (begin_ == end_) {
    if (eof_) close();
    return false;
  }
  reader_.emplace(request_, RequestReader::Limits{hub_->options.header_max});
  state_ = State::kHeader;
  deadline_ = Clock::now() + hub_->options.header_timeout;
  return true;
}

void Connection::on_header() {
  admission_ = admit(*hub_, request_, door_);
  if (admission_.refusal && !admission_.authorised)
    log_refusal(*this, *admission_.refusal, request_);
  const bool waits = request_.has(Header::kExpect) && request_.http11;
  if (admission_.refusal) {
    if (request_.has_body) {
      // Reads a small body, so that the connection can stay open. Does not wait for a large one.
      if (waits || request_.chunked || request_.content_length > kDiscardMost) {
        return refuse(std::move(*admission_.refusal));
      }
      refusal_ = std::move(admission_.refusal);
      reader_->set_body_max(kDiscardMost, true);
    } else {
      refusal_ = std::move(admission_.refusal);
    }
  } else {
    reader_->set_body_max(admission_.body_max, !admission_.keep_body);
    if (waits && request_.has_body && begin_ == end_) {
      // A socket that takes nothing now has a client that reads nothing: it will time out.
      static_cast<void>(::send(socket_.native_handle(), kContinue.data(), kContinue.size(),
                               MSG_DONTWAIT | MSG_NOSIGNAL));
    }
  }
  state_ = State::kBody;
  deadline_ = transfer_deadline(request_.content_length);
}

void Connection::on_request() {
  hub_->buffered -= std::exchange(buffered_, 0);
  deadline_ = kNever;
  state_ = State::kBusy;
  if (refusal_) {
    hub_->count_rejected();
    reply(std::move(*std::exchange(refusal_, std::nullopt)));
  } else if (auto wrong = admission_.hop.empty() ? std::nullopt : check_hop_body(request_)) {
    hub_->count_rejected();
    log_refusal(*this, *wrong, request_);
    reply(std::move(*wrong));
  } else if (admission_.route == Route::kCall && !admission_.answer) {
    start_call();
  } else {
    run(*this, admission_, request_);
  }
}

void Connection::on_bad_request() {
  const int status = reader_->error_status();
  if (status == 413 && admission_.route == Route::kCall && !refusal_) {
    return refuse(
        refused_call(OutcomeKind::kTooLarge,
                     admission_.body_kind == BodyKind::kJsonOnly
                         ? "the body is longer than calls.payload_max"
                         : "the body is longer than calls.payload_max and attachments.max"));
  }
  refuse(problem(status, "bad_request", reader_->error()));
}

// The bodies that are being received take memory of the server. Together they have a limit.
// False: the limit is passed, and this request was refused.
bool Connection::account_body() {
  const std::uint64_t now = request_.body.size();
  hub_->buffered += now - buffered_;
  buffered_ = now;
  if (state_ != State::kBody || hub_->buffered <= hub_->options.buffered_max) return true;
  Response response = refused_call(OutcomeKind::kOverloaded,
                                   "the bodies being received take all the memory they may take");
  response.headers += "Retry-After: 1\r\n";
  refuse(std::move(response));
  return false;
}

void Connection::read_more() {
  if (reading_ || eof_ || state_ == State::kWriting || state_ == State::kClosed) return;
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (end_ == in_.size() && begin_ > 0) {
    std::memmove(in_.data(), in_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  const bool large = state_ == State::kBody && request_.content_length > in_.size();
  if (end_ == in_.size() || large) {
    if (in_.size() >= kReadMost) {
      if (end_ == in_.size()) return;  // pipelined requests: the rest waits in the kernel
    } else {
      in_.resize(large ? kReadMost : in_.size() * 2);
    }
  }
  reading_ = true;
  socket_.async_read_some(boost::asio::buffer(in_.data() + end_, in_.size() - end_),
                          [self = shared_from_this()](const error_code& error, std::size_t size) {
                            self->on_read(error, size);
                          });
}

void Connection::on_read(const error_code& error, std::size_t size) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (error == boost::asio::error::eof) {
    eof_ = true;
    return on_end_of_stream();
  }
  if (error) {
    if (state_ == State::kBusy) return client_left();
    return close();
  }
  end_ += size;
  switch (state_) {
    case State::kLingering:
      begin_ = end_ = 0;
      return read_more();
    case State::kBusy:
      return read_more();
    case State::kWriting:
    case State::kClosed:
      return;
    default:
      return pump();
  }
}

void Connection::on_end_of_stream() {
  switch (state_) {
    case State::kBusy:
      return check_peer(Clock::now());
    case State::kWriting:
    case State::kClosed:
      return;  // it still wants its reply
    case State::kLingering:
      return close();
    default:
      return pump();
  }
}

// After the end of the stream: finds out whether the client still waits for the reply.
void Connection::check_peer(Clock::time_point now) {
  const Peer peer = peer_of(socket_.native_handle());
  if (peer == Peer::kGone) return client_left();
  if (peer == Peer::kThere || !request_.http11 || stream_ || now < next_probe_) return;
  // A client on another machine: it must ignore an interim response (RFC 9110 15.2.1). If no
  // process there has the socket open, that machine answers with a reset, which a later tick sees.
  next_probe_ = now + 1s;
  if (::send(socket_.native_handle(), kContinue.data(), kContinue.size(),
             MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
      errno != EAGAIN) {
    client_left();
  }
}

void Connection::client_left() {
  const bool running = state_ == State::kBusy && call_ && (!stream_ || !stream_->ended);
  if (running && !hub_->stopping()) {
    const auto policy = hub_->config.settings().server.cancel_on_disconnect;
    if (policy == DisconnectPolicy::kAlways ||
        (policy == DisconnectPolicy::kStateless && !in_session_)) {
      hub_->driver.cancel(call_);
    } else if (stream_) {
      // The call runs to its end without a reader: items that were not sent must not stop it.
      hub_->driver.grant(call_, stream_->wire_items + stream_->pending_items);
    }
  }
  close();
}

void Connection::tick(Clock::time_point now) {
  if (state_ == State::kBusy && eof_) check_peer(now);
  if (state_ == State::kBusy && stream_ && !stream_->writing && !stream_->ended &&
      now >= stream_->next_heartbeat) {
    stream_->pending += kHeartbeat;
    flush_stream();
  }
  if (now < deadline_) return;
  switch (state_) {
    case State::kHeader:
    case State::kBody:
      return refuse(problem(408, "too_slow", "the request did not come in time"));
    case State::kBusy:  // a stream whose reader has stopped reading
      return client_left();
    case State::kClosed:
      return;
    default:
      return close();
  }
}

void Connection::finish_soon() {
  if (providing_) return end_providing();
  if (state_ != State::kIdle) return;
  error_code ignored;
  if (begin_ != end_ || socket_.available(ignored) > 0) return;  // its request has arrived
  if (served_) return close();
  // The client has just connected: its first request is perhaps on its way.
  deadline_ = std::min(deadline_, Clock::now() + kFirstRequest);
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  const auto keep = shared_from_this();
  state_ = State::kClosed;
  stop_providing();
  deadline_ = kNever;
  hub_->buffered -= std::exchange(buffered_, 0);
  error_code ignored;
  socket_.close(ignored);
  hub_->remove(*this);
}

// ---- replying

Clock::time_point Connection::transfer_deadline(std::uint64_t bytes) const {
  return Clock::now() + hub_->options.transfer_timeout +
         std::chrono::seconds(bytes / hub_->options.rate_min);
}

// The request is incomplete or refused: replies so and closes.
void Connection::refuse(Response response) {
  hub_->count_rejected();
  hub_->buffered -= std::exchange(buffered_, 0);
  close_after_ = true;
  refusal_.reset();
  state_ = State::kBusy;
  call_ = {};
  reply(std::move(response));
}

void Connection::open_reply(int status, std::string_view content_type,
                            std::optional<std::uint64_t> length) {
  const bool last = eof_ && begin_ == end_;  // nothing can follow
  close_after_ = close_after_ || last || !request_.keep_alive || hub_->draining();
  out_.clear();
  append_head(out_, {.status = status,
                     .http11 = request_.http11,
                     .keep_alive = !close_after_,
                     .content_type = content_type,
                     .content_length = length,
                     .date = hub_->date(),
                     .node = hub_->node});
}

void Connection::reply(Response response) {
  if (state_ != State::kBusy) return;
  const bool has_content = response.status != 204;
  open_reply(response.status, response.content_type,
             has_content ? std::optional(response.body.size()) : std::nullopt);
  out_ += response.headers;
  out_ += "\r\n";
  if (request_.method == "HEAD") response.body.clear();
  send(std::move(response.body));
}

// Writes out_, then the body.
void Connection::send(std::string body) {
  state_ = State::kWriting;
  deadline_ = transfer_deadline(out_.size() + body.size());
  auto written = [self = shared_from_this()](const error_code& error, std::size_t) {
    self->on_written(error);
  };
  if (body.size() <= kInlineBody) {
    out_ += body;
    boost::asio::async_write(socket_, boost::asio::buffer(out_), std::move(written));
    return;
  }
  out_body_ = std::move(body);
  const std::array<boost::asio::const_buffer, 2> buffers{boost::asio::buffer(out_),
                                                         boost::asio::buffer(out_body_)};
  boost::asio::async_write(socket_, buffers, std::move(written));
}

void Connection::on_written(const error_code& error) {
  if (state_ == State::kClosed) return;
  if (error) return close();
  after_reply();
}

void Connection::after_reply() {
  give_back(out_);
  give_back(request_.body);
  out_body_ = std::string();
  stream_.reset();
  call_ = {};
  served_ = true;
  if (close_after_ || hub_->stopping()) return linger();
  state_ = State::kIdle;
  deadline_ = Clock::now() + hub_->options.idle_timeout;
  pump();
}

// To close with unread bytes resets the connection, and the reset may arrive before the reply.
void Connection::linger() {
  if (eof_) return close();
  error_code error;
  socket_.shutdown(Socket::shutdown_send, error);
  if (error) return close();
  state_ = State::kLingering;
  deadline_ = Clock::now() + hub_->options.linger;
  begin_ = end_ = 0;
  read_more();
}

}  // namespace keelback::server
