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
  CallState call;
  call.running = true;
  call.alone = alone;
  call.suspect = suspect;
  call.kind = kind;
  call.place = where;
  calls_.push_back(std::move(call));
  return Node{calls_.size() - 1};
}

WaitGraph::Node WaitGraph::add_waiting(const Wanted& wanted) {
  CallState call;
  call.alone = wanted.alone;
  call.suspect = wanted.suspect;
  call.kind = wanted.kind;
  call.wanted = wanted;
  calls_.push_back(std::move(call));
  return Node{calls_.size() - 1};
}

void WaitGraph::waits_for(Node call, Node other) {
  CHECK(calls_[call.value].running);
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
      if (call.running) release(call);
    }
    if (asked && ends(*asked)) return;
  }
}

bool WaitGraph::can_end(const CallState& call) const {
  if (!call.running) return is_served(call);
  return std::ranges::all_of(call.waits_for, [this](Node other) { return ends(other); });
}

bool WaitGraph::is_served(const CallState& call) const {
  const Wanted& wanted = call.wanted;
  if (wanted.behind && !ends(*wanted.behind)) return false;
  if (wanted.only) return takes(places_[wanted.only->value], call);
  return std::ranges::any_of(
      places_, [&](const PlaceState& place) { return place.open && takes(place, call); });
}

bool WaitGraph::takes(const PlaceState& place, const CallState& call) const {
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
  PlaceState& place = places_[call.place.value];
  if (--place.calls == 0) place.taken = false;
  if (call.suspect) --kinds_[call.kind.value].suspects;
  const auto found = std::ranges::find(place.by_kind, call.kind, &Held::kind);
  if (--found->calls > 0) return;
  place.by_kind.erase(found);
  --kinds_[call.kind.value].places;
}

}  // namespace keelback::core
