#include "postgres/connection.h"

#include <fmt/format.h>
#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/check.h"
#include "os/clock.h"

namespace keelback::postgres {
namespace {

// Deadlines that are nearer to each other than this are met together.
constexpr Duration kDeadlineGrain = std::chrono::milliseconds(1);

void ignore_notice(void* /*unused*/, const PGresult* /*unused*/) {}

std::int64_t milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

template <class Handler>
auto Connection::guarded(Handler handler) {
  return [self = self_, attempt = attempt_,
          handler = std::move(handler)](auto&&... arguments) mutable {
    if (*self == nullptr || (*self)->attempt_ != attempt) return;
    handler(std::forward<decltype(arguments)>(arguments)...);
  };
}

Connection::Connection(boost::asio::io_context& loop, const Libpq& libpq, const Target& target,
                       Options options, OnChange on_change)
    : loop_(loop),
      libpq_(libpq),
      target_(target),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      descriptor_(loop),
      resolver_(loop),
      connect_timer_(loop),
      deadline_timer_(loop),
      self_(std::make_shared<Connection*>(this)) {
  // Not from within: nobody can hear of it yet.
  boost::asio::post(loop_, guarded([this] { begin_round(); }));
}

Connection::~Connection() {
  *self_ = nullptr;
  drop_connection();
}

// ---- connecting

void Connection::begin_round() {
  hosts_.clear();
  next_host_ = 0;
  phase_ = Phase::kResolving;
  connect_timer_.expires_after(options_.connect_limit);
  connect_timer_.async_wait(guarded([this](const boost::system::error_code& error) {
    if (!error) attempt_failed("its name was not resolved in time");
  }));
  resolve(0);
}

void Connection::resolve(std::size_t index) {
  if (index == target_.hosts().size()) {
    connect_timer_.cancel();
    if (hosts_.empty()) return attempt_failed("its name cannot be resolved");
    return connect_next();
  }
  const Target::Host& host = target_.hosts()[index];
  if (!host.to_resolve()) {
    hosts_.push_back(host);
    return resolve(index + 1);
  }
  resolver_.async_resolve(
      host.name, "",
      guarded([this, index](const boost::system::error_code& error,
                            const boost::asio::ip::tcp::resolver::results_type& found) {
        if (!error) {
          for (const auto& each : found) {
            hosts_.push_back(target_.hosts()[index]);
            hosts_.back().address = each.endpoint().address().to_string();
          }
        }
        resolve(index + 1);
      }));
}

void Connection::connect_next() {
  ++attempt_;
  phase_ = Phase::kConnecting;
  connection_ = target_.start(libpq_, hosts_[next_host_++], options_.application);
  if (connection_ == nullptr) return attempt_failed("there is no memory for a connection");
  if (libpq_.PQstatus(connection_) == CONNECTION_BAD) return attempt_failed(error_text());
  libpq_.PQsetNoticeReceiver(connection_, ignore_notice, nullptr);
  connect_timer_.expires_after(options_.connect_limit);
  connect_timer_.async_wait(guarded([this](const boost::system::error_code& error) {
    if (error || phase_ != Phase::kConnecting) return;
    attempt_failed(fmt::format("it did not take the connection within {} ms",
                               milliseconds(options_.connect_limit)));
  }));
  // PQconnectStart means: as if the last poll had said "wait until the socket can be written".
  descriptor_.assign(libpq_.PQsocket(connection_));
  descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_write,
                         guarded([this](const boost::system::error_code& error) {
                           if (!error) poll_connect();
                         }));
}

void Connection::poll_connect() {
  // libpq may close this socket and go on with another one.
  static_cast<void>(descriptor_.release());
  const PostgresPollingStatusType next = libpq_.PQconnectPoll(connection_);
  if (next == PGRES_POLLING_OK) return came_up();
  if (next == PGRES_POLLING_FAILED) return attempt_failed(error_text());
  descriptor_.assign(libpq_.PQsocket(connection_));
  descriptor_.async_wait(next == PGRES_POLLING_READING
                             ? boost::asio::posix::stream_descriptor::wait_read
                             : boost::asio::posix::stream_descriptor::wait_write,
                         guarded([this](const boost::system::error_code& error) {
                           if (!error) poll_connect();
                         }));
}

void Connection::came_up() {
  if (libpq_.PQsetnonblocking(connection_, 1) != 0 ||
      libpq_.PQenterPipelineMode(connection_) != 1) {
    return attempt_failed(error_text());
  }
  connect_timer_.cancel();
  descriptor_.assign(libpq_.PQsocket(connection_));
  phase_ = Phase::kUp;
  trouble_.clear();
  backoff_ = Duration{0};
  wait_readable();
  pump();
  if (phase_ == Phase::kUp && on_change_) on_change_(true, "");
}

void Connection::attempt_failed(const std::string& reason) {
  drop_connection();
  if (next_host_ < hosts_.size()) return connect_next();
  trouble_ = fmt::format("the database cannot be reached: {}", reason);
  answer_all(waiting_, Ending::kNeverSent, trouble_);
  rest();
  if (on_change_) on_change_(false, trouble_);
}

void Connection::lose(const std::string& reason) {
  drop_connection();
  answer_all(sent_, Ending::kUnknown, reason);
  sent_bytes_ = 0;
  rest();
  // Not from within ask().
  boost::asio::post(loop_, [self = self_, reason] {
    if (*self != nullptr && (*self)->on_change_) (*self)->on_change_(false, reason);
  });
}

void Connection::rest() {
  phase_ = Phase::kResting;
  backoff_ = std::clamp(2 * backoff_, options_.backoff_min, options_.backoff_max);
  connect_timer_.expires_after(backoff_);
  connect_timer_.async_wait(guarded([this](const boost::system::error_code& error) {
    if (!error) begin_round();
  }));
}

void Connection::drop_connection() {
  ++attempt_;  // handlers of the old one do nothing any more
  resolver_.cancel();
  connect_timer_.cancel();
  if (descriptor_.is_open()) static_cast<void>(descriptor_.release());
  waiting_for_room_ = false;
  if (connection_ != nullptr) libpq_.PQfinish(std::exchange(connection_, nullptr));
}

// ---- working

void Connection::ask(Statement statement, Duration limit, OnResult done) {
  if (!up() && !trouble_.empty()) {
    return answer_later(std::move(done), {.ending = Ending::kNeverSent, .reason = trouble_});
  }
  if (limit <= Duration{0} || waiting_.size() >= options_.waiting_max) {
    return answer_later(
        std::move(done),
        {.ending = Ending::kNeverSent,
         .reason = limit <= Duration{0} ? "no time is left to ask the database"
                                        : "too many statements wait for the database"});
  }
  const Time deadline = os::monotonic_now() + limit;
  waiting_.push_back(
      {.statement = std::move(statement), .deadline = deadline, .done = std::move(done)});
  watch(deadline);
  pump();
}

void Connection::pump() {
  while (phase_ == Phase::kUp && !waiting_.empty() && sent_.size() < options_.sent_max) {
    Waiting& next = waiting_.front();
    const std::size_t bytes = next.statement.bytes();
    if (!sent_.empty() && sent_bytes_ + bytes > options_.sent_bytes_max) return;
    if (sent_.empty()) {
      silent_since_ = os::monotonic_now();
      watch(silent_since_ + options_.silence_max);
    }
    sent_.push_back({.bytes = bytes, .deadline = next.deadline, .done = std::move(next.done)});
    sent_bytes_ += bytes;
    const bool is_sent = send(next.statement);
    waiting_.pop_front();
    if (!is_sent) return lose(error_text());
  }
}

bool Connection::send(const Statement& statement) {
  // The Sync behind each statement makes it a transaction of its own. It flushes what it can.
  if (!statement.send(libpq_, connection_) || libpq_.PQpipelineSync(connection_) != 1) {
    return false;
  }
  flush();
  return true;
}

void Connection::flush() {
  if (waiting_for_room_) return;
  const int left = libpq_.PQflush(connection_);
  if (left != 1) return;  // an error shows when the socket is read
  waiting_for_room_ = true;
  descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_write,
                         guarded([this](const boost::system::error_code& error) {
                           if (error) return;
                           waiting_for_room_ = false;
                           flush();
                         }));
}

