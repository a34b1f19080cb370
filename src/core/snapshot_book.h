// Which sessions have a snapshot, and which one. Every change of a session's state that a caller
// hears of begins a new number; a snapshot may be used only while its number is the session's last,
// so a state is never rolled back silently.
//
// Empty, and never touched, while snapshots are off.
#pragma once

#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>

namespace keelback::core {

class SnapshotBook {
 public:
  bool empty() const { return entries_.empty(); }
  // Something of the session is stored, or on its way there.
  bool knows(std::uint64_t birth) const { return !entries_.empty() && entries_.contains(birth); }

  // The session's state has changed: what is stored is out of date from now on. The number of what
  // replaces it.
  std::uint64_t begin(std::uint64_t birth) {
    entries_.insert_or_assign(birth, Entry{++last_, false});
    return last_;
  }
  // The store has answered. False: this number is not the session's last any more.
  bool settle(std::uint64_t birth, std::uint64_t number, bool kept) {
    const auto found = entries_.find(birth);
    if (found == entries_.end() || found->second.number != number) return false;
    if (kept) {
      found->second.kept = true;
    } else {
      entries_.erase(found);
    }
    return true;
  }
  // The number of the session's snapshot; 0: it has none that may be used.
  std::uint64_t usable(std::uint64_t birth) const {
    const auto found = entries_.find(birth);
    return found != entries_.end() && found->second.kept ? found->second.number : 0;
  }
  // An earlier run has left it.
  void find(std::uint64_t birth, std::uint64_t number) {
    last_ = std::max(last_, number);
    entries_.insert_or_assign(birth, Entry{number, true});
  }
  // The session is over. True: something of it is stored, or on its way there.
  bool forget(std::uint64_t birth) { return !entries_.empty() && entries_.erase(birth) > 0; }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::uint64_t number = 0;
    bool kept = false;
  };
  boost::unordered_flat_map<std::uint64_t, Entry> entries_;  // by birth; never iterated
  std::uint64_t last_ = 0;
};

}  // namespace keelback::core
