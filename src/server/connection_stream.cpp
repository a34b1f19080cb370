// The part of a connection that writes a stream of events.
#include <fmt/format.h>

#include <array>
#include <boost/asio/write.hpp>
#include <iterator>
#include <memory>
#include <utility>

#include "server/connection.h"
#include "server/sse.h"

namespace keelback::server {

using boost::system::error_code;

void Connection::open_stream() {
  stream_ = std::make_unique<Stream>();
  stream_->next_heartbeat = Clock::now() + hub_->options.heartbeat;
}

// Gives the socket all pending events as one chunk. Later events wait until it has taken them.
void Connection::flush_stream() {
  Stream& stream = *stream_;
  if (stream.writing || stream.pending.empty()) return;
  if (!stream.head_sent) {
    if (!request_.http11) close_after_ = true;  // no chunks: the end of the stream is its end
    open_reply(200, kEventStream, std::nullopt);
    out_ += "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";
    out_ += stream.headers;
    out_ += request_.http11 ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
    stream.head_sent = true;
  } else {
    out_.clear();
  }
  stream.wire.clear();
  std::swap(stream.wire, stream.pending);
  stream.wire_items = std::exchange(stream.pending_items, 0);
  if (request_.http11) {
    fmt::format_to(std::back_inserter(out_), "{:x}\r\n", stream.wire.size());
    stream.wire += stream.ended ? "\r\n0\r\n\r\n" : "\r\n";
  }
  stream.writing = true;
  const auto now = Clock::now();
  stream.next_heartbeat = now + hub_->options.heartbeat;
  deadline_ = now + hub_->options.stream_stall_max;
  const std::array<boost::asio::const_buffer, 2> buffers{boost::asio::buffer(out_),
                                                         boost::asio::buffer(stream.wire)};
  boost::asio::async_write(socket_, buffers,
                           [self = shared_from_this()](const error_code& error, std::size_t) {
                             self->on_stream_written(error);
                           });
}

void Connection::on_stream_written(const error_code& error) {
  if (state_ == State::kClosed) return;
  if (error) return client_left();
  Stream& stream = *stream_;
  stream.writing = false;
  deadline_ = Clock::time_point::max();
  if (stream.ended && stream.pending.empty()) return after_reply();
  if (stream.wire_items > 0 && !stream.ended) {
    hub_->driver.grant(call_, std::exchange(stream.wire_items, 0));
  }
  flush_stream();
}

}  // namespace keelback::server
