#include "nodes/hop_connection.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace keelback::nodes {
namespace {

using boost::system::error_code;

constexpr std::size_t kReadBytes = 32 << 10;
// A node whose machine has gone without a word is noticed after about 10 s, also while a call runs
// there.
constexpr int kProbeAfterSeconds = 5;
constexpr int kProbeEverySeconds = 2;
constexpr int kProbes = 3;
constexpr unsigned kUnackedMilliseconds = 10'000;

template <class T>
void set_option(int fd, int level, int name, T value) {
  static_cast<void>(::setsockopt(fd, level, name, &value, sizeof value));
}

// Best effort: without them all works, only later.
void set_options(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kProbeAfterSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kProbeEverySeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUnackedMilliseconds);
}

}  // namespace

HopConnection::HopConnection(boost::asio::io_context& loop, ReplyReader::Limits limits)
    : socket_(loop.get_executor()),
      resolver_(loop.get_executor()),
      timer_(loop.get_executor()),
      limits_(limits),
      in_(kReadBytes) {
  CHECK(limits.header_max < kReadBytes);  // what the reader leaves fits, and one byte more
}

// ---- connecting

void HopConnection::connect(const NodeUrl& url, Duration limit,
                            std::move_only_function<void(std::optional<std::string>)> done) {
  on_connected_ = std::move(done);
  timer_.expires_after(limit);
  timer_.async_wait([self = shared_from_this(), limit](const error_code& error) {
    if (error || self->state_ != State::kConnecting) return;
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit);
    self->connected(fmt::format("no answer within {} ms", ms.count()));
  });
  error_code not_numeric;
  const auto address = boost::asio::ip::make_address(url.host, not_numeric);
  if (!not_numeric) return open({Tcp::endpoint(address, url.port)}, 0);
  resolver_.async_resolve(
      url.host, fmt::format("{}", url.port),
      [self = shared_from_this()](const error_code& error, const Tcp::resolver::results_type& all) {
        if (self->state_ != State::kConnecting) return;
        if (error) return self->connected("its name is not known: " + error.message());
        std::vector<Tcp::endpoint> endpoints;
        for (const auto& each : all) endpoints.push_back(each.endpoint());
        self->open(endpoints, 0);
      });
}

void HopConnection::open(const std::vector<Tcp::endpoint>& endpoints, std::size_t next) {
  if (next == endpoints.size()) return connected("its name has no address");
  error_code ignored;
  socket_.close(ignored);
  socket_.async_connect(endpoints[next],
                        [self = shared_from_this(), endpoints, next](const error_code& error) {
                          if (self->state_ != State::kConnecting) return;
                          if (!error) return self->connected(std::nullopt);
                          if (next + 1 < endpoints.size()) return self->open(endpoints, next + 1);
                          self->connected(error.message());
                        });
}

void HopConnection::connected(std::optional<std::string> error) {
  timer_.cancel();
  auto done = std::exchange(on_connected_, nullptr);
  if (error) {
    close();
  } else {
    set_options(socket_.native_handle());
    become_idle();
  }
  if (done) done(std::move(error));
}

void HopConnection::become_idle() {
  state_ = State::kIdle;
  if (idle_limit_ != Duration::max()) {
    timer_.expires_after(idle_limit_);
    timer_.async_wait([self = shared_from_this()](const error_code& error) {
      if (error || self->state_ != State::kIdle || self->timer_.expiry() > Clock::now()) return;
      self->close();
      if (self->on_gone_) self->on_gone_();
    });
  }
  read_more();  // so that its end is noticed
}

bool HopConnection::looks_alive() {
  CHECK(state_ == State::kIdle);
  char byte = 0;
  const auto n = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return begin_ == end_ && n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

void HopConnection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  user_ = nullptr;
  on_connected_ = nullptr;
  timer_.cancel();
  resolver_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

// ---- a request

void HopConnection::exchange(User& user, std::string_view head, std::string_view body) {
  CHECK(state_ == State::kIdle);
  state_ = State::kBusy;
  timer_.cancel();
  user_ = &user;
  request_bytes_ = head.size() + body.size();
  taken_bytes_ = 0;
  reader_.emplace(limits_);
  streaming_ = whole_ = starved_ = read_over_ = false;
  broken_.clear();
  events_ = {};
  item_.reset();
  result_.clear();
  last_.reset();
  writing_ = true;
  const std::array<boost::asio::const_buffer, 2> buffers{
      boost::asio::buffer(head.data(), head.size()), boost::asio::buffer(body.data(), body.size())};
  boost::asio::async_write(socket_, buffers,
                           [self = shared_from_this()](const error_code& error, std::size_t size) {
                             self->on_written(error, size);
                           });
  read_more();
}

void HopConnection::on_written(const error_code& error, std::size_t size) {
  writing_ = false;
  if (state_ != State::kBusy) return;
  taken_bytes_ = size;
  if (error && broken_.empty()) broken_ = error.message();
  // A node that refuses a request answers before it has read all, and closes. Its answer may still
  // be on the way.
  if (error && size == 0) return end_without_reply();
  if (read_over_) return end_without_reply();
}

void HopConnection::read_more() {
  if (reading_ || read_over_ || state_ == State::kClosed || state_ == State::kConnecting) return;
  if (begin_ > 0) {  // the reader wants the rest again, with what comes after it
    std::copy(in_.begin() + static_cast<std::ptrdiff_t>(begin_),
              in_.begin() + static_cast<std::ptrdiff_t>(end_), in_.begin());
    end_ -= std::exchange(begin_, 0);
  }
  reading_ = true;
  socket_.async_read_some(boost::asio::buffer(in_.data() + end_, in_.size() - end_),
                          [self = shared_from_this()](const error_code& error, std::size_t size) {
                            self->on_read(error, size);
                          });
}

void HopConnection::on_read(const error_code& error, std::size_t size) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (state_ == State::kIdle) {  // its end, or bytes that nobody asked for
    close();
    if (on_gone_) on_gone_();
    return;
  }
  if (error) {
    read_over_ = true;
    if (broken_.empty()) {
      broken_ =
          error == boost::asio::error::eof ? "the node closed the connection" : error.message();
    }
    // How much of the request was taken is known when its write has ended.
    error_code ignored;
    if (writing_) return static_cast<void>(socket_.cancel(ignored));
    return end_without_reply();
  }
  end_ += size;
  advance();
}