void Connection::wait_readable() {
  descriptor_.async_wait(
      boost::asio::posix::stream_descriptor::wait_read,
      guarded([this, attempt = attempt_](const boost::system::error_code& error) {
        if (error) return;
        read();
        if (phase_ == Phase::kUp && attempt_ == attempt) wait_readable();
      }));
}

void Connection::read() {
  const bool alive = libpq_.PQconsumeInput(connection_) == 1;
  // What the server said before it went still counts.
  if (!take_results() || !alive || libpq_.PQstatus(connection_) == CONNECTION_BAD) {
    return lose(error_text());
  }
  pump();
}

// False: the connection is of no use any more.
bool Connection::take_results() {
  while (!sent_.empty() && libpq_.PQisBusy(connection_) == 0) {
    ResultPtr result(libpq_.PQgetResult(connection_), ClearResult{&libpq_});
    if (!result) {
      if (libpq_.PQstatus(connection_) == CONNECTION_BAD) return false;
      continue;  // the end of one statement's results
    }
    Result& into = sent_.front().result;
    switch (libpq_.PQresultStatus(result.get())) {
      case PGRES_TUPLES_OK:
      case PGRES_COMMAND_OK:
        into.ending = Ending::kRows;
        into.rows = Rows(std::move(result));
        break;
      case PGRES_PIPELINE_SYNC:
        answer_front();
        break;
      default: {
        const char* state = libpq_.PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
        const char* text = libpq_.PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY);
        if (libpq_.PQstatus(connection_) == CONNECTION_BAD) return false;
        into.ending = Ending::kRefused;
        into.rows = Rows();
        into.sqlstate = state == nullptr ? "" : state;
        into.reason = target_.without_secrets(fmt::format(
            "the database refused a statement: {}", text == nullptr ? "it did not say why" : text));
      }
    }
  }
  return true;
}

