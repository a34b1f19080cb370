// What happens to the nodes of a cluster and to the database that they share (nodes/nodes.h).
#include <fmt/format.h>

#include <future>

#include "chaos/fault.h"
#include "chaos/nodes/nodes.h"

namespace keelback::chaos::faults::nodes {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;

// What takes seconds runs on a thread of its own: the load goes on meanwhile.
class OfNodes : public Fault {
 protected:
  Nodes& nodes() const { return *world().nodes(); }
  // The node whose workers are the targets.
  std::uint32_t node() const {
    const std::uint32_t each = scenario().settings.pool.workers / scenario().nodes;
    return (targets().front().worker.slot - 1) / each;
  }
  template <class Work>
  void begin(Work work) {
    working_ = std::async(std::launch::async, std::move(work));
  }
  bool is_done() const {
    return working_.valid() && working_.wait_for(0s) == std::future_status::ready;
  }
  // Blocks until the work is done; nullopt: none was begun, or it was taken already.
  std::optional<Evidence> take() {
    if (!working_.valid()) return std::nullopt;
    return working_.get();
  }
  // What must come back did not.
  void conclude(Duration) override {
    const auto done = take();
    if (done && !*done) noted().harm = done->error();
  }

 private:
  std::future<Evidence> working_;
};

struct Killed final : OfNodes {
  void inject(Duration) override {
    if (targets().empty()) return no_bite("there was no node to hit");
    bit_if(nodes().kill(node()));
  }
  Evidence undo() override {
    if (!noted().bit) return "nothing to undo";
    begin([&nodes = nodes(), node = node()] { return nodes.start_again(node); });
    return "a new daemon of this name starts";
  }
};

struct Paused final : OfNodes {
  void inject(Duration) override {
    if (targets().empty()) return no_bite("there was no node to hit");
    bit_if(nodes().pause(node(), spec().lasts));
  }
  Evidence undo() override {
    return noted().bit ? nodes().resume(node()) : Evidence("nothing to undo");
  }
};

struct Partitioned final : OfNodes {
  void inject(Duration) override {
    if (targets().empty()) return no_bite("there was no node to hit");
    before_ = nodes().held(node(), NodeLink::kDatabase);
    begun(each(&Nodes::cut));
  }
  // It beats, so that something waits soon.
  void prove(Duration at) override {
    if (targets().empty()) return;
    const std::uint64_t held = nodes().held(node(), NodeLink::kDatabase) - before_;
    if (held > 0) {
      bit(at, fmt::format("{} bytes of node {} wait on their way to or from the database", held,
                          nodes().name_of(node())));
    }
  }
  Evidence undo() override {
    return targets().empty() ? Evidence("nothing to undo") : each(&Nodes::mend);
  }

 private:
  Evidence each(Evidence (Nodes::*does)(std::uint32_t, NodeLink)) {
    const Evidence database = (nodes().*does)(node(), NodeLink::kDatabase);
    const Evidence peers = (nodes().*does)(node(), NodeLink::kPeers);
    if (!database || !peers) return database ? peers : database;
    return *database + "; " + *peers;
  }
  std::uint64_t before_ = 0;
};

struct Restarted final : OfNodes {
  void inject(Duration) override {
    begin([&nodes = nodes()]() -> Evidence {
      const Evidence stopped = nodes.stop_database();
      if (!stopped) return stopped;
      const Evidence started = nodes.start_database();
      if (!started) return started;
      return *stopped + "; " + *started;
    });
  }
  void prove(Duration at) override {
    if (is_done()) note(at);
  }
  void conclude(Duration) override { note(recorder().now()); }

