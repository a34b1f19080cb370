#include "fakeworker/loop.h"

#include <utility>

namespace keelback::fakeworker {

void Loop::take() {
  std::unique_lock lock(mutex_);
  if (!std::exchange(taken_, true)) return;
  Waiting self;
  waiting_.push_back(&self);
  self.ready.wait(lock, [&self] { return self.has_turn; });
}

void Loop::leave() {
  std::unique_lock lock(mutex_);
  while (!posted_.empty()) {
    const std::function<void()> call = std::move(posted_.front());
    posted_.pop_front();
    lock.unlock();
    call();
    lock.lock();
  }
  if (waiting_.empty()) {
    taken_ = false;
    return;
  }
  // Under the lock: once it has its turn, it may be gone.
  waiting_.front()->has_turn = true;
  waiting_.front()->ready.notify_one();
  waiting_.pop_front();
}

void Loop::post(std::function<void()> call) {
  std::unique_lock lock(mutex_);
  posted_.push_back(std::move(call));
  if (std::exchange(taken_, true)) return;
  lock.unlock();
  leave();
}

}  // namespace keelback::fakeworker
