// Which other nodes are dead: those whose beat has not changed for one lease of this node's time,
// while the database answered. A time in which it did not answer, or in which this process stood
// still, counts for nobody, and neither does what was seen before a restart of the database.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "cluster/database.h"

namespace keelback::cluster {

class Watch {
 public:
  explicit Watch(Duration lease) : lease_(lease) {}

  // What the database said: the request was sent at `sent`, the reply is here. Gives the nodes that
  // are dead by that, in name order; retired ones are not among them.
  std::vector<NodeRow> observe(Time sent, Time now, const std::vector<NodeRow>& nodes);
  // The database has not answered, or is another one: all that was seen begins again.
  void reset() { seen_.clear(); }

  // The first moment after `sent` at which asking the database may show a dead node.
  std::optional<Time> next(Time sent) const;

 private:
  struct Seen {
    Incarnation incarnation = 0;
    std::uint64_t beat = 0;
    Time since;  // when it was seen first
  };
  Duration lease_;
  std::optional<Time> last_;
  std::map<std::string, Seen> seen_;
};

}  // namespace keelback::cluster
