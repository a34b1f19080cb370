#include "nodes/nested_calls.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "host/outcome_json.h"

namespace keelback::nodes {

void NestedCalls::asked(host::HostRequest request) {
  Call call;
  call.function = std::move(request.function);
  call.session = std::move(request.into);
  call.payload = std::move(request.arguments);
  call.parent = request.call.value;
  call.traceparent = std::move(request.traceparent);
  call.deadline =
      std::max<Duration>(request.deadline - driver_.now(), std::chrono::milliseconds(1));
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  open_[request.id] = driver_.submit(
      std::move(call),
      [this, id = request.id](Outcome&& outcome) mutable { ended(id, std::move(outcome)); });
}

void NestedCalls::ended(std::uint64_t request, Outcome&& outcome) {
  {
    const std::lock_guard lock(mutex_);
    open_.erase(request);
    if (closed_) return;
  }
  static_cast<void>(driver_.answer(request, host::reply_of(std::move(outcome))));
}

void NestedCalls::cancelled(std::uint64_t request) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(request);
  if (found != open_.end() && !closed_) static_cast<void>(driver_.cancel(found->second));
}

void NestedCalls::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace keelback::nodes
