// Whether a call that waits can ever be served, while calls that run wait for calls that they have
// made. The graph is a picture of one moment: calls that run and hold their places, calls that wait
// for a place, and who waits for whom. It says of each call whether something can still happen that
// leads to its end:
//
//   A call that runs ends when every call that it waits for has ended.
//   A call that waits is served, and ends, if some place can take it once the calls there that end
//   have ended: a place takes calls beside each other up to its capacity, and one that runs alone
//   when it is empty. The bulkhead of its function, the calls of one function that a place runs
//   beside each other, suspects (one of a function at a time) and the call of its session that runs
//   count likewise.
//
// What is not sure to end is stuck: nothing but a deadline would end it. The graph is optimistic
// where it does not know: a call that waits for no other ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace keelback::core {

class WaitGraph {
 public:
  // Numbers from 0, in the order of their making.
  struct Place {
    std::size_t value = 0;
    bool operator==(const Place&) const = default;
  };
  struct Kind {  // a function
    std::size_t value = 0;
    bool operator==(const Kind&) const = default;
  };
  struct Node {  // a call
    std::size_t value = 0;
    bool operator==(const Node&) const = default;
  };

  struct Wanted {
    Kind kind;
    bool alone = true;
    bool suspect = false;        // of a kind one suspect runs at a time
    std::optional<Place> only;   // no other place may take it
    std::optional<Node> behind;  // this one has to end first
  };

  // capacity: calls that it runs beside each other. open: any call may come; else only those that
  // no other place may take.
  Place add_place(std::uint32_t capacity, bool open = true);
  // places: that may run it, at most, 0: any number. beside: calls of it in one place, at most.
  Kind add_kind(std::uint32_t places, std::uint32_t beside);
  Node add_running(Place place, Kind kind, bool alone, bool suspect = false);
  Node add_waiting(const Wanted& wanted);
  // `call`, which runs, ends only after `other`.
  void waits_for(Node call, Node other);

  // Finds out who ends. Stops early if `asked` does; then nothing is known of the others.
  void solve(std::optional<Node> asked = {});
  // Requires: solved, and not stopped early for another call.
  bool ends(Node call) const { return calls_[call.value].ends; }

 private:
  struct Held {  // the calls of one kind in a place that are not known to end
    Kind kind;
    std::uint32_t calls = 0;
  };
  struct PlaceState {
    std::uint32_t capacity = 1;
    bool open = true;
    std::uint32_t calls = 0;    // that are not known to end
    bool taken = false;         // one of them runs alone
    std::vector<Held> by_kind;  // likewise
  };
  struct KindState {
    std::uint32_t places_max = 0;
    std::uint32_t beside_max = 1;
    std::uint32_t places = 0;    // that run it, with calls that are not known to end
    std::uint32_t suspects = 0;  // of those calls
  };
  struct CallState {
    Wanted wanted;               // a running one has got it
    std::optional<Place> place;  // where it runs; nullopt: it waits
    bool ends = false;
    std::vector<Node> waits_for;  // of a running one
  };

  bool can_end(const CallState& call) const;
  bool is_served(const Wanted& wanted) const;
  bool takes(const PlaceState& place, const Wanted& call) const;
  static std::uint32_t held_of(const PlaceState& place, Kind kind);
  void release(const CallState& call);

  std::vector<PlaceState> places_;
  std::vector<KindState> kinds_;
  std::vector<CallState> calls_;
};

}  // namespace keelback::core
