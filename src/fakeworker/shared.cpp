#include "fakeworker/shared.h"

#include <algorithm>
#include <utility>

#include "fakeworker/functions.h"

namespace keelback::fakeworker {

// ---- one call

void SharedCall::ring(std::unique_lock<std::mutex> lock) {
  news_ = true;
  lock.unlock();
  rung_.notify_one();
}

void SharedCall::cancel() {
  std::unique_lock lock(mutex_);
  cancel_ = true;
  ring(std::move(lock));
}

void SharedCall::interrupt() {
  std::unique_lock lock(mutex_);
  interrupt_ = true;
  ring(std::move(lock));
}

void SharedCall::give(std::uint64_t credit) {
  std::unique_lock lock(mutex_);
  given_ += credit;
  ring(std::move(lock));
}

void SharedCall::tell(Heard outcome) {
  std::unique_lock lock(mutex_);
  heard_ = std::move(outcome);
  ring(std::move(lock));
}

bool SharedCall::told() {
  const std::lock_guard lock(mutex_);
  return cancel_ || interrupt_;
}

// An INTERRUPT cancels a task, and needs no cancel mark for it.
bool SharedCall::told_to_cancel() {
  const std::lock_guard lock(mutex_);
  return cancel_ || (interrupt_ && asked.function->async) ||
         place.marks.cancelled(asked.row, asked.call);
}

bool SharedCall::told_to_interrupt() {
  const std::lock_guard lock(mutex_);
  return interrupt_;
}

void SharedCall::rest_until(Clock::time_point end) {
  std::unique_lock lock(mutex_);
  rung_.wait_until(lock, end, [this] { return news_; });
  news_ = false;
}

std::uint64_t SharedCall::await_credit() {
  std::unique_lock lock(mutex_);
  rung_.wait(lock, [this] { return news_ || given_ > 0; });  // it may have come during a rest
  news_ = false;
  return std::exchange(given_, 0);
}

// It asks for one thing after another: an outcome that it does not wait for is an earlier one's.
std::optional<Heard> SharedCall::await_outcome(std::uint64_t request) {
  std::unique_lock lock(mutex_);
  rung_.wait(lock, [this] { return news_; });
  news_ = false;
  std::optional<Heard> heard = std::exchange(heard_, std::nullopt);
  return heard && heard->request == request ? heard : std::nullopt;
}

// ---- all of them

bool SharedCalls::add(const SharedPtr& call) {
  const std::lock_guard lock(mutex_);
  std::uint32_t same = 0;
  for (const auto& [id, other] : calls_) {
    if (other->asked.row == call->asked.row) return false;
    if (call->asked.session != nullptr && other->asked.session == call->asked.session) return false;
    same += other->asked.function == call->asked.function ? 1 : 0;
  }
  // A function without concurrency is shared while its application is reloaded.
  const std::uint32_t most = call->asked.function->concurrency;
  if (most > 1 && same >= most) return false;
  return calls_.try_emplace(call->asked.call, call).second;
}

void SharedCalls::remove(const SharedCall& call) {
  const std::lock_guard lock(mutex_);
  calls_.erase(call.asked.call);
}

bool SharedCalls::none() const {
  const std::lock_guard lock(mutex_);
  return calls_.empty();
}

bool SharedCalls::uses(const SessionPtr& session) const {
  const std::lock_guard lock(mutex_);
  return session != nullptr && std::ranges::any_of(calls_, [&](const auto& each) {
           return each.second->asked.session == session;
         });
}

SharedPtr SharedCalls::find(std::uint64_t call) const {
  const std::lock_guard lock(mutex_);
  const auto found = calls_.find(call);
  return found == calls_.end() ? nullptr : found->second;
}

void SharedCalls::cancel(std::uint64_t call) {
  if (const SharedPtr found = find(call)) found->cancel();
}

void SharedCalls::interrupt(std::uint64_t call) {
  if (const SharedPtr found = find(call)) found->interrupt();
}

void SharedCalls::give(std::uint64_t call, std::uint64_t credit) {
  if (const SharedPtr found = find(call)) found->give(credit);
}

void SharedCalls::tell(std::uint64_t call, Heard outcome) {
  if (const SharedPtr found = find(call)) found->tell(std::move(outcome));
}

}  // namespace keelback::fakeworker
