// Idempotency keys of calls without a session. A key's row is written before its call runs, with
// the node that runs it, and answered after it. A second call with the key gets that answer, or
// goes to the node that runs the first. If that node is gone, nobody knows what became of the call:
// it runs again only if it may.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "cluster/frame.h"
#include "cluster/membership.h"
#include "cluster/retries.h"
#include "cluster/tickets.h"

namespace keelback::cluster {

class Keys {
 public:
  Keys(Frame& frame, const Membership& members) : frame_(frame), members_(members) {}
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  void on(const KeyedCallCame& event);
  // False: it is no ticket of a key.
  bool on(const HopFailed& event);
  void on(const TicketGone& event) { tickets_.remove(event.ticket); }
  void on(const KeyedCallEnded& event);
  void on(const ForKey& purpose, const Reply& reply);
  // The rows of this node belong to nobody: its calls end by themselves.
  void retired();
  void beat() { members_.give_up_hops(tickets_); }
  void went_away();
  void tick();
  std::optional<Time> next_deadline() const { return retries_.next(); }

 private:
  enum class Step : std::uint8_t { kOpening, kReading, kRunning, kAnswering, kDropping };
  struct Entry {
    std::string key;
    std::uint64_t serial = 0;
    Step step = Step::kOpening;
    Token token = 0;
    std::uint64_t fingerprint = 0;
    Waiting waiting;
    CommitId commit = 0;  // waits for the answer to be written
    Answer answer;
    Time since;
  };

  void route(Ticket& ticket);
  void open(Entry& entry, std::optional<Token> seen = std::nullopt);
  void read(Entry& entry);
  void write(Entry& entry);
  void opened(Entry& entry, const KeyOpened& reply);
  void unanswered(Entry& entry, const NoReply& reply);
  void run(Entry& entry);
  void replay(Entry& entry, const KeyRow& row);
  void take_over(Entry& entry, const KeyRow& row);
  void forward(Entry& entry, const NodeRow& owner);
  void forward(Ticket& ticket, const NodeRow& owner);
  void start_over(Entry& entry);
  void send_back_hops(Entry& entry);
  void refuse_all(Entry& entry, const std::string& message);
  void refuse(TicketId ticket, OutcomeKind kind, Effect effect, std::string message);
  void refuse_reuse(TicketId ticket, const std::string& key);
  void erase(Entry& entry);
  const Ticket* first(Entry& entry);

  Frame& frame_;
  const Membership& members_;
  Tickets tickets_;
  std::map<std::string, Entry> entries_;
  Retries retries_;
};

}  // namespace keelback::cluster