void Connection::answer_front() {
  Sent answered = std::move(sent_.front());
  sent_.pop_front();
  sent_bytes_ -= answered.bytes;
  silent_since_ = os::monotonic_now();
  if (answered.done) answered.done(std::move(answered.result));
}

std::string Connection::error_text() const {
  std::string text = target_.without_secrets(libpq_.PQerrorMessage(connection_));
  return text.empty() ? "the connection to the database broke" : text;
}

// ---- deadlines

void Connection::watch(Time deadline) {
  if (deadline + kDeadlineGrain >= watched_) return;
  watched_ = deadline;
  deadline_timer_.expires_at(std::chrono::steady_clock::time_point(watched_.time_since_epoch()));
  deadline_timer_.async_wait([self = self_](const boost::system::error_code& error) {
    if (!error && *self != nullptr) (*self)->check_deadlines();
  });
}

void Connection::check_deadlines() {
  watched_ = Time::max();
  // If this process stood still, the answers may be there.
  if (up()) read();
  const Time now = os::monotonic_now() + kDeadlineGrain;
  std::deque<Waiting> over;
  for (Waiting& each : std::exchange(waiting_, {})) {
    (each.deadline <= now ? over : waiting_).push_back(std::move(each));
  }
  answer_all(over, Ending::kNeverSent, "the connection to the database was not there in time");
  for (Sent& each : sent_) {
    if (!each.done || each.deadline > now) continue;
    answer_later(std::exchange(each.done, nullptr),
                 {.ending = Ending::kUnknown, .reason = "the database did not answer in time"});
  }
  if (!sent_.empty() && silent_since_ + options_.silence_max <= now) {
    lose("the database does not answer");
  }
  Time first = Time::max();
  for (const Waiting& each : waiting_) first = std::min(first, each.deadline);
  for (const Sent& each : sent_) first = std::min(first, each.done ? each.deadline : Time::max());
  if (!sent_.empty()) first = std::min(first, silent_since_ + options_.silence_max);
  if (first != Time::max()) watch(first);
}

// ---- answers

void Connection::answer_later(OnResult done, Result result) {
  boost::asio::post(loop_,
                    [self = self_, done = std::move(done), result = std::move(result)]() mutable {
                      if (*self != nullptr) done(std::move(result));
                    });
}

template <class Asked>
void Connection::answer_all(std::deque<Asked>& all, Ending ending, const std::string& reason) {
  for (Asked& each : std::exchange(all, {})) {
    if (!each.done) continue;
    answer_later(std::move(each.done), {.ending = ending, .reason = reason});
  }
}

}  // namespace keelback::postgres
