#include "cluster/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

namespace keelback::cluster {
namespace {

constexpr std::string_view kGone =
    "The node that ran the call with this key is gone, and nobody knows whether it ran.";

}  // namespace

void Keys::on(const KeyedCallCame& event) {
  Ticket ticket;
  ticket.id = event.ticket;
  ticket.key = event.key;
  ticket.fingerprint = event.fingerprint;
  ticket.idempotent = event.idempotent;
  ticket.hop = event.hop;
  route(tickets_.add(std::move(ticket)));
}

void Keys::route(Ticket& ticket) {
  using enum OutcomeKind;
  const auto found = entries_.find(ticket.key);
  if (found != entries_.end()) {
    Entry& entry = found->second;
    const bool runs = entry.step == Step::kRunning || entry.step == Step::kAnswering;
    if (runs && entry.fingerprint != ticket.fingerprint) return refuse_reuse(ticket.id, ticket.key);
    if (entry.step == Step::kAnswering) {
      frame_.emit(Replay{ticket.id, entry.answer});
      return tickets_.remove(ticket.id);
    }
    if (runs) {
      frame_.emit(Admit{ticket.id, {}, 0});
      return tickets_.remove(ticket.id);
    }
  }
  if (!members_.is_member() || members_.is_away()) {
    return refuse(ticket.id, kNotReady, Effect::kNone, members_.why_not_ready());
  }
  if (found != entries_.end()) return found->second.waiting.push_back(ticket.id);
  Entry& entry = entries_[ticket.key];
  entry.key = ticket.key;
  entry.waiting = {ticket.id};
  start_over(entry);
}

// The first of those that wait and have not gone; the others do not wait any more.
const Ticket* Keys::first(Entry& entry) {
  std::erase_if(entry.waiting, [this](TicketId id) { return !tickets_.find(id); });
  return entry.waiting.empty() ? nullptr : tickets_.find(entry.waiting.front());
}

void Keys::start_over(Entry& entry) {
  const Ticket* ticket = first(entry);
  if (!ticket) return erase(entry);
  if (!members_.is_member() || members_.is_away()) {
    refuse_all(entry, members_.why_not_ready());
    return erase(entry);
  }
  entry.token = 0;
  const bool only_hops =
      std::ranges::all_of(entry.waiting, [this](TicketId id) { return tickets_.find(id)->hop; });
  if (only_hops) return read(entry);  // a hop opens nothing
  open(entry);
}

void Keys::open(Entry& entry, std::optional<Token> seen) {
  // A hop that waits beside others does not choose what runs.
  const auto chosen = std::ranges::find_if(entry.waiting, [this](TicketId id) {
    const Ticket* ticket = tickets_.find(id);
    return ticket && !ticket->hop;
  });
  entry.fingerprint = tickets_.find(*chosen)->fingerprint;
  entry.step = Step::kOpening;
  entry.serial = ++frame_.last_serial;
  entry.token = frame_.draw();
  frame_.ask(KeyOpen{entry.key, entry.fingerprint, members_.self(), entry.token,
                     frame_.rules.key_ttl, seen},
             ForKey{entry.key, entry.serial});
}

void Keys::read(Entry& entry) {
  entry.step = Step::kReading;
  entry.serial = ++frame_.last_serial;
  frame_.ask(KeyFind{entry.key, frame_.rules.key_ttl}, ForKey{entry.key, entry.serial});
}

void Keys::write(Entry& entry) {
  entry.serial = ++frame_.last_serial;
  const ForKey purpose{entry.key, entry.serial};
  if (entry.step == Step::kDropping) return frame_.ask(KeyDrop{entry.key, entry.token}, purpose);
  frame_.ask(KeyAnswer{entry.key, entry.token, entry.answer}, purpose);
}

void Keys::on(const ForKey& purpose, const Reply& reply) {
  const auto found = entries_.find(purpose.key);
  if (found == entries_.end() || found->second.serial != purpose.serial) return;
  Entry& entry = found->second;
  if (const auto* none = std::get_if<NoReply>(&reply)) return unanswered(entry, *none);
  if (const auto* each = std::get_if<KeyOpened>(&reply)) return opened(entry, *each);
  if (!std::holds_alternative<Written>(reply)) return;
  // Done, or there is nothing to do: it was done before, or the row is not this node's any more.
  if (entry.commit != 0) frame_.emit(Settle{entry.commit, Settle::How::kKept, {}});
  entry.commit = 0;
  start_over(entry);
}

void Keys::unanswered(Entry& entry, const NoReply& reply) {
  switch (entry.step) {
    case Step::kOpening:
      if (!reply.surely_none && !members_.is_away()) return read(entry);
      [[fallthrough]];
    case Step::kReading:
      refuse_all(entry, "The database did not answer: " + reply.reason);
      if (entry.token == 0) return erase(entry);
      entry.step = Step::kDropping;  // the row may be there: nothing has run
      retries_.arm(entry.key, frame_.soon());
      return;
    case Step::kAnswering:
      if (entry.commit != 0 && frame_.now - entry.since > frame_.config.patience()) {
        frame_.emit(Settle{std::exchange(entry.commit, 0), Settle::How::kKept, {}});
      }
      [[fallthrough]];
    case Step::kDropping:
      retries_.arm(entry.key, frame_.soon());
      return;
    case Step::kRunning:
      return;
  }
}

void Keys::opened(Entry& entry, const KeyOpened& reply) {
  const bool ours = reply.row && entry.token != 0 && reply.row->token == entry.token;
  if (reply.done || ours) return run(entry);
  if (!reply.row) {
    send_back_hops(entry);
    return start_over(entry);
  }
  const KeyRow& row = *reply.row;
  if (row.answer) return replay(entry, row);
  if (reply.owner && row.owner != members_.self()) return forward(entry, *reply.owner);
  take_over(entry, row);
}

void Keys::run(Entry& entry) {
  if (!first(entry)) {  // everybody has gone
    entry.step = Step::kDropping;
    return write(entry);
  }
  entry.step = Step::kRunning;
  for (const TicketId id : std::exchange(entry.waiting, {})) {
    const Ticket* ticket = tickets_.find(id);
    if (ticket->fingerprint != entry.fingerprint) {
      refuse_reuse(id, entry.key);
      continue;
    }
    frame_.emit(Admit{id, {}, 0});
    tickets_.remove(id);
  }
}

void Keys::replay(Entry& entry, const KeyRow& row) {
  for (const TicketId id : std::exchange(entry.waiting, {})) {
    const Ticket* ticket = tickets_.find(id);
    if (!ticket) continue;
    if (ticket->fingerprint != row.fingerprint) {
      refuse_reuse(id, entry.key);
      continue;
    }
    frame_.emit(Replay{id, *row.answer});
    tickets_.remove(id);
  }
  erase(entry);
}

// The owner is gone, or it is this node and its call is not in memory: it may have run.
void Keys::take_over(Entry& entry, const KeyRow& row) {
  send_back_hops(entry);
  const bool own = row.owner == members_.self();
  for (const TicketId id : std::exchange(entry.waiting, {})) {
    const Ticket* ticket = tickets_.find(id);
    if (!ticket) continue;
    if (ticket->fingerprint != row.fingerprint) {
      refuse_reuse(id, entry.key);
    } else if (ticket->idempotent && !own) {
      entry.waiting.push_back(id);
    } else {
      refuse(id, OutcomeKind::kWorkerDied, Effect::kMaybe, std::string(kGone));
    }
  }
  if (entry.waiting.empty()) return erase(entry);
  open(entry, row.token);
}

void Keys::forward(Entry& entry, const NodeRow& owner) {
  for (const TicketId id : std::exchange(entry.waiting, {})) {
    if (Ticket* ticket = tickets_.find(id)) forward(*ticket, owner);
  }
  erase(entry);
}

void Keys::forward(Ticket& ticket, const NodeRow& owner) {
  const Owner to{owner.name, owner.incarnation};
  if (ticket.hop) {
    ++frame_.counters.misdirected;
    frame_.emit(Misdirected{ticket.id});
    return tickets_.remove(ticket.id);
  }
  if (ticket.reread && ticket.sent_to == to) {
    return refuse(
        ticket.id, OutcomeKind::kNotReady, Effect::kNone,
        fmt::format("Node \"{}\" runs the call with this key, and cannot be reached.", to.node));
  }
  ++frame_.counters.forwarded;
  tickets_.sent(ticket, to);
  frame_.emit(Forward{ticket.id, to, owner.url});
}

bool Keys::on(const HopFailed& event) {
  Ticket* ticket = tickets_.find(event.ticket);
  if (!ticket || !ticket->sent_to) return false;
  ticket->away = false;
  if (event.end == HopEnd::kBroken) {
    refuse(ticket->id, OutcomeKind::kWorkerDied, Effect::kMaybe,
           fmt::format("The connection to node \"{}\" broke while it had the call: {}",
                       ticket->sent_to->node, event.reason));
  } else if (ticket->reread) {
    refuse(ticket->id, OutcomeKind::kNotReady, Effect::kNone,
           fmt::format("Node \"{}\", which runs the call with this key, does not take it: {}",
                       ticket->sent_to->node, event.reason));
  } else {
    ticket->reread = true;
    if (event.end == HopEnd::kNotOwner) ticket->sent_to = Owner{};
    route(*ticket);
  }
  return true;
}

void Keys::on(const KeyedCallEnded& event) {
  const auto found = entries_.find(event.key);
  if (found == entries_.end() || found->second.step != Step::kRunning) {
    frame_.emit(Settle{event.commit, Settle::How::kKept, {}});
    return;
  }
  Entry& entry = found->second;
  if (event.answer) {
    entry.step = Step::kAnswering;
    entry.answer = *event.answer;
    entry.commit = event.commit;
    entry.since = frame_.now;
  } else {
    entry.step = Step::kDropping;
    frame_.emit(Settle{event.commit, Settle::How::kKept, {}});
  }
  write(entry);
}

// ---- refusals

void Keys::send_back_hops(Entry& entry) {
  std::erase_if(entry.waiting, [this](TicketId id) {
    const Ticket* ticket = tickets_.find(id);
    if (!ticket) return true;
    if (!ticket->hop) return false;
    ++frame_.counters.misdirected;
    frame_.emit(Misdirected{id});
    tickets_.remove(id);
    return true;
  });
}

void Keys::refuse_all(Entry& entry, const std::string& message) {
  for (const TicketId id : std::exchange(entry.waiting, {})) {
    if (tickets_.find(id)) refuse(id, OutcomeKind::kNotReady, Effect::kNone, message);
  }
}

void Keys::refuse(TicketId ticket, OutcomeKind kind, Effect effect, std::string message) {
  Refuse refusal;
  refusal.ticket = ticket;
  refusal.kind = kind;
  refusal.effect = effect;
  refusal.message = std::move(message);
  if (kind == OutcomeKind::kNotReady) refusal.retry_after = frame_.config.lease;
  frame_.emit(std::move(refusal));
  tickets_.remove(ticket);
}

void Keys::refuse_reuse(TicketId ticket, const std::string& key) {
  Refuse refusal;
  refusal.ticket = ticket;
  refusal.kind = OutcomeKind::kBadRequest;
  refusal.key_reused = true;
  refusal.message =
      fmt::format("Idempotency key \"{}\" was used for another request; use a new key.", key);
  frame_.emit(std::move(refusal));
  tickets_.remove(ticket);
}

// ---- the node

void Keys::erase(Entry& entry) {
  retries_.disarm(entry.key);
  entries_.erase(std::string(entry.key));
}

void Keys::retired() {
  while (!entries_.empty()) {
    Entry& entry = entries_.begin()->second;
    refuse_all(entry, members_.why_not_ready());
    if (entry.commit != 0) frame_.emit(Settle{entry.commit, Settle::How::kKept, {}});
    erase(entry);
  }
}

void Keys::went_away() {
  for (auto& [key, entry] : entries_) {
    if (entry.step == Step::kDropping) refuse_all(entry, members_.why_not_ready());
  }
}

void Keys::tick() {
  while (const std::optional<std::string> due = retries_.take(frame_.now)) {
    const auto found = entries_.find(*due);
    if (found != entries_.end()) write(found->second);
  }
}

}  // namespace keelback::cluster
