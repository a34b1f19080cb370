// Against a model that plays on: whatever calls and places there are, a call ends in the graph
// exactly if it ends when calls end and waiting calls are placed, in any order, until nothing more
// can happen.
#include "core/wait_graph.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace keelback::core {
namespace {

struct ModelPlace {
  std::uint32_t capacity = 1;
  bool open = true;
};
struct ModelKind {
  std::uint32_t places = 0;
  std::uint32_t beside = 1;
};
struct ModelNode {
  bool running = false;
  bool over = false;
  std::size_t kind = 0;
  bool alone = true;
  bool suspect = false;
  std::size_t place = 0;              // of a running one
  std::optional<std::size_t> only;    // of a waiting one
  std::optional<std::size_t> behind;  // likewise
  std::vector<std::size_t> waits_for;
};

class Play {
 public:
  std::vector<ModelPlace> places;
  std::vector<ModelKind> kinds;
  std::vector<ModelNode> calls;

  bool takes(std::size_t place, const ModelNode& call) const {
    std::uint32_t here = 0, alike = 0;
    bool taken = false;
    std::vector<bool> runs(places.size(), false);
    for (const ModelNode& other : calls) {
      if (!other.running || other.over) continue;
      if (other.kind == call.kind) runs[other.place] = true;
      if (other.kind == call.kind && other.suspect && call.suspect) return false;
      if (other.place != place) continue;
      ++here;
      taken |= other.alone;
      if (other.kind == call.kind) ++alike;
    }
    if (call.alone ? here > 0
                   : taken || here >= places[place].capacity || alike >= kinds[call.kind].beside) {
      return false;
    }
    const std::uint32_t most = kinds[call.kind].places;
    const auto used = static_cast<std::uint32_t>(std::ranges::count(runs, true));
    return most == 0 || used < most || (!call.alone && runs[place]);
  }

  // One step, if there is one.
  bool play() {
    std::vector<std::pair<std::size_t, std::optional<std::size_t>>> steps;  // call, place
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const ModelNode& call = calls[i];
      if (call.over) continue;
      if (call.running) {
        const bool free = std::ranges::all_of(call.waits_for,
                                              [&](std::size_t other) { return calls[other].over; });
        if (free) steps.emplace_back(i, std::nullopt);
        continue;
      }
      if (call.behind && !calls[*call.behind].over) continue;
      for (std::size_t place = 0; place < places.size(); ++place) {
        if (call.only ? *call.only != place : !places[place].open) continue;
        if (takes(place, call)) steps.emplace_back(i, place);
      }
    }
    if (steps.empty()) return false;
    const auto [index, place] = steps[*rc::gen::inRange<std::size_t>(0, steps.size())];
    ModelNode& call = calls[index];
    if (place) {
      call.running = true;
      call.place = *place;
    } else {
      call.over = true;
    }
    return true;
  }
};

std::size_t less_than(std::size_t most) { return *rc::gen::inRange<std::size_t>(0, most); }

Play make_play() {
  Play model;
  for (std::size_t i = 0; i < 1 + less_than(4); ++i) {
    model.places.push_back({static_cast<std::uint32_t>(1 + less_than(3)), less_than(5) > 0});
  }
  for (std::size_t i = 0; i < 1 + less_than(3); ++i) {
    model.kinds.push_back(
        {static_cast<std::uint32_t>(less_than(3)), static_cast<std::uint32_t>(1 + less_than(3))});
  }
  const std::size_t running = less_than(8), waiting = less_than(6);
  for (std::size_t i = 0; i < running; ++i) {
    ModelNode call;
    call.kind = less_than(model.kinds.size());
    call.suspect = less_than(8) == 0;
    call.alone = model.kinds[call.kind].beside == 1 || call.suspect || less_than(4) == 0;
    const std::size_t place = less_than(model.places.size());
    if (!model.takes(place, call)) continue;
    call.running = true;
    call.place = place;
    model.calls.push_back(call);
  }
  const std::size_t ran = model.calls.size();
  for (std::size_t i = 0; i < waiting; ++i) {
    ModelNode call;
    call.kind = less_than(model.kinds.size());
    call.suspect = less_than(8) == 0;
    call.alone = model.kinds[call.kind].beside == 1 || call.suspect || less_than(4) == 0;
    if (less_than(4) == 0) call.only = less_than(model.places.size());
    if (ran > 0 && less_than(4) == 0) call.behind = less_than(ran);
    model.calls.push_back(call);
    if (ran > 0 && less_than(3) > 0) model.calls[less_than(ran)].waits_for.push_back(ran + i);
  }
  for (std::size_t i = 0; i + 1 < ran; ++i) {  // children that run already
    if (less_than(3) == 0) model.calls[i].waits_for.push_back(i + 1 + less_than(ran - i - 1));
  }
  return model;
}

