// The calls that this node has been asked about and has not had its last word on.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/database.h"
#include "cluster/event.h"

namespace keelback::cluster {

struct Ticket {
  TicketId id = 0;
  std::string session;  // empty: a call with a key
  Affinity mode = Affinity::kStrictQueue;
  SessionOpen open = SessionOpen::kAny;
  bool hop = false;
  bool ends = false;  // it ends the session
  std::string key;
  std::uint64_t fingerprint = 0;
  bool idempotent = false;

  std::optional<Owner> sent_to;  // it is forwarded, or was
  bool away = false;             // it is forwarded, and its hop has not ended
  bool ownerless = false;        // at the last beat, sent_to did not live any more
  bool reread = false;           // its first hop has failed, so that its owner was read again
  bool key_read = false;         // of a session's call: its key has no answer
};

class Tickets {
 public:
  Ticket& add(Ticket ticket) {
    const TicketId id = ticket.id;
    return tickets_.insert_or_assign(id, std::move(ticket)).first->second;
  }
  Ticket* find(TicketId id) {
    const auto found = tickets_.find(id);
    return found == tickets_.end() ? nullptr : &found->second;
  }
  void remove(TicketId id) { tickets_.erase(id); }
  void sent(Ticket& ticket, const Owner& to) {
    ticket.sent_to = to;
    ticket.away = true;
    ticket.ownerless = false;
  }
  // After a beat: the hops that are to be given up, since their node did not live at two beats, one
  // after another. A node that leaves may have answered just before. In the order of their ids.
  template <class Lives>
  std::vector<TicketId> ownerless(Lives lives) {
    std::vector<TicketId> found;
    for (auto& [id, ticket] : tickets_) {
      if (!ticket.away) continue;
      const bool before = std::exchange(ticket.ownerless, !lives(*ticket.sent_to));
      if (before && ticket.ownerless) found.push_back(id);
    }
    return found;
  }
  std::size_t size() const { return tickets_.size(); }

 private:
  std::map<TicketId, Ticket> tickets_;
};

// In the order in which they came. Those that have gone meanwhile are left out.
using Waiting = std::vector<TicketId>;

}  // namespace keelback::cluster
