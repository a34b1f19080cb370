// What is remembered of sessions that ended on their own: why, for at most tombstone_ttl, and of
// the latest `max` sessions. The first caller who comes back is told; a call that opens anew then
// lays the stone away.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "core/name_index.h"
#include "core/slab.h"
#include "keelback/outcome.h"

namespace keelback::core {

// Why a session is over.
enum class SessionOver : std::uint8_t { kIdle, kAge, kLost };

struct Tombstone {
  std::string id;
  Time at;
  SessionOver why = SessionOver::kIdle;
  bool told = false;
  Duration limit{0};  // that it was over when it ended; not what is configured by now
  std::shared_ptr<const Death> death;  // shared by all the sessions that one worker held
  boost::intrusive::list_member_hook<> hook;

  std::string_view name() const { return id; }
};

class Tombstones {
 public:
  struct Limits {
    Duration ttl;
    std::size_t max;
  };
  Tombstones(Limits limits, std::uint64_t seed) : limits_(limits), index_(seed) {}
  ~Tombstones() {
    while (!oldest_first_.empty()) drop(oldest_first_.front());
  }
  Tombstones(const Tombstones&) = delete;
  Tombstones& operator=(const Tombstones&) = delete;

  // A second stone of the same id replaces the first; over `max`, the oldest goes.
  void add(Time now, std::string_view id, SessionOver why, Duration limit,
           std::shared_ptr<const Death> death) {
    remove(id);
    if (limits_.max == 0) return;
    while (oldest_first_.size() >= limits_.max) drop(oldest_first_.front());
    Tombstone& stone = *slab_.make();
    stone.id = id;
    stone.at = now;
    stone.why = why;
    stone.limit = limit;
    stone.death = std::move(death);
    index_.insert(stone);
    oldest_first_.push_back(stone);
  }
  Tombstone* find(Time now, std::string_view id) {
    Tombstone* stone = index_.find(id);
    return stone && now - stone->at < limits_.ttl ? stone : nullptr;
  }
  void remove(std::string_view id) {
    if (Tombstone* stone = index_.find(id)) drop(*stone);
  }
  // Forgets what is over its ttl, at most `count` of them.
  void sweep(Time now, std::size_t count) {
    while (count-- > 0 && !oldest_first_.empty() && now - oldest_first_.front().at >= limits_.ttl) {
      drop(oldest_first_.front());
    }
  }
  void set_limits(Limits limits) {
    limits_ = limits;
    while (oldest_first_.size() > limits_.max) drop(oldest_first_.front());
  }
  std::optional<Time> next_deadline() const {
    if (oldest_first_.empty()) return std::nullopt;
    return oldest_first_.front().at + limits_.ttl;
  }
  std::size_t size() const { return oldest_first_.size(); }

 private:
  void drop(Tombstone& stone) {
    index_.erase(stone);
    oldest_first_.erase(oldest_first_.iterator_to(stone));
    slab_.free(&stone);
  }
  Limits limits_;
  NameIndex<Tombstone> index_;
  boost::intrusive::list<
      Tombstone, boost::intrusive::member_hook<Tombstone, boost::intrusive::list_member_hook<>,
                                               &Tombstone::hook>>
      oldest_first_;
  Slab<Tombstone> slab_;
};

}  // namespace keelback::core
