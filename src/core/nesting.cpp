#include "core/nesting.h"

#include <fmt/format.h>

#include <boost/unordered/unordered_flat_map.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "core/calls.h"
#include "core/placement.h"
#include "core/runs.h"
#include "core/wait_graph.h"
#include "core/waiting.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

constexpr std::uint32_t kDepthMax = 16;  // calls in a chain, the outermost one not counted
constexpr std::string_view kWouldDeadlock = "would_deadlock";

Ending would_deadlock(std::string message) {
  Ending ending;
  ending.kind = OutcomeKind::kOverloaded;
  ending.message = std::move(message);
  ending.reason = kWouldDeadlock;
  return ending;
}

Ending never_served() {
  return would_deadlock(
      "Everything that could serve this call is held by calls that wait for calls of their own.");
}

// It runs, and is not being stopped.
bool makes_calls(const Call* call) {
  const auto* run = call ? call->in<Call::Running>() : nullptr;
  return run && !run->cancelled && run->rung == Rung::kNone && !run->worker->killed();
}

// The calls of the pool as a WaitGraph: all that run, and the nested ones that wait.
class Picture {
 public:
  Picture(const Frame& frame, const Calls& calls, const Workers& workers) {
    const WorkerTable& table = workers.table();
    bool grows = false;
    table.each([&](const Worker& worker) { add(worker); });
    for (const auto& slot : table.slots()) {
      grows |= slot->wanted && (!slot->current || slot->current->ending());
    }
    grows |= table.wanted() < frame.settings.pool.size_max();
    if (grows && !frame.draining()) graph_.add_place(table.capacity());
    for (const auto& [call, node] : running_) {
      for (const CallId id : calls.family().children(call->id)) {
        const Call* child = calls.find(id);
        CHECK(child);
        const std::optional<WaitGraph::Node> other = node_of(*child);
        if (!other) continue;  // it is answered, or gets another call's answer
        if (child->waits()) waiting_.push_back({child, *other});
        // One that is being stopped ends whatever its children do.
        if (makes_calls(call)) graph_.waits_for(node, *other);
      }
    }
  }

  // The parent runs.
  WaitGraph::Node add_newcomer(const Call& parent, const Call& probe) {
    const Lane* lane = probe.session ? probe.session->lane : nullptr;
    const Call* before = lane ? lane->running : nullptr;
    if (lane && !lane->waiting.empty()) before = &lane->waiting.back();
    const WaitGraph::Node node = add_waiting(probe, before);
    graph_.waits_for(nodes_.at(&parent), node);
    return node;
  }

  // Whether it can be served.
  bool serves(WaitGraph::Node newcomer) {
    graph_.solve(newcomer);
    return graph_.ends(newcomer);
  }
  // The youngest nested call that waits and cannot be served; null: there is none.
  const Call* youngest_stuck() {
    graph_.solve();
    const Call* youngest = nullptr;
    for (const auto& [call, node] : waiting_) {
      if (!graph_.ends(node) && (!youngest || call->id > youngest->id)) youngest = call;
    }
    return youngest;
  }

 private:
  void add(const Worker& worker) {
    const bool open =
        !worker.draining() && !worker.doomed && !worker.ending() && !worker.withheld();
    const WaitGraph::Place place = graph_.add_place(worker.capacity, open);
    places_.emplace(&worker, place);
    for (const Call& call : worker.running) {
      const auto node =
          graph_.add_running(place, kind_of(*call.function), call.alone, call.suspect);
      nodes_.emplace(&call, node);
      running_.push_back({&call, node});
    }
  }

  WaitGraph::Kind kind_of(const Function& function) {
    const auto [found, added] = kinds_.try_emplace(&function);
    if (added) {
      found->second = graph_.add_kind(function.spec.max_workers, function.spec.concurrency);
    }
    return found->second;
  }

  // A call that runs or waits; a waiting one with all that go before it in its lane.
  std::optional<WaitGraph::Node> node_of(const Call& call) {
    if (const auto found = nodes_.find(&call); found != nodes_.end()) return found->second;
    if (!call.waits()) return std::nullopt;
    if (!call.session) return add_waiting(call, nullptr);
    const Call* before = call.session->lane->running;
    for (const Call& each : call.session->lane->waiting) {
      if (!nodes_.contains(&each)) add_waiting(each, before);
      if (&each == &call) break;
      before = &each;
    }
    return nodes_.at(&call);
  }

  WaitGraph::Node add_waiting(const Call& call, const Call* before) {
    WaitGraph::Wanted wanted;
    wanted.kind = kind_of(*call.function);
    wanted.alone = call.alone;
    wanted.suspect = call.suspect;
    // A home that is being killed gives its sessions up.
    const Worker* home = Placement::waits_for(call);
    if (home && !home->ending()) wanted.only = places_.at(home);
    if (before) wanted.behind = node_of(*before);
    const WaitGraph::Node node = graph_.add_waiting(wanted);
    nodes_.emplace(&call, node);
    return node;
  }

  WaitGraph graph_;
  boost::unordered_flat_map<const Worker*, WaitGraph::Place> places_;
  boost::unordered_flat_map<const Function*, WaitGraph::Kind> kinds_;
  boost::unordered_flat_map<const Call*, WaitGraph::Node> nodes_;
  std::vector<std::pair<const Call*, WaitGraph::Node>> running_;
  std::vector<std::pair<const Call*, WaitGraph::Node>> waiting_;
};

}  // namespace

std::optional<Ending> Nesting::check(const CallSubmitted& event) const {
  const Call* parent = calls_.find(event.parent);
  if (!makes_calls(parent)) {
    return Ending{OutcomeKind::kCancelled, "The call that makes this one has ended or is to stop."};
  }
  if (parent->depth >= kDepthMax) {
    return Ending{OutcomeKind::kBadRequest,
                  fmt::format("Calls are nested {} deep at most.", kDepthMax)};
  }
  if (event.session.empty()) return std::nullopt;
  for (const Call* above = parent; above; above = calls_.find(above->parent)) {
    if (!above->session || above->session->id != event.session) continue;
    return would_deadlock(
        fmt::format("Session \"{}\" is held by a call that waits for this one.", event.session));
  }
  return std::nullopt;
}

std::optional<Ending> Nesting::check_wait(const CallSubmitted& event, const Call& probe) const {
  Picture picture(frame_, calls_, workers_);
  if (picture.serves(picture.add_newcomer(*calls_.find(event.parent), probe))) return std::nullopt;
  return never_served();
}

void Nesting::abandon(const Call& parent) {
  const std::vector<CallId> children = calls_.orphan(parent);
  to_cancel_.insert(to_cancel_.end(), children.begin(), children.end());
}

void Nesting::cancel_children(const Call& parent) {
  const auto children = calls_.family().children(parent.id);
  to_cancel_.insert(to_cancel_.end(), children.begin(), children.end());
}

void Nesting::note_home(const Session& session) {
  if (session.lane->nested > 0) note_change();
}

void Nesting::settle() {
  while (!to_cancel_.empty()) {
    const std::vector<CallId> calls = std::exchange(to_cancel_, {});
    for (const CallId call : calls) runs_.on(CallCancelled{call});
  }
  if (std::exchange(changed_, false)) recheck();
}

void Nesting::recheck() {
  while (!calls_.family().empty()) {
    const Call* stuck = Picture(frame_, calls_, workers_).youngest_stuck();
    if (!stuck) return;
    waiting_.end(*calls_.find(stuck->id), never_served());
  }
}

}  // namespace keelback::core
