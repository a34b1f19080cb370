#include "cluster/watch.h"

#include <algorithm>

namespace keelback::cluster {

std::vector<NodeRow> Watch::observe(Time sent, Time now, const std::vector<NodeRow>& nodes) {
  if (last_ && now - *last_ > lease_ / 2) reset();  // this process, or the database, stood still
  last_ = now;
  std::vector<NodeRow> dead;
  std::map<std::string, Seen> seen;
  for (const NodeRow& node : nodes) {
    if (node.retired) continue;
    const auto before = seen_.find(node.name);
    const bool same = before != seen_.end() && before->second.incarnation == node.incarnation &&
                      before->second.beat == node.beat;
    const Time since = same ? before->second.since : now;
    seen[node.name] = {node.incarnation, node.beat, since};
    if (same && sent - since >= lease_) dead.push_back(node);
  }
  seen_ = std::move(seen);
  return dead;
}

std::optional<Time> Watch::next(Time sent) const {
  std::optional<Time> first;
  for (const auto& [name, seen] : seen_) {
    const Time due = seen.since + lease_;
    if (due <= sent) continue;  // it was asked then
    first = first ? std::min(*first, due) : due;
  }
  return first;
}

}  // namespace keelback::cluster
