// Snapshots that live as long as the pool: a session survives its worker, but not the supervisor.
// Answers every request at once. Any thread.
#pragma once

#include <unordered_map>

#include "os/mutex.h"
#include "store/store.h"

namespace keelback::store {

class MemoryStore final : public Store {
 public:
  explicit MemoryStore(std::uint64_t bytes_max, Notice notice = nullptr);

  std::optional<bool> keep(Record record, Done done) override;
  std::optional<bool> drop(std::string session, std::uint64_t birth, Done done) override;
  std::optional<Fetched> fetch(const std::string& session, std::uint64_t birth,
                               std::uint64_t number, OnFetched done) override;
  void set_bytes_max(std::uint64_t bytes) override;
  Status status() const override;

 private:
  const Notice notice_;
  mutable os::Mutex mutex_;
  std::unordered_map<std::string, Record> records_ GUARDED_BY(mutex_);
  std::uint64_t bytes_max_ GUARDED_BY(mutex_);
  std::uint64_t bytes_ GUARDED_BY(mutex_) = 0;
  std::uint64_t failed_ GUARDED_BY(mutex_) = 0;
  bool full_ GUARDED_BY(mutex_) = false;  // reported as full, and nothing was stored since
};

}  // namespace keelback::store
