// One value handed from a thread to one that waits for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

namespace keelback::os {

template <class T>
class Handover {
 public:
  void put(T value) {
    // Notified under the lock: the waiter, whose stack this lives on, must not leave before.
    const std::lock_guard lock(mutex_);
    value_ = std::move(value);
    there_.notify_all();
  }
  T take() {
    std::unique_lock lock(mutex_);
    there_.wait(lock, [this] { return value_.has_value(); });
    return std::move(*value_);
  }
  // False: it was not put within `limit`.
  bool wait(std::chrono::nanoseconds limit) {
    std::unique_lock lock(mutex_);
    return there_.wait_for(lock, limit, [this] { return value_.has_value(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable there_;
  std::optional<T> value_;
};

}  // namespace keelback::os
