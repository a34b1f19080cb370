// Daemons of the laboratory's own beside the pool, with the same application: one is killed, one
// meets clients that behave badly (chaos/daemon.h).
#include <fmt/format.h>

#include <algorithm>
#include <future>

#include "chaos/daemon.h"
#include "chaos/fault.h"

namespace keelback::chaos::faults::daemons {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;

DaemonSeen kill(const DaemonSetup& setup, std::uint32_t) { return kill_a_daemon(setup); }

// What is done to the daemon takes seconds, on a thread of its own.
template <DaemonSeen (*kLook)(const DaemonSetup& setup, std::uint32_t clients)>
struct Daemon final : Fault {
  void inject(Duration) override {
    Processes* const processes = world().processes();
    const std::string name = fmt::format("{}-{}", spec().id, firing().round);
    const DaemonSetup setup{
        .settings = world().options().settings,
        .app = world().options().app,
        .arm = [processes, name](const Undo& undo) {
          return processes->arm(fmt::format("daemon {} {}", name, undo.pid), undo).has_value();
        }};
    const auto clients = static_cast<std::uint32_t>(count("clients"));
    seen_ = std::async(std::launch::async, [setup, clients] { return kLook(setup, clients); });
  }
  void prove(Duration at) override {
    if (seen_.valid() && seen_.wait_for(0s) == std::future_status::ready) take(at);
  }
  void conclude(Duration at) override {
    if (seen_.valid()) take(at);
  }

 private:
  void take(Duration at) {
    const DaemonSeen seen = seen_.get();
    world().processes()->left_behind(seen.left);
    if (!seen.failure.empty()) return no_bite(seen.failure);
    bit(std::max(at, recorder().now()), seen.proof);
  }

  std::future<DaemonSeen> seen_;
};

}  // namespace

std::vector<FaultClass> classes() {
  return {{.name = "broker.kill",
           .what = "SIGKILL to a whole daemon with the same application, its workers all busy in "
                   "code that holds the interpreter; then the next start.",
           .proof = "every process of the daemon is gone within 5 s, and the next daemon answers",
           .undo = "the daemons are the laboratory's own; the warden kills them",
           .reach = Reach::kPool,
           .where = Where::kProcesses,
           .expected = {kTimeout, kOverloaded},
           .make = make_fault<Daemon<kill>>},
          {.name = "client.slow",
           .what = "Clients of a daemon with the same application send half a request and stop, "
                   "never read their answer, or hang up while their call runs.",
           .proof = "all of them got in; ordinary calls were answered meanwhile, no worker died, "
                    "and SIGTERM ended the daemon",
           .undo = "the daemon is the laboratory's own; the warden kills it",
           .reach = Reach::kPool,
           .where = Where::kProcesses,
           .parameters = {{"clients", kCount, "5", "20", "60", "of each of the three kinds"}},
           .expected = {kTimeout, kOverloaded},
           .make = make_fault<Daemon<pester_a_daemon>>}};
}

}  // namespace keelback::chaos::faults::daemons
