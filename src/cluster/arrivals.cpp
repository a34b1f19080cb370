#include "cluster/arrivals.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "cluster/claims.h"

namespace keelback::cluster {

void Arrivals::on(const CallCame& event) {
  Ticket ticket;
  ticket.id = event.ticket;
  ticket.session = event.session;
  ticket.mode = event.mode;
  ticket.open = event.open;
  ticket.hop = event.hop;
  ticket.ends = event.ends;
  ticket.key = event.key;
  ticket.fingerprint = event.fingerprint;
  route(tickets_.add(std::move(ticket)));
}

void Arrivals::route(Ticket& ticket) {
  if (!members_.is_member()) return not_ready(ticket.id, members_.why_not_ready());
  const auto found = sessions_.find(ticket.session);
  if (found != sessions_.end()) {
    Session& session = found->second;
    if (session.step == Session::Step::kOwned && !session.over) {
      return admit(session, {ticket.id});
    }
    if (members_.is_away()) return not_ready(ticket.id, members_.why_not_ready());
    session.waiting.push_back(ticket.id);
    return;
  }
  const Owner* known = ticket.hop || ticket.reread ? nullptr : routes_.find(ticket.session);
  if (const NodeRow* owner = known ? members_.find(*known) : nullptr) {
    return forward(ticket, *owner);
  }
  if (members_.is_away()) return not_ready(ticket.id, members_.why_not_ready());
  claims_.look(ticket);
}

// ---- to the local pool

void Arrivals::admit(Session& session, Waiting waiting) {
  for (const TicketId id : waiting) {
    const Ticket* ticket = tickets_.find(id);
    if (!ticket || admit(session, *ticket)) continue;
    session.waiting.push_back(id);
    stalled_.insert(session.id);
  }
}

// False: it waits for the lease.
bool Arrivals::admit(const Session& session, const Ticket& ticket) {
  if (members_.is_away() && (frame_.rules.commits_each_call || !session.exposed)) {
    not_ready(ticket.id, "The database does not answer, so that no state could be committed.");
    return true;
  }
  if (!members_.may_start()) return false;
  if (needs_lookup(session, ticket)) {
    if (members_.is_away()) {
      not_ready(ticket.id, members_.why_not_ready());
    } else {
      frame_.ask(KeyFind{ticket.key, frame_.rules.key_ttl}, ForLookup{ticket.id});
    }
    return true;
  }
  frame_.emit(Admit{ticket.id, session.id, session.birth});
  tickets_.remove(ticket.id);
  return true;
}

// A node that had the session before may have answered a call with this key.
bool Arrivals::needs_lookup(const Session& session, const Ticket& ticket) const {
  return !ticket.key.empty() && !ticket.key_read && session.taken_over &&
         frame_.now - session.claimed <= frame_.rules.key_ttl;
}

void Arrivals::on(const ForLookup& purpose, const Reply& reply) {
  Ticket* ticket = tickets_.find(purpose.ticket);
  if (!ticket) return;
  const auto* opened = std::get_if<KeyOpened>(&reply);
  if (!opened) return not_ready(ticket->id, "The database did not answer.");
  if (opened->row && opened->row->fingerprint != ticket->fingerprint) {
    Refuse refusal;
    refusal.kind = OutcomeKind::kBadRequest;
    refusal.key_reused = true;
    refusal.message = fmt::format(
        "Idempotency key \"{}\" was used for another request; use a new key.", ticket->key);
    return refuse(ticket->id, std::move(refusal));
  }
  if (opened->row && opened->row->answer) {
    frame_.emit(Replay{ticket->id, *opened->row->answer});
    return tickets_.remove(purpose.ticket);
  }
  ticket->key_read = true;
  route(*ticket);
}

// ---- to another node

void Arrivals::forward(Session& session, const NodeRow& owner) {
  routes_.put(session.id, {owner.name, owner.incarnation});
  for (const TicketId id : std::exchange(session.waiting, {})) {
    Ticket* ticket = tickets_.find(id);
    if (ticket) forward(*ticket, owner);
  }
}

void Arrivals::forward(Ticket& ticket, const NodeRow& owner) {
  const Owner to{owner.name, owner.incarnation};
  if (ticket.hop) {
    ++frame_.counters.misdirected;
    frame_.emit(Misdirected{ticket.id});
    return tickets_.remove(ticket.id);
  }
  if (ticket.reread && ticket.sent_to == to) {
    return not_ready(ticket.id,
                     fmt::format("Node \"{}\" owns the session, and cannot be reached.", to.node));
  }
  ++frame_.counters.forwarded;
  tickets_.sent(ticket, to);
  frame_.emit(Forward{ticket.id, to, owner.url});
}

bool Arrivals::on(const HopFailed& event) {
  Ticket* ticket = tickets_.find(event.ticket);
  if (!ticket || !ticket->sent_to) return false;
  ticket->away = false;
  routes_.remove(ticket->session);
  if (event.end == HopEnd::kBroken) {
    Refuse refusal;
    refusal.kind = OutcomeKind::kWorkerDied;
    refusal.effect = Effect::kMaybe;
    refusal.message = fmt::format("The connection to node \"{}\" broke while it had the call: {}",
                                  ticket->sent_to->node, event.reason);
    refuse(ticket->id, std::move(refusal));
    return true;
  }
  if (ticket->reread) {
    not_ready(ticket->id,
              fmt::format("Node \"{}\", which owns the session, does not take the call: {}",
                          ticket->sent_to->node, event.reason));
    return true;
  }
  ticket->reread = true;
  // 421: it may be the owner after all by the time of the second look, as it was joining.
  if (event.end == HopEnd::kNotOwner) ticket->sent_to = Owner{};
  route(*ticket);
  return true;
}

void Arrivals::send_back_hops(Session& session) {
  std::erase_if(session.waiting, [this](TicketId id) {
    const Ticket* ticket = tickets_.find(id);
    if (!ticket) return true;
    if (!ticket->hop) return false;
    ++frame_.counters.misdirected;
    frame_.emit(Misdirected{id});
    tickets_.remove(id);
    return true;
  });
}

// ---- back to the caller

void Arrivals::refuse(TicketId ticket, Refuse refusal) {
  refusal.ticket = ticket;
  frame_.emit(std::move(refusal));
  tickets_.remove(ticket);
}

void Arrivals::not_ready(TicketId ticket, std::string message) {
  Refuse refusal;
  refusal.message = std::move(message);
  refusal.retry_after = frame_.config.lease;
  refuse(ticket, std::move(refusal));
}

void Arrivals::refuse(Session& session, const Refuse& refusal) {
  for (const TicketId id : std::exchange(session.waiting, {})) {
    if (tickets_.find(id)) refuse(id, refusal);
  }
  Refuse unknown = refusal;
  unknown.effect = Effect::kMaybe;  // it may be dropped
  for (const TicketId id : std::exchange(session.ending, {})) {
    if (tickets_.find(id)) refuse(id, unknown);
  }
}

Waiting Arrivals::take_ends(Session& session) {
  Waiting ends;
  std::erase_if(session.waiting, [&](TicketId id) {
    const Ticket* ticket = tickets_.find(id);
    if (ticket && ticket->ends) ends.push_back(id);
    return !ticket || ticket->ends;
  });
  return ends;
}

void Arrivals::ended(const Waiting& ends, bool found) {
  for (const TicketId id : ends) {
    if (!tickets_.find(id)) continue;
    frame_.emit(Ended{id, found});
    tickets_.remove(id);
  }
}

bool Arrivals::tell(Session& session, Refuse refusal) {
  const auto hears = std::ranges::find_if(session.waiting, [this](TicketId id) {
    const Ticket* ticket = tickets_.find(id);
    return ticket && ticket->open != SessionOpen::kNew;
  });
  if (hears == session.waiting.end()) return false;
  const TicketId id = *hears;
  session.waiting.erase(hears);
  refuse(id, std::move(refusal));
  return true;
}

void Arrivals::forget_gone(Session& session) {
  std::erase_if(session.waiting, [this](TicketId id) { return !tickets_.find(id); });
}

void Arrivals::refuse_existing(Session& session) {
  std::erase_if(session.waiting, [&](TicketId id) {
    const Ticket* ticket = tickets_.find(id);
    if (!ticket) return true;
    if (ticket->open != SessionOpen::kExisting) return false;
    Refuse refusal;
    refusal.kind = OutcomeKind::kBadRequest;
    refusal.message = fmt::format("There is no session \"{}\".", session.id);
    refuse(id, std::move(refusal));
    return true;
  });
}

void Arrivals::beat() {
  members_.give_up_hops(tickets_);
  go_on();
}

void Arrivals::go_on() {
  for (const std::string& id : std::exchange(stalled_, {})) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) continue;
    Session& session = found->second;
    if (session.step != Session::Step::kOwned || session.over) continue;
    admit(session, std::exchange(session.waiting, {}));
  }
}

// What waits for the lease and could not commit is refused; the rest waits for the next beat.
void Arrivals::went_away() { go_on(); }

}  // namespace keelback::cluster
