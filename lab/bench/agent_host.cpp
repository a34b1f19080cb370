// The order that has a function of the application call a function that the agent provides.
#include <memory>
#include <utility>

#include "bench/agent_orders.h"
#include "host/provider.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// Answers with the arguments, at once.
class Echo final : public host::Provider {
 public:
  explicit Echo(host::Driver& driver) : driver_(driver) {}
  void asked(host::HostRequest request) override {
    static_cast<void>(driver_.answer(request.id, {.result = std::move(request.arguments)}));
  }
  void cancelled(std::uint64_t) override {}

 private:
  host::Driver& driver_;
};

}  // namespace

// One call, which asks for `ms` milliseconds, one request after another; how long they took, as
// the function has measured it.
Json host_window(PoolUnderTest& pool, const Json& order) {
  host::Driver& driver = pool.driver();
  const host::ProviderId provider = driver.provide({"echo"}, std::make_shared<Echo>(driver));
  const Outcome outcome =
      driver.call({.function = "ask_host", .payload = Json{order.value("ms", 100.0)}.dump()});
  driver.withdraw(provider);
  if (!outcome.ok()) return refusal(outcome.message);
  Json answer = Json::parse(outcome.payload);
  answer["ok"] = true;
  return answer;
}

}  // namespace keelback::bench
