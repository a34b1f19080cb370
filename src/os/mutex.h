// Locks that clang's -Wthread-safety can check, and the one word that a thread sleeps on.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

#if defined(__clang__)
#define KEELBACK_TS(x) __attribute__((x))
#else
#define KEELBACK_TS(x)
#endif
#define GUARDED_BY(x) KEELBACK_TS(guarded_by(x))
#define REQUIRES(...) KEELBACK_TS(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) KEELBACK_TS(locks_excluded(__VA_ARGS__))

namespace keelback::os {

class KEELBACK_TS(capability("mutex")) Mutex {
 public:
  void lock() KEELBACK_TS(acquire_capability()) { mutex_.lock(); }
  void unlock() KEELBACK_TS(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class KEELBACK_TS(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) KEELBACK_TS(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() KEELBACK_TS(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Sleeps while *word == expected. May also return without a reason.
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected);
// The same, for at most `limit`.
void futex_wait_for(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                    std::chrono::nanoseconds limit);
// Wakes one sleeper. Takes an address only: the word may no longer exist; then no thread wakes.
void futex_wake(const std::atomic<std::uint32_t>* address);

}  // namespace keelback::os
