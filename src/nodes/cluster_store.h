// The store of session snapshots of a node: each snapshot is a commit in the database of the
// cluster, and what a session starts from here is what the node claimed.
//
// Threads: the engine asks from any thread, under its lock; everything else happens on the loop.
#pragma once

#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "cluster/action.h"
#include "cluster/event.h"
#include "host/event_loop.h"
#include "store/store.h"

namespace keelback::nodes {

class ClusterStore final : public store::Store {
 public:
  // What a commit's reply meant, before the engine hears it.
  using OnSettled = std::move_only_function<void(const std::string& session, std::uint64_t birth,
                                                 const cluster::Settle& settle)>;
  using ToNode = std::move_only_function<void(cluster::Event event)>;

  explicit ClusterStore(boost::asio::io_context& loop) : loop_(loop) {}
  ~ClusterStore() override { alive_.end(); }

  // ---- on the loop
  // Before the first request.
  void attach(ToNode to_node, OnSettled on_settled);
  // The state that the session's next start here is made from.
  void give(std::uint64_t birth, const cluster::State& state);
  // Nothing of this birth is kept or dropped any more: the pool never had it, or it has gone.
  void forget(std::uint64_t birth);
  // False: it is none of ours.
  [[nodiscard]] bool settle(const cluster::Settle& settle);
  void fetched(cluster::Fetched& fetched);
  // Whether each call commits, so that a stored state stays the latest one.
  void set_commits_each_call(bool each_call) { commits_each_call_ = each_call; }
  // From now on no call follows a snapshot.
  void set_draining() { draining_ = true; }
  cluster::CommitId next_id() { return ++last_id_; }

  // ---- store::Store
  std::optional<bool> keep(store::Record record, Done done) override;
  std::optional<bool> drop(std::string session, std::uint64_t birth, Done done) override;
  std::optional<store::Fetched> fetch(const std::string& session, std::uint64_t birth,
                                      std::uint64_t number, OnFetched done) override;
  void close() override;
  void set_bytes_max(std::uint64_t) override {}  // the database has its own bounds
  store::Status status() const override;
  void set_status(store::Status status);

 private:
  struct Waiting {
    std::string session;
    std::uint64_t birth = 0;
    Done done;
  };
  template <class Work>
  void post(Work work);
  void commit(cluster::CommitWanted wanted, Done done);
  void ended();

  boost::asio::io_context& loop_;
  host::Alive alive_;
  ToNode to_node_;
  OnSettled on_settled_;
  bool commits_each_call_ = false;
  bool draining_ = false;
  std::uint64_t last_id_ = 0;
  std::map<cluster::CommitId, Waiting> commits_;
  std::map<cluster::FetchId, OnFetched> fetches_;
  std::map<std::uint64_t, cluster::State> given_;  // birth -> state, until it is first asked for
  std::set<std::uint64_t> forgotten_;              // births whose pool may still drop them

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable none_open_;
  std::uint64_t open_ = 0;
  bool closed_ = false;
  store::Status status_;
};

}  // namespace keelback::nodes
