// The driver of one node of a cluster: a driver of real processes, and before it the question who
// owns the call's session. Calls without a session and without an idempotency key go straight
// through.
//
// A call that is asked about is a *ticket*. Its caller knows it by a number of this driver's own,
// whichever node runs it.
//
// Threads: as host::Driver says. Tickets and sessions live on the loop; `mutex_` guards what
// cancel() and dump() need to answer at once.
#pragma once

#include <spdlog/logger.h>

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/settings.h"
#include "cluster/action.h"
#include "cluster/database.h"
#include "cluster/event.h"
#include "cluster/node.h"
#include "cluster/status.h"
#include "host/driver.h"
#include "host/event_loop.h"
#include "host/session_port.h"
#include "nodes/cluster_store.h"
#include "nodes/hops.h"
#include "nodes/member.h"
#include "nodes/nested_calls.h"

namespace keelback::nodes {

struct NodeConfig {
  host::EventLoop* loop = nullptr;  // required; outlives the driver
  Settings settings;
  std::string digest;                      // of the application
  std::uint64_t seed = 0;                  // from the operating system's randomness
  std::shared_ptr<spdlog::logger> logger;  // shared with the program
  std::shared_ptr<ClusterStore> store;     // shared with the inner driver
  std::unique_ptr<host::Driver> inner;     // has a session port, and uses `store`
  std::unique_ptr<cluster::Database> database;
  std::unique_ptr<Hops> hops;
};

class NodeDriver final : public host::Driver {
 public:
  // This driver's own numbers begin here; those of the inner driver never come so far. Below 2^53,
  // so that JSON readers keep them.
  static constexpr std::uint64_t kFirstCall = 1ULL << 52U;

  explicit NodeDriver(NodeConfig config);
  ~NodeDriver() override;  // not on the loop

  Outcome call(Call call) override;
  CallId submit(Call call, host::OnOutcome done) override;
  CallId stream(Call call, host::OnItem item, host::OnOutcome done) override;
  CallId take_hop(std::string_view sender, Call call, host::OnItem item,
                  host::OnOutcome done) override;
  void end_session(std::string session, host::OnOutcome done) override;
  void take_hop_end(std::string_view sender, std::string session, host::OnOutcome done) override;
  void grant(CallId call, std::uint32_t items) override;
  bool cancel(CallId call) override;
  std::optional<std::string> dump(CallId call) override;
  host::PoolInfo info() override { return inner_->info(); }
  std::vector<host::WorkerInfo> workers() override { return inner_->workers(); }
  SessionList sessions(std::string_view after, std::size_t limit) override {
    return inner_->sessions(after, limit);
  }
  std::shared_ptr<const Application> application() override { return inner_->application(); }
  std::vector<QuarantinedRequest> quarantine() override { return inner_->quarantine(); }
  bool apply(const core::Event& event) override { return inner_->apply(event); }
  void configure(const Settings& settings) override;
  void reload(std::move_only_function<void(std::string error)> done) override {
    inner_->reload(std::move(done));
  }
  void drain(Duration limit, std::move_only_function<void()> done) override;
  host::ProviderId provide(std::vector<std::string> names,
                           std::shared_ptr<host::Provider> provider) override {
    return inner_->provide(std::move(names), std::move(provider));
  }
  void withdraw(host::ProviderId provider) override { inner_->withdraw(provider); }
  bool answer(std::uint64_t request, host::HostReply reply) override {
    return inner_->answer(request, std::move(reply));
  }
  Time now() const override { return inner_->now(); }

  std::optional<host::ClusterInfo> cluster() override;
  // The same in the words of the rules.
  cluster::Status cluster_status();

