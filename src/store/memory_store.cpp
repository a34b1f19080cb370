#include "store/memory_store.h"

#include <fmt/format.h>

#include <utility>

namespace keelback::store {

// Beside its texts a row has some numbers, and its place in an index or a page.
std::uint64_t bytes_of(const Record& record) {
  constexpr std::uint64_t kOverhead = 160;
  const Answer& answer = record.answer;
  return kOverhead + record.session.size() +
         (record.snapshot.state ? record.snapshot.state->size() : 0) + answer.key.size() +
         answer.payload.size() + answer.type.size() + answer.message.size() +
         answer.traceback.size();
}

MemoryStore::MemoryStore(std::uint64_t bytes_max, Notice notice)
    : notice_(std::move(notice)), bytes_max_(bytes_max) {}

std::optional<bool> MemoryStore::keep(Record record, Done) {
  // The answer is not kept: no later process can use it, and the pool itself remembers its answers.
  record.answer = {};
  const std::uint64_t bytes = bytes_of(record);
  bool said = false;
  {
    const os::MutexLock lock(mutex_);
    const auto old = records_.find(record.session);
    if (old != records_.end()) {
      bytes_ -= bytes_of(old->second);
      records_.erase(old);
    }
    if (bytes_ + bytes <= bytes_max_) {
      bytes_ += bytes;
      full_ = false;
      std::string session = record.session;
      records_.emplace(std::move(session), std::move(record));
      return true;
    }
    ++failed_;
    said = std::exchange(full_, true);
  }
  if (!said && notice_) {
    notice_(true, fmt::format("The snapshots have no room for one of {} bytes "
                              "(sessions.store_max); sessions go on without.",
                              bytes));
  }
  return false;
}

std::optional<bool> MemoryStore::drop(std::string session, std::uint64_t birth, Done) {
  const os::MutexLock lock(mutex_);
  const auto found = records_.find(session);
  if (found == records_.end() || found->second.birth != birth) return true;
  bytes_ -= bytes_of(found->second);
  records_.erase(found);
  return true;
}

std::optional<Fetched> MemoryStore::fetch(const std::string& session, std::uint64_t birth,
                                          std::uint64_t number, OnFetched) {
  const os::MutexLock lock(mutex_);
  const auto found = records_.find(session);
  if (found == records_.end() || found->second.birth != birth || found->second.number != number) {
    return Fetched{.gone = true, .snapshot = {}};
  }
  return Fetched{.gone = false, .snapshot = found->second.snapshot};
}

void MemoryStore::set_bytes_max(std::uint64_t bytes) {
  const os::MutexLock lock(mutex_);
  bytes_max_ = bytes;
}

Status MemoryStore::status() const {
  const os::MutexLock lock(mutex_);
  Status status;
  status.name = "memory";
  status.sessions = records_.size();
  status.bytes = bytes_;
  status.failed = failed_;
  if (full_) status.error = "full (sessions.store_max)";
  return status;
}

}  // namespace keelback::store