WaitGraph graph_of(const Play& model) {
  WaitGraph graph;
  for (const ModelPlace& place : model.places) graph.add_place(place.capacity, place.open);
  for (const ModelKind& kind : model.kinds) graph.add_kind(kind.places, kind.beside);
  for (const ModelNode& call : model.calls) {
    const WaitGraph::Kind kind{call.kind};
    if (call.running) {
      graph.add_running({call.place}, kind, call.alone, call.suspect);
      continue;
    }
    WaitGraph::Wanted wanted{kind, call.alone, call.suspect, {}, {}};
    if (call.only) wanted.only = WaitGraph::Place{*call.only};
    if (call.behind) wanted.behind = WaitGraph::Node{*call.behind};
    graph.add_waiting(wanted);
  }
  for (std::size_t i = 0; i < model.calls.size(); ++i) {
    for (const std::size_t other : model.calls[i].waits_for) graph.waits_for({i}, {other});
  }
  return graph;
}

RC_GTEST_PROP(WaitGraphProperty, ACallEndsExactlyIfItEndsWhenAllIsPlayedOn, ()) {
  Play model = make_play();
  WaitGraph graph = graph_of(model);
  graph.solve();
  while (model.play()) {
  }
  for (std::size_t i = 0; i < model.calls.size(); ++i) {
    RC_TAG(model.calls[i].over ? "ends" : "stuck");
    RC_ASSERT(graph.ends({i}) == model.calls[i].over);
  }
}

// Who asks for one call gets the same answer for it.
RC_GTEST_PROP(WaitGraphProperty, TheAnswerForOneCallIsThatForAll, ()) {
  const Play model = make_play();
  RC_PRE(!model.calls.empty());
  WaitGraph all = graph_of(model), one = graph_of(model);
  const WaitGraph::Node asked{less_than(model.calls.size())};
  all.solve();
  one.solve(asked);
  RC_ASSERT(one.ends(asked) == all.ends(asked));
}

// A call in the only place waits for a call that needs this place.
TEST(WaitGraph, ACallThatWaitsForItsOwnPlaceIsStuck) {
  WaitGraph graph;
  const auto place = graph.add_place(1);
  const auto kind = graph.add_kind(0, 1);
  const auto parent = graph.add_running(place, kind, true);
  const auto child = graph.add_waiting({kind, true, false, {}, {}});
  graph.waits_for(parent, child);
  graph.solve();
  EXPECT_FALSE(graph.ends(parent));
  EXPECT_FALSE(graph.ends(child));
}

// The same beside another place, whose call waits for nobody.
TEST(WaitGraph, APlaceThatComesFreeIsEnough) {
  WaitGraph graph;
  const auto held = graph.add_place(1), busy = graph.add_place(1);
  const auto kind = graph.add_kind(0, 1);
  const auto parent = graph.add_running(held, kind, true);
  graph.add_running(busy, kind, true);
  const auto child = graph.add_waiting({kind, true, false, {}, {}});
  graph.waits_for(parent, child);
  graph.solve(child);
  EXPECT_TRUE(graph.ends(child));
}

}  // namespace
}  // namespace keelback::core
