#include "core/wait_graph.h"

#include <algorithm>

#include "base/check.h"

namespace keelback::core {

WaitGraph::Place WaitGraph::add_place(std::uint32_t capacity, bool open) {
  PlaceState place;
  place.capacity = capacity;
  place.open = open;
  places_.push_back(std::move(place));
  return Place{places_.size() - 1};
}

WaitGraph::Kind WaitGraph::add_kind(std::uint32_t places, std::uint32_t beside) {
  kinds_.push_back({places, beside, 0, 0});
  return Kind{kinds_.size() - 1};
}

WaitGraph::Node WaitGraph::add_running(Place where, Kind kind, bool alone, bool suspect) {
  PlaceState& place = places_[where.value];
  ++place.calls;
  place.taken |= alone;
  const auto found = std::ranges::find(place.by_kind, kind, &Held::kind);
  if (found != place.by_kind.end()) {
    ++found->calls;
  } else {
    place.by_kind.push_back({kind, 1});
    ++kinds_[kind.value].places;
  }
  if (suspect) ++kinds_[kind.value].suspects;
  calls_.push_back({{kind, alone, suspect, {}, {}}, where, false, {}});
  return Node{calls_.size() - 1};
}

WaitGraph::Node WaitGraph::add_waiting(const Wanted& wanted) {
  calls_.push_back({wanted, {}, false, {}});
  return Node{calls_.size() - 1};
}

void WaitGraph::waits_for(Node call, Node other) {
  CHECK(calls_[call.value].place);
  calls_[call.value].waits_for.push_back(other);
}

// What is known to end only ever grows, and with it what can be served: the order does not matter.
void WaitGraph::solve(std::optional<Node> asked) {
  bool changed = true;
  while (changed) {
    changed = false;
    for (CallState& call : calls_) {
      if (call.ends || !can_end(call)) continue;
      call.ends = true;
      changed = true;
      if (call.place) release(call);
    }
    if (asked && ends(*asked)) return;
  }
}

bool WaitGraph::can_end(const CallState& call) const {
  if (!call.place) return is_served(call.wanted);
  return std::ranges::all_of(call.waits_for, [this](Node other) { return ends(other); });
}

bool WaitGraph::is_served(const Wanted& wanted) const {
  if (wanted.behind && !ends(*wanted.behind)) return false;
  if (wanted.only) return takes(places_[wanted.only->value], wanted);
  return std::ranges::any_of(
      places_, [&](const PlaceState& place) { return place.open && takes(place, wanted); });
}

bool WaitGraph::takes(const PlaceState& place, const Wanted& call) const {
  const KindState& kind = kinds_[call.kind.value];
  if (call.alone || place.taken) {
    if (place.calls > 0) return false;
  } else if (place.calls >= place.capacity || held_of(place, call.kind) >= kind.beside_max) {
    return false;
  }
  if (call.suspect && kind.suspects > 0) return false;
  const bool runs_here = !call.alone && held_of(place, call.kind) > 0;
  return kind.places_max == 0 || kind.places < kind.places_max || runs_here;
}

std::uint32_t WaitGraph::held_of(const PlaceState& place, Kind kind) {
  const auto found = std::ranges::find(place.by_kind, kind, &Held::kind);
  return found == place.by_kind.end() ? 0 : found->calls;
}

void WaitGraph::release(const CallState& call) {
  PlaceState& place = places_[call.place->value];
  if (--place.calls == 0) place.taken = false;
  KindState& kind = kinds_[call.wanted.kind.value];
  if (call.wanted.suspect) --kind.suspects;
  const auto found = std::ranges::find(place.by_kind, call.wanted.kind, &Held::kind);
  if (--found->calls > 0) return;
  place.by_kind.erase(found);
  --kind.places;
}

}  // namespace keelback::core
