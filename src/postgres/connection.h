// A connection to PostgreSQL on an Asio loop, which comes back by itself when it breaks. Statements
// go out at once, one behind another without waiting for replies (libpq's pipeline mode); each is a
// transaction of its own. Nothing blocks, neither names that must be resolved nor a server that
// does not answer. Works through pgbouncer in transaction mode: a statement leaves nothing behind
// in the server's session.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "postgres/libpq.h"
#include "postgres/statement.h"
#include "postgres/target.h"

namespace keelback::postgres {

enum class Ending : std::uint8_t {
  kRows,       // it was done; what came back are rows, perhaps none
  kRefused,    // the server refused it, and nothing of it took effect
  kUnknown,    // it was sent, and no answer came
  kNeverSent,  // it took no effect
};

struct Result {
  Ending ending = Ending::kNeverSent;
  Rows rows;
  std::string sqlstate;  // kRefused: five characters of PostgreSQL's appendix A
  std::string reason;    // unless kRows: one sentence, without secrets
};

// Everything on the loop's thread, and destroyed there or after that thread has ended. What
// `libpq`, `target` and the loop are must outlive it.
class Connection {
 public:
  using OnResult = std::move_only_function<void(Result result)>;
  // The connection has come up, or is down: then the reason, without secrets. Not from within
  // ask().
  using OnChange = std::move_only_function<void(bool up, const std::string& reason)>;

  struct Options {
    std::string application = "keelback";  // its name in pg_stat_activity
    Duration connect_limit = std::chrono::seconds(5);
    Duration backoff_min = std::chrono::milliseconds(50);  // between attempts; doubles up to
    Duration backoff_max = std::chrono::seconds(1);
    std::size_t waiting_max = 100'000;  // statements that wait here; one more is never sent
    std::size_t sent_max = 256;         // statements that are under way; the next one waits here
    std::size_t sent_bytes_max = 16 << 20;  // likewise; a larger one goes alone
    // A server that answers none of the statements that are under way for this long is given up.
    Duration silence_max = std::chrono::seconds(5);
  };

  // Begins to connect.
  Connection(boost::asio::io_context& loop, const Libpq& libpq, const Target& target,
             Options options, OnChange on_change);
  // Statements without an answer get none any more.
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // `done` is called exactly once, on the loop, not from within ask(), at the latest after `limit`.
  // It may call ask(); it must not destroy the connection. A statement that was sent can take
  // effect after its limit. While the database cannot be reached, statements are not sent, and are
  // answered at once.
  void ask(Statement statement, Duration limit, OnResult done);

  bool up() const { return phase_ == Phase::kUp; }

 private:
  enum class Phase : std::uint8_t { kResolving, kConnecting, kUp, kResting };
  struct Waiting {
    Statement statement;
    Time deadline;
    OnResult done;
  };
  struct Sent {
    std::size_t bytes;
    Time deadline;
    OnResult done;  // empty: its limit has passed, and it was answered
    Result result;  // what has come so far; valid when the statement's Sync is answered
  };

  // Connecting. `hosts_` are the addresses of this round of attempts.
  void begin_round();
  void resolve(std::size_t index);
  void connect_next();
  void poll_connect();
  void came_up();
  void attempt_failed(const std::string& reason);
  void lose(const std::string& reason);
  void rest();
  void drop_connection();

  // Working.
  void pump();
  bool send(const Statement& statement);
  void flush();
  void wait_readable();
  void read();
  bool take_results();
  void answer_front();
  std::string error_text() const;

  // Deadlines.
  void watch(Time deadline);
  void check_deadlines();

  void answer_later(OnResult done, Result result);
  template <class Asked>
  void answer_all(std::deque<Asked>& all, Ending ending, const std::string& reason);
  // A handler that does nothing once this is gone, or once the connection is another one.
  template <class Handler>
  auto guarded(Handler handler);

  boost::asio::io_context& loop_;
  const Libpq& libpq_;
  const Target& target_;
  const Options options_;
  OnChange on_change_;

  Phase phase_ = Phase::kResting;
  std::vector<Target::Host> hosts_;
  std::size_t next_host_ = 0;
  std::string trouble_;  // why it cannot be reached; empty: no attempt has failed since it was up
  Duration backoff_{0};
  PGconn* connection_ = nullptr;
  boost::asio::posix::stream_descriptor descriptor_;  // borrows the connection's socket
  bool waiting_for_room_ = false;

  std::deque<Waiting> waiting_;
  std::deque<Sent> sent_;
  std::size_t sent_bytes_ = 0;
  Time silent_since_{};  // when the first of sent_ became the first

  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::steady_timer connect_timer_;   // the limit of an attempt, and the rest between two
  boost::asio::steady_timer deadline_timer_;  // for the first deadline
  Time watched_ = Time::max();                // when deadline_timer_ ends
  std::uint64_t attempt_ = 0;                 // numbers the connections
  std::shared_ptr<Connection*> self_;         // shared with the handlers; nulled at the end
};

}  // namespace keelback::postgres
