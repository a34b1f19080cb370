#include "core/quarantine.h"

#include <algorithm>

namespace keelback::core {

bool Quarantine::holds(Time now, std::uint64_t fingerprint, const Limits& limits) const {
  if (index_.empty()) return false;
  const auto found = index_.find(fingerprint);
  return found != index_.end() && is_held(*found->second, now, limits);
}

Duration Quarantine::remaining(Time now, std::uint64_t fingerprint, const Limits& limits) const {
  return index_.find(fingerprint)->second->last_death + limits.ttl - now;
}

bool Quarantine::suspects(Time now, std::uint64_t fingerprint, const Limits& limits) const {
  if (index_.empty()) return false;
  const auto found = index_.find(fingerprint);
  return found != index_.end() && now - found->second->last_death < limits.ttl;
}

void Quarantine::died(Time now, std::uint64_t fingerprint, std::string_view function,
                      std::string_view session, const Limits& limits, std::uint32_t deaths) {
  if (Entry* entry = note(now, fingerprint, function, session, limits)) entry->deaths += deaths;
}

Quarantine::Entry* Quarantine::note(Time now, std::uint64_t fingerprint, std::string_view function,
                                    std::string_view session, const Limits& limits) {
  if (fingerprint == 0) return nullptr;
  sweep(now, limits);
  if (const auto found = index_.find(fingerprint); found != index_.end()) {
    by_death_.splice(by_death_.end(), by_death_, found->second);
  } else {
    if (by_death_.size() >= kTracked) {
      index_.erase(by_death_.front().fingerprint);
      by_death_.pop_front();
    }
    by_death_.push_back(Entry{fingerprint, std::string(function), std::string(session), 0, now});
    index_.emplace(fingerprint, std::prev(by_death_.end()));
  }
  by_death_.back().last_death = now;
  return &by_death_.back();
}

void Quarantine::answered(std::uint64_t fingerprint) {
  if (index_.empty()) return;
  if (const auto found = index_.find(fingerprint); found != index_.end()) {
    by_death_.erase(found->second);
    index_.erase(found);
  }
}

bool Quarantine::release(std::uint64_t fingerprint) {
  const auto found = index_.find(fingerprint);
  if (found == index_.end()) return false;
  by_death_.erase(found->second);
  index_.erase(found);
  return true;
}

void Quarantine::sweep(Time now, const Limits& limits) {
  while (!by_death_.empty() && now - by_death_.front().last_death >= limits.ttl) {
    index_.erase(by_death_.front().fingerprint);
    by_death_.pop_front();
  }
}

std::uint64_t Quarantine::held(Time now, const Limits& limits) const {
  return static_cast<std::uint64_t>(
      std::count_if(by_death_.begin(), by_death_.end(),
                    [&](const Entry& entry) { return is_held(entry, now, limits); }));
}

}  // namespace keelback::core