// Uses what has come: events first, because those that nobody has taken stop all the rest.
void HopConnection::advance() {
  const auto keep = shared_from_this();
  while (state_ == State::kBusy) {
    if (!drain_events()) return;
    if (state_ != State::kBusy) return;
    if (whole_) return finish();
    if (begin_ == end_ || starved_) {
      starved_ = false;
      return read_over_ ? end_without_reply() : read_more();
    }
    if (!use_bytes()) return;
  }
}

// False: the user wants no item now.
bool HopConnection::drain_events() {
  while (streaming_ && state_ == State::kBusy) {
    if (!item_) item_ = events_.next();
    if (!item_) return true;
    if (item_->name == "item") {
      if (!user_->wants_item()) return false;
      user_->on_item(std::move(std::exchange(item_, std::nullopt)->data));
      continue;
    }
    const StreamEvent event = std::move(*std::exchange(item_, std::nullopt));
    if (event.name == "result") {  // of a function that does not stream
      result_ = event.data;
    } else if (event.name == "end" || event.name == "error") {
      last_ = read_last_event(event.name, event.data);
    }
  }
  return true;
}

// False: the exchange has failed.
bool HopConnection::use_bytes() {
  const auto feed = [this] {
    std::size_t used = 0;
    const auto step = reader_->feed({in_.data() + begin_, end_ - begin_}, used);
    begin_ += used;
    return step;
  };
  auto step = feed();
  if (step == ReplyReader::Step::kHeader) {
    const std::string_view type = reader_->head().get("content-type");
    streaming_ = reader_->head().status == 200 && type.starts_with("text/event-stream");
    step = feed();  // a reply without a body is over now
  }
  if (step == ReplyReader::Step::kFailed) {
    fail(HopFailure::kBroken, reader_->error());
    return false;
  }
  whole_ = step == ReplyReader::Step::kDone;
  starved_ = !whole_;
  if (streaming_) {
    events_.feed(reader_->take_body());
    if (events_.held() > limits_.body_max) {
      fail(HopFailure::kBroken, "an event of the stream is too large");
      return false;
    }
  }
  return true;
}

void HopConnection::finish() {
  Answer answer;
  if (!streaming_) {
    answer = read_reply(reader_->head(), reader_->take_body());
  } else if (last_) {
    answer = std::move(*last_);
    if (answer.kind == Answer::Kind::kOutcome) answer.outcome.payload = std::move(result_);
  } else {
    return fail(HopFailure::kBroken, "the stream ended without its last event");
  }
  User* const user = std::exchange(user_, nullptr);
  const bool reusable = reader_->head().keep_alive && !writing_ && !read_over_ && begin_ == end_ &&
                        taken_bytes_ == request_bytes_;
  if (reusable) {
    become_idle();
  } else {
    close();
  }
  user->on_answer(std::move(answer));
}

// The connection is over, and the reply is not whole.
void HopConnection::end_without_reply() {
  if (writing_) return;  // on_written goes on
  // The stream has said how the call ended; only the end of its last chunk is missing.
  if (last_ && !item_) return finish();
  const HopFailure failure = taken_bytes_ == request_bytes_ ? HopFailure::kBroken
                             : taken_bytes_ == 0            ? HopFailure::kUnsent
                                                            : HopFailure::kIncomplete;
  fail(failure, broken_);
}

void HopConnection::fail(HopFailure failure, std::string why) {
  User* const user = user_;
  const auto keep = shared_from_this();
  close();
  user->on_failure(failure, std::move(why));
}

void HopConnection::resume() {
  if (state_ == State::kBusy) advance();
}

}  // namespace keelback::nodes
