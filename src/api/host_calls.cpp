#include "api/host_calls.h"

#include <utility>

namespace keelback {

struct HostCall::Impl {
  Impl(std::shared_ptr<api::HostDesk> at, std::uint64_t request)
      : desk(std::move(at)), id(request) {}

  const std::shared_ptr<api::HostDesk> desk;
  const std::uint64_t id;

  void cancel() {
    std::move_only_function<void()> told;
    {
      const std::lock_guard lock(mutex);
      cancelled = true;
      told = std::exchange(heard, nullptr);
    }
    if (told) told();
  }
  void on_cancel(std::move_only_function<void()> callback) {
    {
      const std::lock_guard lock(mutex);
      if (!cancelled) heard.swap(callback);  // an earlier one ends after the lock
      if (!cancelled) return;
    }
    if (callback) callback();
  }
  bool finish(host::HostReply reply) {
    desk->forget(id);
    on_cancel(nullptr);
    return desk->answer(id, std::move(reply));
  }

 private:
  std::mutex mutex;
  bool cancelled = false;
  std::move_only_function<void()> heard;
};

HostCall::HostCall(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HostCall::HostCall(HostCall&&) noexcept = default;

HostCall& HostCall::operator=(HostCall&& other) noexcept {
  HostCall old(std::move(*this));  // ends without an answer, if it had none
  name = std::move(other.name);
  arguments = std::move(other.arguments);
  call = other.call;
  session = std::move(other.session);
  deadline = other.deadline;
  traceparent = std::move(other.traceparent);
  impl_ = std::move(other.impl_);
  return *this;
}

HostCall::~HostCall() {
  if (impl_ != nullptr) impl_->finish({.ok = false, .dropped = true});
}

bool HostCall::answer(std::string json) {
  const auto impl = std::exchange(impl_, nullptr);
  return impl != nullptr && impl->finish({.result = std::move(json)});
}

bool HostCall::fail(std::string type, std::string message) {
  const auto impl = std::exchange(impl_, nullptr);
  return impl != nullptr &&
         impl->finish(
             {.ok = false, .error_type = std::move(type), .error_message = std::move(message)});
}

void HostCall::on_cancel(std::move_only_function<void()> heard) {
  if (impl_ != nullptr) impl_->on_cancel(std::move(heard));
}

namespace api {
namespace {

class FunctionProvider final : public host::Provider {
 public:
  FunctionProvider(std::shared_ptr<HostDesk> desk, HostFunction function)
      : desk_(std::move(desk)), function_(std::move(function)) {}

  void asked(host::HostRequest request) override {
    auto impl = std::make_shared<HostCall::Impl>(desk_, request.id);
    desk_->open(request.id, impl);
    HostCall call(std::move(impl));
    call.name = std::move(request.name);
    call.arguments = std::move(request.arguments);
    call.call = request.call.value;
    call.session = std::move(request.session);
    call.deadline = std::chrono::steady_clock::time_point(request.deadline.time_since_epoch());
    call.traceparent = std::move(request.traceparent);
    function_(std::move(call));
  }
  void cancelled(std::uint64_t request) override { desk_->cancelled(request); }

 private:
  const std::shared_ptr<HostDesk> desk_;
  HostFunction function_;
};

}  // namespace

std::shared_ptr<host::Provider> make_provider(std::shared_ptr<HostDesk> desk,
                                              HostFunction function) {
  return std::make_shared<FunctionProvider>(std::move(desk), std::move(function));
}

void HostDesk::close() {
  std::unique_lock lock(mutex_);
  driver_ = nullptr;
  left_.wait(lock, [this] { return users_ == 0; });
}

// Not under the lock: an answer may lead to a provider, and so back to here.
bool HostDesk::answer(std::uint64_t request, host::HostReply reply) {
  host::Driver* driver = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (driver_ == nullptr) return false;
    driver = driver_;
    ++users_;
  }
  const bool waited = driver->answer(request, std::move(reply));
  const std::lock_guard lock(mutex_);
  if (--users_ == 0) left_.notify_all();
  return waited;
}

void HostDesk::open(std::uint64_t request, std::shared_ptr<HostCall::Impl> call) {
  const std::lock_guard lock(mutex_);
  open_.emplace(request, std::move(call));
}

std::shared_ptr<HostCall::Impl> HostDesk::take(std::uint64_t request) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(request);
  if (found == open_.end()) return nullptr;
  std::shared_ptr<HostCall::Impl> call = std::move(found->second);
  open_.erase(found);
  return call;
}

void HostDesk::forget(std::uint64_t request) { take(request); }

void HostDesk::cancelled(std::uint64_t request) {
  if (const auto call = take(request)) call->cancel();
}

}  // namespace api
}  // namespace keelback