 private:
  struct Ticket {
    cluster::TicketId asked = 0;  // how the node knows it now
    Call call;
    host::OnItem item;  // empty: it takes no stream
    host::OnOutcome done;
    Time deadline;
    bool own_deadline = false;  // its caller has set it
    bool hop = false;
    bool ends = false;  // it ends the call's session, and runs nothing
    bool streaming = false;
    std::uint32_t granted = 0;                         // before it was known who runs it
    CallId local;                                      // in the inner driver
    std::uint64_t away = 0;                            // at another node
    std::uint64_t birth = 0;                           // with which it was admitted
    bool forgotten = false;                            // its session had to be dropped meanwhile
    std::optional<Outcome> answer;                     // waits to be vouched for
    std::unique_ptr<boost::asio::steady_timer> limit;  // until it is known who runs it
  };
  struct Held {
    std::uint64_t birth = 0;
    std::uint32_t running = 0;  // tickets in the inner driver
    bool expected = false;      // no call has opened it yet
    bool opening = false;       // the node waits for SessionOpened
    bool committed = false;     // the state after the last answer is
  };

  CallId enter(Call call, host::OnItem item, host::OnOutcome done, bool hop);
  void enter_end(std::string session, host::OnOutcome done, bool hop);
  CallId enter(Ticket ticket);
  void come(CallId id, Ticket ticket);
  void ask_who(CallId id, Ticket& ticket);
  void too_late(CallId id);
  void leave(CallId id);
  void have_left();
  void give_up(CallId id, Outcome&& outcome);

  void perform(cluster::Action& action);
  void on(cluster::Admit& action);
  void on(cluster::Forward& action);
  void on(cluster::GiveUpHop& action);
  void on(cluster::Replay& action);
  void on(cluster::Refuse& action);
  void on(cluster::Ended& action);
  void on(cluster::Misdirected& action);
  void on(cluster::Adopt& action);
  void on(cluster::Settle& action);
  void on(cluster::Fetched& action) { store_->fetched(action); }
  void on(cluster::ForgetSession& action);
  void on(cluster::ObeySettings& action);
  void on(cluster::Left& action);
  void on(cluster::Ask&) {}
  void on(cluster::Notice&) {}

  void end_here(CallId id, const std::string& session, std::uint64_t birth);
  void ran_here(CallId id, Outcome&& outcome);
  void came_back(CallId id, Hops::Ended&& ended);
  void settled(const std::string& session, std::uint64_t birth, const cluster::Settle& settle);
  void take(const std::string& session, std::uint64_t birth, const std::string& detail,
            bool may_be_kept);
  void session_gone(const core::SessionGone& gone);
  void release(const std::string& session, std::uint64_t birth);
  void finish(CallId id, Outcome&& outcome);
  host::OnItem passes_on(CallId id);
  Ticket* find(CallId id);
  CallId call_of(cluster::TicketId asked) const;
  // From its coming until its outcome, as the pool would reckon it.
  Duration limit_of(const Call& call);
  static Duration time_left(const Ticket& ticket);

  host::EventLoop& loop_;
  host::Alive alive_;
  Settings settings_;                       // on the loop
  std::atomic<Duration> default_deadline_;  // calls.deadline
  std::atomic<Duration> deadline_max_;      // calls.deadline_max
  std::shared_ptr<spdlog::logger> logger_;
  std::shared_ptr<ClusterStore> store_;
  std::unique_ptr<Hops> hops_;
  std::unique_ptr<Member> member_;
  std::unique_ptr<host::Driver> inner_;
  std::shared_ptr<NestedCalls> nested_;  // shared with the inner driver
  host::SessionPort* port_ = nullptr;

  std::unordered_map<CallId, Ticket> tickets_;
  std::unordered_map<cluster::TicketId, CallId> asked_;  // of those that the node knows
  cluster::TicketId last_asked_ = 0;
  std::unordered_map<std::string, Held> held_;
  std::unordered_map<cluster::CommitId, CallId> vouching_;
  std::vector<std::move_only_function<void()>> on_left_;
  std::unique_ptr<boost::asio::steady_timer> leave_limit_;

  static constexpr std::size_t kLateMax = 1024;
  std::mutex mutex_;  // guards what follows
  std::uint64_t last_call_ = kFirstCall;
  std::unordered_set<CallId> open_;
  std::deque<std::pair<CallId, CallId>> late_;  // timed out: here and in the inner driver
};

}  // namespace keelback::nodes
