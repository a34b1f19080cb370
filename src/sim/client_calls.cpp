#include "sim/client_calls.h"

#include <utility>
#include <vector>

#include "base/check.h"
#include "base/overloaded.h"

namespace keelback::sim {

void Delivery::run() {
  std::visit(
      Overloaded{[](Item& item) { (*item.to)(std::move(item.item)); },
                 [](End& end) { end.to(std::move(end.outcome)); }, [](Hook& hook) { hook(); }},
      what_);
}

ClientCalls::~ClientCalls() {
  std::vector<ClientCall*> left;
  table_.each([&left](ClientCall& call) { left.push_back(&call); });
  for (ClientCall* call : left) {
    table_.erase(*call);
    delete call;
  }
}

ClientCall& ClientCalls::add(Call call, std::shared_ptr<OnItem> item, OnOutcome done) {
  auto made = std::make_unique<ClientCall>(CallId{++last_call_});
  made->call = std::move(call);
  made->item = std::move(item);
  made->done = std::move(done);
  table_.insert(*made);
  return *made.release();
}

void ClientCalls::item(CallId call, std::string item) {
  const ClientCall* mine = find(call);
  if (mine != nullptr && mine->item != nullptr) {
    deliveries_.emplace_back(mine->item, std::move(item));
  }
}

void ClientCalls::answered(Said& said) {
  ClientCall* mine = find(said.call);
  if (mine == nullptr) return;
  mine->answer = {said.reply, std::move(said.payload), std::move(said.attachments), {}};
  if (said.reply != core::ReplyKind::kOk) mine->answer.python = std::move(said.python);
}

void ClientCalls::resolve(Time now, core::Resolve& resolve) {
  const std::unique_ptr<ClientCall> mine(table_.take(resolve.call));
  CHECK(mine != nullptr);  // exactly one last word a call
  Outcome outcome = core::outcome_of(resolve, mine->answer);
  if (!mine->told) {
    outcome.dump = std::move(mine->dump);
  } else if (!mine->dump.empty()) {
    table_.late_dumps.add(now, resolve.call, std::move(mine->dump));
  }
  if (resolve.retain) table_.retain(resolve.call, outcome);
  if (!mine->told) complete(*mine, std::move(outcome));
}

void ClientCalls::tell(core::TellCaller& tell) {
  ClientCall* mine = find(tell.answer.call);
  CHECK(mine != nullptr);
  mine->told = true;
  mine->item = nullptr;
  complete(*mine, core::outcome_of(tell.answer));
}

void ClientCalls::replay(const core::ReplayOutcome& replay) {
  const std::unique_ptr<ClientCall> mine(table_.take(replay.call));
  CHECK(mine != nullptr);
  complete(*mine, table_.replay(replay));
}

void ClientCalls::complete(ClientCall& call, Outcome outcome) {
  if (call.nested) return call.done(std::move(outcome));
  deliveries_.emplace_back(std::move(call.done), std::move(outcome));
}

void ClientCalls::deliver() {
  while (!deliveries_.empty()) {
    Delivery next = std::move(deliveries_.front());
    deliveries_.pop_front();
    next.run();
  }
}

std::deque<Delivery> ClientCalls::take_deliveries() { return std::exchange(deliveries_, {}); }

}  // namespace keelback::sim