 private:
  void note(Duration at) {
    const auto done = take();
    if (!done) return;
    if (*done) {
      bit(at, **done);
    } else {
      no_bite(done->error());
      noted().harm = done->error();
    }
  }
};

struct Away final : OfNodes {
  void inject(Duration) override {
    begin([&nodes = nodes()] { return nodes.stop_database(); });
  }
  void prove(Duration at) override {
    if (!is_done() || noted().bit) return;
    if (const auto done = take()) *done ? bit(at, **done) : no_bite(done->error());
  }
  Evidence undo() override {
    static_cast<void>(take());
    begin([&nodes = nodes()] { return nodes.start_database(); });
    return "the database starts";
  }
};

struct Deployed final : OfNodes {
  void inject(Duration) override {
    begin([&nodes = nodes(), count = scenario().nodes]() -> Evidence {
      std::string proof;
      for (std::uint32_t node = 0; node < count; ++node) {
        const Evidence drained = nodes.drain(node);
        if (!drained) return drained;
        const Evidence started = nodes.start_again(node);
        if (!started) return started;
        proof += fmt::format("{}{}; {}", proof.empty() ? "" : "; ", *drained, *started);
      }
      return proof;
    });
  }
  void prove(Duration at) override {
    if (is_done()) note(at);
  }
  void conclude(Duration) override { note(recorder().now()); }

 private:
  void note(Duration at) {
    const auto done = take();
    if (!done) return;
    if (*done) {
      bit(at, **done);
    } else {
      no_bite(done->error());
      noted().harm = done->error();
    }
  }
};

const std::vector<OutcomeKind> kNodeGone = {kWorkerDied, kSessionLost, kTimeout,    kOverloaded,
                                            kNotReady,   kCircuitOpen, kSessionBusy};

}  // namespace

std::vector<FaultClass> classes() {
  return {
      {.name = "node.kill",
       .what = "SIGKILL to a node's daemon; after `for` a new daemon of its name starts.",
       .proof = "the daemon is reaped, and its status is the signal",
       .undo = "a new daemon, which must serve sessions",
       .lasts = true,
       .of_nodes = true,
       .expected = kNodeGone,
       .make = make_fault<Killed>},
      {.name = "node.pause",
       .what = "SIGSTOP to a node's daemon, as when its machine stands still. Longer than "
               "cluster.lease it is retired, and must notice when it goes on.",
       .proof = "/proc/PID/stat: state T",
       .undo = "SIGCONT; the warden sends it if the laboratory cannot",
       .lasts = true,
       .of_nodes = true,
       .expected = kNodeGone,
       .make = make_fault<Paused>},
      {.name = "node.partition",
       .what = "No byte passes between a node and the database, nor from the other nodes to it. "
               "Clients still reach it.",
       .proof = "bytes wait in the laboratory's relay",
       .undo = "the relay lets them pass",
       .lasts = true,
       .of_nodes = true,
       .expected = kNodeGone,
       .make = make_fault<Partitioned>},
      {.name = "node.deploy",
       .what = "Every node in turn is told to end with SIGTERM, and a new daemon of its name "
               "starts when it has ended.",
       .proof = "each daemon ended by itself, and the next one serves sessions",
       .reach = Reach::kPool,
       .of_nodes = true,
       // kWorkerDied: a hop may meet the moment in which the node's process ends.
       .expected = {kTimeout, kOverloaded, kNotReady, kShuttingDown, kSessionBusy, kWorkerDied},
       .make = make_fault<Deployed>},
      {.name = "database.restart",
       .what = "The database ends with a fast shutdown, and starts again at once.",
       .proof = "its process has ended, and the next one takes connections",
       .reach = Reach::kPool,
       .of_nodes = true,
       .expected = kNodeGone,
       .make = make_fault<Restarted>},
      {.name = "database.away",
       .what = "The database ends, and starts again after `for`.",
       .proof = "its process has ended",
       .undo = "it starts again, and must take connections",
       .reach = Reach::kPool,
       .lasts = true,
       .of_nodes = true,
       .expected = kNodeGone,
       .make = make_fault<Away>}};
}

}  // namespace keelback::chaos::faults::nodes
