// The database of a cluster on PostgreSQL: cluster::Database, for any number of requests at once.
//
// Six connections. Beats have one of their own, which nothing else can hold up. Commits have four:
// what has piled up while these were busy goes as one statement, one write to the server's disk for
// all of it, and the server works on one group while it writes another. Everything else has the
// last one.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/database.h"
#include "postgres/connection.h"

namespace keelback::postgres {

class PostgresDatabase final : public cluster::Database {
 public:
  struct Options {
    std::string url;  // a secret: no message has it
    Duration connect_limit = std::chrono::seconds(5);
    std::size_t group_max = 64;               // commits in one statement
    std::size_t group_bytes_max = 4U << 20U;  // likewise; a larger one goes alone
    std::size_t waiting_max = 100'000;        // commits that wait; one more is not done
  };
  // The connection for beats has come up, or is down: then the reason, without secrets.
  using OnChange = Connection::OnChange;

  // Loads the client library and begins to connect. The error, without secrets: the library is
  // missing, or the URL is none. Reads files: not on a loop that others wait for.
  static std::expected<std::unique_ptr<PostgresDatabase>, std::string> open(
      boost::asio::io_context& loop, Options options, OnChange on_change);
  // On the loop's thread, or after its end, but not from within an answer. What has no answer gets
  // none any more.
  ~PostgresDatabase() override;

  // On the loop's thread. A state's bytes are copied.
  void ask(cluster::Request request, Duration patience, OnReply done) override;

 private:
  enum Lane : std::uint8_t { kBeats, kOthers, kCommits, kLanes = kCommits + 4 };
  // A request on its way.
  struct Asked {
    cluster::Request request;
    Time deadline;
    OnReply done;
    bool prepared = false;  // the tables were looked at for it
    bool alone = false;     // a commit whose group was refused
    bool wrote = false;     // a step of it took effect
  };
  using AskedPtr = std::shared_ptr<Asked>;  // shared by the steps of the request
  using OnRows = std::move_only_function<void(const Rows& rows)>;

  PostgresDatabase(boost::asio::io_context& loop, const Libpq& libpq, Target target,
                   Options options, OnChange on_change);

  void perform(const AskedPtr& asked);
  // One statement of the request; what it gives back goes to `then`, and a failure to the caller.
  void step(const AskedPtr& asked, Statement statement, OnRows then);
  void failed(const AskedPtr& asked, Result result);
  void prepare(const AskedPtr& asked, std::move_only_function<void(std::uint32_t version)> then);

  void on(const AskedPtr& asked, const cluster::Join& request);
  void on(const AskedPtr& asked, const cluster::Beat& request);
  void on(const AskedPtr& asked, const cluster::Retire& request);
  void on(const AskedPtr& asked, const cluster::Leave& request);
  void on(const AskedPtr& asked, const cluster::Find& request);
  void on(const AskedPtr& asked, const cluster::Claim& request);
  void on(const AskedPtr& asked, const cluster::Commit& request);
  void on(const AskedPtr& asked, const cluster::Release& request);
  void on(const AskedPtr& asked, const cluster::Drop& request);
  void on(const AskedPtr& asked, const cluster::Owned& request);
  void on(const AskedPtr& asked, const cluster::Sweep& request);
  void on(const AskedPtr& asked, const cluster::KeyOpen& request);
  void on(const AskedPtr& asked, const cluster::KeyFind& request);
  void on(const AskedPtr& asked, const cluster::KeyAnswer& request);
  void on(const AskedPtr& asked, const cluster::KeyDrop& request);
  void on(const AskedPtr& asked, const cluster::WriteSettings& request);

  // A write of a row of a session: done, or what stands there.
  void write(const AskedPtr& asked, Statement statement, const std::string& session);
  // Answers that the write was refused, with what stands there.
  template <class Reply>
  void refuse(const AskedPtr& asked, const std::string& session);

  void send_commits_soon();
  void send_commits();
  void send_group(std::size_t lane, std::vector<AskedPtr> group);
  std::vector<AskedPtr> next_group(std::size_t most);
  void committed(std::vector<AskedPtr> group, Result result);
  void watch_commits();

  boost::asio::io_context& loop_;
  const Libpq& libpq_;
  const Target target_;
  const Options options_;
  std::array<std::unique_ptr<Connection>, kLanes> lanes_;

  std::deque<AskedPtr> commits_;  // not sent yet
  bool sends_soon_ = false;
  std::array<bool, kLanes> busy_{};  // a group is under way
  // Of the groups that are under way.
  std::set<std::string, std::less<>> sessions_, keys_;
  boost::asio::steady_timer commits_timer_;  // for the deadlines of those
  bool commits_watched_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // shared with handlers
};

}  // namespace keelback::postgres
