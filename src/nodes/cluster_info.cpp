#include "nodes/cluster_info.h"

#include <utility>

namespace keelback::nodes {
namespace {

host::ClusterCounters counters_of(const cluster::Counters& counters) {
  return {.claims = counters.claims,
          .taken_over = counters.taken_over,
          .forwarded = counters.forwarded,
          .misdirected = counters.misdirected,
          .commits_kept = counters.commits_kept,
          .commits_lost = counters.commits_lost,
          .commits_unknown = counters.commits_unknown,
          .sessions_lost = counters.sessions_lost,
          .sessions_expired = counters.sessions_expired,
          .forgotten = counters.forgotten,
          .retired_others = counters.retired_others,
          .retired = counters.retired,
          .went_back = counters.went_back};
}

}  // namespace

host::ClusterInfo info_of(cluster::Status status) {
  host::ClusterInfo info;
  info.node = std::move(status.self.node);
  info.incarnation = status.self.incarnation;
  info.phase = to_string(status.phase);
  info.draining = status.draining;
  info.database_up = !status.database_away;
  info.trouble = std::move(status.trouble);
  info.serves_sessions = status.may_start;
  info.sessions = status.sessions;
  info.weaknesses = std::move(status.weaknesses);
  for (cluster::NodeRow& row : status.nodes) {
    info.nodes.push_back({.name = std::move(row.name),
                          .url = std::move(row.url),
                          .incarnation = row.incarnation,
                          .draining = row.draining,
                          .retired = row.retired,
                          .digest = std::move(row.digest),
                          .schema = row.schema});
  }
  info.counters = counters_of(status.counters);
  return info;
}

}  // namespace keelback::nodes
