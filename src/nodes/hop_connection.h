// One connection to another node: requests one after another, and their replies. Everything happens
// on the thread of its loop.
//
//   connecting -> idle <-> busy -> closed
//
// What it knows of a request that did not get its whole reply is the point: whether the other node
// can have read it. The kernel tells how many bytes it took. If those are fewer than the request
// has, the node cannot have run it.
#pragma once

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/net_names.h"
#include "base/time.h"
#include "nodes/event_reader.h"
#include "nodes/hop_text.h"
#include "nodes/reply_reader.h"

namespace keelback::nodes {

enum class HopFailure : std::uint8_t {
  kNotConnected,  // nobody answered there
  kUnsent,        // no byte of the request was taken
  kIncomplete,    // some were, not all
  kBroken,        // all were, or the reply was no reply
};

// Shared by the client that uses it and the handlers that wait in the loop.
class HopConnection : public std::enable_shared_from_this<HopConnection> {
 public:
  // Who waits for a reply. Its methods may close() the connection.
  class User {
   public:
    virtual bool wants_item() = 0;  // false: the connection stops reading until resume()
    virtual void on_item(std::string&& item) = 0;
    // The whole reply; or the last event of a stream. The connection is idle again, or closed.
    virtual void on_answer(Answer&& answer) = 0;
    virtual void on_failure(HopFailure failure, std::string why) = 0;

   protected:
    ~User() = default;
  };
  HopConnection(boost::asio::io_context& loop, ReplyReader::Limits limits);

  // `done` hears whether it is idle now, or why not; at the latest after `limit`. Not after
  // close().
  void connect(const NodeUrl& url, Duration limit,
               std::move_only_function<void(std::optional<std::string> error)> done);
  // Requires: idle. The texts are borrowed until the user hears the end or close() is called, and
  // so is the user.
  void exchange(User& user, std::string_view head, std::string_view body);
  // Of a user that wants items again.
  void resume();
  // Nobody hears of it. Idempotent.
  void close();

  bool idle() const { return state_ == State::kIdle; }
  bool closed() const { return state_ == State::kClosed; }
  // A look at the socket: the node has not closed it, as far as this machine knows. Requires: idle.
  bool looks_alive();
  // An idle connection was closed by the node, or nobody used it for `limit`.
  void set_on_gone(std::move_only_function<void()> on_gone) { on_gone_ = std::move(on_gone); }
  void close_when_idle_for(Duration limit) { idle_limit_ = limit; }

 private:
  using Clock = std::chrono::steady_clock;
  using Executor = boost::asio::io_context::executor_type;
  using Tcp = boost::asio::ip::tcp;
  enum class State : std::uint8_t { kConnecting, kIdle, kBusy, kClosed };

  void open(const std::vector<Tcp::endpoint>& endpoints, std::size_t next);
  void connected(std::optional<std::string> error);
  void become_idle();
  void read_more();
  void on_read(const boost::system::error_code& error, std::size_t size);
  void on_written(const boost::system::error_code& error, std::size_t size);
  void advance();
  bool drain_events();
  bool use_bytes();
  void finish();
  void end_without_reply();
  void fail(HopFailure failure, std::string why);

  boost::asio::basic_stream_socket<Tcp, Executor> socket_;
  boost::asio::ip::basic_resolver<Tcp, Executor> resolver_;
  boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, Executor> timer_;
  const ReplyReader::Limits limits_;
  State state_ = State::kConnecting;
  std::move_only_function<void(std::optional<std::string>)> on_connected_;
  std::move_only_function<void()> on_gone_;
  Duration idle_limit_ = Duration::max();

  std::vector<char> in_;
  std::size_t begin_ = 0;  // [begin_, end_) of in_ is read and not yet used
  std::size_t end_ = 0;
  bool reading_ = false;

  // ---- of the request under way
  User* user_ = nullptr;
  std::size_t request_bytes_ = 0;
  std::size_t taken_bytes_ = 0;  // by the kernel, once it is no more `writing_`
  bool writing_ = false;
  bool read_over_ = false;  // nothing more will come
  std::string broken_;      // why
  std::optional<ReplyReader> reader_;
  bool streaming_ = false;
  bool whole_ = false;    // the reply has come whole
  bool starved_ = false;  // the reader needs more bytes than there are
  EventReader events_;
  std::optional<StreamEvent> item_;  // that the user did not want yet
  std::string result_;               // of a function that does not stream
  std::optional<Answer> last_;       // the last event of the stream
};

}  // namespace keelback::nodes
