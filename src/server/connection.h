// The connection to one client. It reads requests, one after another, and writes their replies in
// order. Further requests wait in the buffer, which has a limit, and then in the kernel. While a
// call runs, the connection goes on reading, so that it notices when the client leaves.
//
//   idle -> header -> body -> busy -> writing -> idle | lingering -> closed
//
// A stream stays busy while it writes its events: those of a call, or what is asked of a client
// that provides functions. A call may outlive its connection. Then nobody reads its outcome, but it
// is still counted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "server/handlers.h"
#include "server/hub.h"
#include "server/reply.h"
#include "server/request.h"

namespace keelback::server {

// Shared by the hub's list, the handlers waiting in the loop and the callbacks of its call.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Hub> hub, Socket socket, Door door, std::string peer);
  ~Connection();

  void start();
  void tick(Clock::time_point now);  // timeouts, heartbeats, clients that left
  // The server stops. Closes a connection on which no request can be under way; others get the
  // reply to their request first. The limit of Hub::stop() bounds that.
  void finish_soon();
  void close();

  // Answers the request that runs. Ignored if the connection has closed meanwhile.
  void reply(Response response);
  // Ends the session that the request names, and replies.
  void end_session();

  // The request that runs is GET /v1/providers: the client provides these names until it leaves, or
  // the server stops.
  void provide(std::vector<std::string> names);
  // Of a request of Python code, which this client was asked.
  void on_asked(host::HostRequest&& request);
  void on_cancelled(std::uint64_t request);
  void on_answered(std::uint64_t request);

  Hub& hub() const { return *hub_; }
  std::string_view peer() const { return peer_; }
  // Whether it gives way to a newcomer when there are as many connections as there may be. Between
  // those of one answer the one with the earliest deadline gives way.
  enum class GivesWay : std::uint8_t {
    kFirst,   // it waits between two requests
    kSecond,  // no header has come whole: nobody knows yet who asks for what
    kThird,   // the rest of a request that is refused already
    kNever,
  };
  GivesWay gives_way() const;
  Clock::time_point deadline() const { return deadline_; }
  std::size_t index() const { return index_; }  // in the hub's list
  void set_index(std::size_t index) { index_ = index; }

 private:
  enum class State { kIdle, kHeader, kBody, kBusy, kWriting, kLingering, kClosed };
  // Events on their way to the client.
  struct Stream {
    std::string headers;  // further lines of the head, each with its CRLF
    bool head_sent = false;
    bool writing = false;
    bool ended = false;   // the last event is in `pending` or gone
    std::string pending;  // events not yet given to the socket
    std::string wire;     // the chunk that is being written
    std::uint32_t pending_items = 0;
    std::uint32_t wire_items = 0;  // granted anew when the socket has taken them
    std::uint64_t items = 0;
    Clock::time_point next_heartbeat;
  };
  // Functions that the client provides for as long as its stream lasts.
  struct Providing {
    host::ProviderId id;
    std::size_t names = 0;
    std::unordered_set<std::uint64_t> open;  // requests that it may answer
  };

  // ---- reading (connection.cpp)
  void pump();
  bool begin_request();
  void on_header();
  void on_request();
  void on_bad_request();
  void read_more();
  void on_read(const boost::system::error_code& error, std::size_t size);
  void on_end_of_stream();
  bool account_body();
  void check_peer(Clock::time_point now);
  void client_left();

  // ---- replying (connection.cpp)
  void refuse(Response response);
  void open_reply(int status, std::string_view content_type, std::optional<std::uint64_t> length);
  void send(std::string body);
  void on_written(const boost::system::error_code& error);
  void after_reply();
  void linger();
  Clock::time_point transfer_deadline(std::uint64_t bytes) const;

  // ---- calls (connection_call.cpp)
  void start_call();
  void on_outcome(Outcome&& outcome);
  void reply_outcome(Outcome&& outcome);
  void reply_attached(Outcome&& outcome);
  void on_item(std::string&& item);
  void end_stream(Outcome&& outcome);

  // ---- streams of events (connection_stream.cpp)
  void open_stream();
  void flush_stream();
  void on_stream_written(const boost::system::error_code& error);

  // ---- providing functions (connection_providing.cpp)
  void stop_providing();  // nothing happens if it provides none
  void end_providing();   // the stream too

  const std::shared_ptr<Hub> hub_;
  Socket socket_;
  const Door door_;
  const std::string peer_;  // its address, or "unix"
  State state_ = State::kIdle;
  Clock::time_point deadline_ = Clock::time_point::max();
  std::size_t index_ = 0;

  std::vector<char> in_;
  std::size_t begin_ = 0;  // [begin_, end_) of in_ is read and not yet used
  std::size_t end_ = 0;
  bool reading_ = false;
  bool eof_ = false;
  Clock::time_point next_probe_{};

  Request request_;
  std::optional<RequestReader> reader_;
  Admission admission_;
  std::optional<Response> refusal_;  // to be sent when the request's body has been read
  std::uint64_t buffered_ = 0;       // our share of hub_->buffered
  bool served_ = false;              // a request of its has been answered
  bool close_after_ = false;

  std::string out_;
  std::string out_body_;

  Clock::time_point called_at_{};
  CallId call_;  // the last one; it runs while state_ is kBusy
  std::string call_name_;
  std::string function_;
  bool in_session_ = false;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Providing> providing_;  // then there is a stream, and it has not ended
};

}  // namespace keelback::server
