// Requests that kill. A fingerprint is quarantined when its last `deaths` started attempts each
// killed their worker with no answer between them; any answer clears it. An attempt that ran beside
// others when their worker died is only suspected: the next one runs alone, and its deaths count.
// Bounded: beyond kTracked fingerprints the one whose last death is the oldest is forgotten.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

namespace keelback::core {

class Quarantine {
 public:
  struct Limits {
    std::uint32_t deaths;  // 0: off
    Duration ttl;          // counted from the last death
  };
  struct Entry {
    std::uint64_t fingerprint = 0;
    std::string function;
    std::string session;
    std::uint32_t deaths = 0;  // while it ran alone
    Time last_death;
  };
  static constexpr std::size_t kTracked = 4096;

  // A fingerprint of 0 is nobody's.
  bool holds(Time now, std::uint64_t fingerprint, const Limits& limits) const;
  // How long holds() stays true; requires holds().
  Duration remaining(Time now, std::uint64_t fingerprint, const Limits& limits) const;
  // Its worker died not long ago, and it has not answered since: it runs alone.
  bool suspects(Time now, std::uint64_t fingerprint, const Limits& limits) const;
  // A started attempt died with its worker and with others: it may be the cause, or is known to be.
  // Our own kills do not count and are not reported here.
  void suspect(Time now, std::uint64_t fingerprint, std::string_view function,
               std::string_view session, const Limits& limits) {
    note(now, fingerprint, function, session, limits);
  }
  // A started attempt killed its worker, in which it ran alone; our own kills do not count. deaths:
  // with those of earlier attempts that ran together with others, and are now known to be its own.
  void died(Time now, std::uint64_t fingerprint, std::string_view function,
            std::string_view session, const Limits& limits, std::uint32_t deaths = 1);
  // The function returned or raised.
  void answered(std::uint64_t fingerprint);
  // False: it is not held.
  bool release(std::uint64_t fingerprint);
  void sweep(Time now, const Limits& limits);

  std::uint64_t held(Time now, const Limits& limits) const;
  // Held entries, oldest last death first.
  template <class Visit>
  void each_held(Time now, const Limits& limits, Visit visit) const {
    for (const Entry& entry : by_death_) {
      if (is_held(entry, now, limits)) visit(entry);
    }
  }

 private:
  // The fingerprint's entry, as the one with the latest death; nullptr: it is nobody's.
  Entry* note(Time now, std::uint64_t fingerprint, std::string_view function,
              std::string_view session, const Limits& limits);

  using List = std::list<Entry>;  // oldest last death first
  static bool is_held(const Entry& entry, Time now, const Limits& limits) {
    return limits.deaths > 0 && entry.deaths >= limits.deaths &&
           now - entry.last_death < limits.ttl;
  }
  List by_death_;
  boost::unordered_flat_map<std::uint64_t, List::iterator> index_;
};

}  // namespace keelback::core
