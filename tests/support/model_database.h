// The database of a cluster, as maps: the conditions of cluster/database.h and nothing else. It
// loses no reply; whoever plays the network does. A copy is a backup: go_back() returns to it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/time.h"
#include "cluster/database.h"

namespace keelback::cluster {

class ModelDatabase {
 public:
  // Ways to break the rules, so that a simulation can show that it notices.
  struct Flaws {
    bool commits_anything = false;  // Commit looks at nothing but the name
    bool retires_on_paper = false;  // a retired node's beats succeed: it never hears of it
    bool forgets_exposure = false;  // a claim does not see that calls were not stored
  };

  Reply perform(Time now, const Request& request);
  // The server stops and starts again. What it has acknowledged is still there.
  void restart() { ++starts_; }
  // What was acknowledged since the copy was made is gone, as after a restore from a backup.
  void go_back(const ModelDatabase& copy);

  bool lives(const Owner& owner) const;
  const std::map<std::string, SessionRow>& sessions() const { return sessions_; }
  const std::map<std::string, NodeRow>& nodes() const { return nodes_; }
  const std::map<std::string, KeyRow>& keys() const { return keys_; }

  Flaws flaws;
  ServerFacts server;

 private:
  struct SessionTimes {
    Time made, used;
  };

  Reply on(Time now, const Join& request);
  Reply on(Time now, const Beat& request);
  Reply on(Time now, const Retire& request);
  Reply on(Time now, const Leave& request);
  Reply on(Time now, const Find& request);
  Reply on(Time now, const Claim& request);
  Reply on(Time now, const Commit& request);
  Reply on(Time now, const Release& request);
  Reply on(Time now, const Drop& request);
  Reply on(Time now, const Owned& request);
  Reply on(Time now, const Sweep& request);
  Reply on(Time now, const KeyOpen& request);
  Reply on(Time now, const KeyFind& request);
  Reply on(Time now, const KeyAnswer& request);
  Reply on(Time now, const KeyDrop& request);
  Reply on(Time now, const WriteSettings& request);

  std::string started() const;
  std::vector<NodeRow> all_nodes() const;
  std::optional<NodeRow> living(const std::optional<Owner>& owner) const;
  bool is_over(Time now, const KeyRow& row, Duration ttl) const;
  KeyOpened opened(bool done, const KeyRow& row) const;
  // The row as a reply shows it; nothing if there is none.
  void show(Time now, const std::string& session, bool with_state, Standing& out) const;
  SessionRow* match(const std::string& session, std::uint64_t birth, Token token);

  std::map<std::string, NodeRow> nodes_;
  std::map<std::string, Time> retired_at_;
  std::map<std::string, SessionRow> sessions_;
  std::map<std::string, SessionTimes> times_;
  std::map<std::string, KeyRow> keys_;
  std::map<std::string, Time> key_times_;
  SharedSettings settings_;
  std::uint64_t starts_ = 1;
};

}  // namespace keelback::cluster
