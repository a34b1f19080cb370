// The local pool of a node, as far as the rules of the cluster see it: sessions with lanes, calls
// that take time, workers that die, a drain. It is a legal driver of its part of cluster/node.h.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/prng.h"
#include "cluster/action.h"
#include "cluster/event.h"
#include "cluster/ledger.h"
#include "cluster/virtual_time.h"

namespace keelback::cluster {

struct ClientCall {
  CallNumber number = 0;
  std::string session;
  std::string key;
  bool idempotent = false;
};

class ModelPool {
 public:
  struct Seams {
    std::function<void(Event)> tell;                              // the node, in time
    std::function<void(const ClientCall&, const Heard&)> answer;  // the call has ended here
    std::function<void(const ClientCall&)> hand_in_again;         // it has not begun
    std::function<CommitId()> next_id;
  };
  struct Plan {
    bool commits_each_call = false;
    double unsavable = 0;      // share of the states that cannot be saved
    bool asks_nobody = false;  // flaw: it answers without a VouchWanted
  };
  ModelPool(VirtualTime& time, Prng& prng, Ledger& ledger, Seams seams, Plan plan)
      : time_(time), prng_(prng), ledger_(ledger), seams_(std::move(seams)), plan_(plan) {}

  void adopt(const Adopt& action);
  // False: it does not have this session (any more).
  bool admit(const ClientCall& call, const Admit& action);
  void admit_keyed(const ClientCall& call);
  void settle(const Settle& action);
  void fetched(const Fetched& action);
  void forget(const ForgetSession& action);
  void drain();
  // One of the workers dies, with the session that it has.
  void kill_a_worker();
  // The process is gone: nothing of it happens any more. The calls that it had.
  std::vector<ClientCall> kill();
  bool empty() const { return sessions_.empty(); }

 private:
  struct Session {
    std::string id;
    std::uint64_t birth = 0;
    std::uint32_t claim = 0;  // the epoch of the claim
    std::uint32_t epoch = 0;
    Calls state;
    bool established = false;  // calls have been acknowledged
    bool restoring = false;
    bool saving = false;
    std::uint64_t run = 0;  // of the call that runs; 0: none
    bool settling = false;
    std::deque<ClientCall> lane;
  };
  struct Waiting {
    ClientCall call;  // number 0: a save on drain
    std::string session;
    std::uint64_t birth = 0;
    std::uint32_t claim = 0;
    Calls state;
    bool committed = false;
  };
  Session* find(const std::string& session, std::uint64_t birth, std::uint32_t claim);
  void go_on(Session& session);
  void ended(const Waiting& done, std::uint64_t run);
  void save(Session& session);
  void fetch(Session& session);
  void drop(Session& session, Over how);
  void hand_in_again(std::deque<ClientCall> lane);
  void after(Duration delay, std::function<void()> what);
  Duration draw(Duration least, Duration most);
  void acknowledge(const Waiting& waiting, Settle::How how);

  VirtualTime& time_;
  Prng& prng_;
  Ledger& ledger_;
  Seams seams_;
  Plan plan_;
  bool draining_ = false;
  bool told_drained_ = false;
  std::map<std::string, Session> sessions_;
  std::map<std::uint64_t, ClientCall> running_;  // by run
  std::map<CommitId, Waiting> waiting_;
  std::map<std::string, std::vector<ClientCall>> keyed_;  // the first runs, the others join it
  std::map<std::string, CallNumber> keyed_done_;
  std::map<CommitId, std::string> keyed_waiting_;
  std::map<FetchId, std::pair<std::string, std::uint64_t>> fetching_;
  std::uint64_t last_run_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace keelback::cluster
