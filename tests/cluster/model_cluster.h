// Nodes of a cluster with their pools, clients, a database and a network that does what networks
// do, on virtual time. Everything that a run does follows from its seed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/prng.h"
#include "cluster/ledger.h"
#include "cluster/model_pool.h"
#include "cluster/node.h"
#include "cluster/virtual_time.h"
#include "support/model_database.h"

namespace keelback::cluster {

class ModelCluster {
 public:
  struct Options {
    std::uint64_t seed = 1;
    std::size_t nodes = 3;
    bool commits_each_call = true;
    double unsavable = 0;
    double lost_replies = 0.02;    // of the database
    double late_requests = 0.005;  // take effect seconds after nobody waits for them any more
    double broken_hops = 0.02;
    double leavers = 0.1;  // callers without much patience
    std::size_t sessions = 6;
    // ---- flaws, each of which breaks a rule
    ModelDatabase::Flaws database;
    bool clock_stops = false;   // a node's clock stands still while the node is paused
    bool retries_hops = false;  // a hop that broke is made again
    bool asks_nobody = false;   // answers are given without a VouchWanted
  };
  explicit ModelCluster(Options options);
  ~ModelCluster();

  // Random load and faults for so long.
  void trouble(Duration length);
  // No more faults; the load goes on. Then each session is called once at each node, and must
  // answer.
  void heal(Duration length);

  // ---- single faults
  void kill(std::size_t node);
  void start(std::size_t node);
  void pause(std::size_t node, Duration length);
  void cut_database(std::size_t node, Duration length);
  void cut_peers(std::size_t a, std::size_t b, Duration length);
  void drain(std::size_t node);
  void stop_database(Duration length);
  void go_back();
  void remember() { copy_ = database_; }

  void call();
  void keyed_call();
  void run(Duration length) { time_.run_until(time_.now() + length); }

  Ledger ledger;
  std::uint64_t trace() const { return trace_; }
  std::uint64_t went_back() const { return went_back_; }
  const ModelDatabase& database() const { return database_; }

 private:
  struct Origin {  // who waits for a ticket
    ClientCall call;
    std::optional<std::size_t> from;  // the node that has sent it; nullopt: the client
    std::uint64_t from_life = 0;
    TicketId from_ticket = 0;
    std::optional<std::size_t> sent_to;  // it was forwarded
    bool again = false;                  // … a second time, by the flaw
  };
  struct Member {
    std::string name;
    std::uint64_t life = 0;
    bool up = false;
    bool draining = false;
    std::uint64_t pauses = 0;  // > 0: it stands still
    Duration stood_still{0};
    std::unique_ptr<Node> node;
    std::unique_ptr<ModelPool> pool;
    std::deque<Event> inbox;  // while it stands still
    std::deque<Action> due;
    bool performing = false;
    std::map<TicketId, Origin> tickets;
    std::map<CallNumber, Origin> calls;  // that its pool has
    std::optional<Time> wakes;
    std::uint64_t database_cuts = 0;
    std::map<std::size_t, std::uint64_t> peer_cuts;
  };

  void post(std::size_t index, std::uint64_t life, Event event);
  void handle(std::size_t index, const Event& event);
  void wake(std::size_t index);
  void perform(std::size_t index, Action&& action);
  void ask(std::size_t index, Ask&& ask);
  Reply at_database(const Request& request);
  void forward(std::size_t index, const Forward& action);
  void give_up(std::size_t index, const GiveUpHop& action);
  void arrive(std::size_t index, std::uint64_t life, const Origin& origin);
  void hand_in(std::size_t index, Origin origin, bool hop);
  void respond(std::size_t index, const Origin& origin, const Heard& heard);
  void fail_hop(const Origin& origin, HopEnd end);
  void after(Duration delay, std::function<void()> what) { time_.after(delay, std::move(what)); }
  Duration draw(Duration least, Duration most);
  void fault();
  void load();
  void submit(ClientCall call, std::size_t index);
  void leave(std::size_t index, std::uint64_t life, TicketId ticket);
  bool is_cut(std::size_t a, std::size_t b) const;
  Time now_of(const Member& member) const;
  void trace(std::uint64_t value) { trace_ = fnv1a(value, trace_); }

  Options options_;
  Prng prng_;
  VirtualTime time_;
  ModelDatabase database_;
  std::optional<ModelDatabase> copy_;
  std::uint64_t stopped_ = 0;  // > 0: the database is away
  std::vector<Member> members_;
  bool loaded_ = false;
  std::uint64_t last_id_ = 0;
  std::uint64_t went_back_ = 0;
  std::uint64_t trace_ = kFnvBasis;
  std::vector<std::string> keys_;
};

}  // namespace keelback::cluster
