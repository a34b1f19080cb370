// The calls of the simulation's clients: what they have asked, how each ends, and what is due to
// whom. Deliveries only pile up; whoever drives the simulation runs them.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/id.h"
#include "base/time.h"
#include "core/action.h"
#include "core/call_table.h"
#include "keelback/call.h"
#include "keelback/outcome.h"
#include "sim/crew.h"

namespace keelback::sim {

using OnOutcome = std::move_only_function<void(Outcome&&)>;
using OnItem = std::move_only_function<void(std::string&& item)>;
using Hook = std::move_only_function<void()>;

// One callback that is due to somebody outside, with what it carries.
class Delivery {
 public:
  // The caller's item function is shared by its deliveries and its call, whichever goes last.
  Delivery(std::shared_ptr<OnItem> to, std::string item)
      : what_(Item{std::move(to), std::move(item)}) {}
  Delivery(OnOutcome to, Outcome outcome) : what_(End{std::move(to), std::move(outcome)}) {}
  explicit Delivery(Hook hook) : what_(std::move(hook)) {}
  void run();

 private:
  struct Item {
    std::shared_ptr<OnItem> to;
    std::string item;
  };
  struct End {
    OnOutcome to;
    Outcome outcome;
  };
  std::variant<Item, End, Hook> what_;
};

struct ClientCall {
  explicit ClientCall(CallId call_id) : id(call_id) {}

  const CallId id;
  Call call;
  OnOutcome done;
  bool nested = false;           // `done` belongs to the model: it is called at once
  std::shared_ptr<OnItem> item;  // null: not a stream
  WorkerId worker;               // where it runs or last ran
  bool alone = true;             // … and whether alone there
  std::uint32_t granted = 0;     // credit, for whoever runs it
  core::Answer answer;
  std::string dump;
  bool told = false;  // at its deadline: `done` is used up, the call runs on
};

class ClientCalls {
 public:
  ClientCalls() = default;
  ~ClientCalls();
  ClientCalls(const ClientCalls&) = delete;
  ClientCalls& operator=(const ClientCalls&) = delete;

  // Lives until the core's last word on it.
  ClientCall& add(Call call, std::shared_ptr<OnItem> item, OnOutcome done);
  ClientCall* find(CallId call) const { return table_.find(call); }

  // ---- what a worker says
  void item(CallId call, std::string item);
  void answered(Said& said);

  // ---- what the core says
  void resolve(Time now, core::Resolve& resolve);
  void tell(core::TellCaller& tell);
  void replay(const core::ReplayOutcome& replay);
  void forget(CallId call) { table_.forget(call); }

  // The stacks of a call that was told to its caller before they were taken; nullopt: none.
  std::optional<std::string> dump(Time now, CallId call) {
    return table_.late_dumps.find(now, call);
  }
  void deliver_later(Hook hook) { deliveries_.emplace_back(std::move(hook)); }
  // Runs what is due, including what these callbacks add at once.
  void deliver();
  std::deque<Delivery> take_deliveries();

 private:
  void complete(ClientCall& call, Outcome outcome);

  std::uint64_t last_call_ = 0;
  core::CallTable<ClientCall> table_;
  std::deque<Delivery> deliveries_;
};

}  // namespace keelback::sim
