// From the driver's outcomes to the public API's results, and the pulled stream.
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "api/pool_impl.h"
#include "os/handover.h"

namespace keelback {

std::string Failure::describe() const {
  std::string text(to_string(kind));
  text += " (effect " + std::string(to_string(effect)) + ")";
  if (!message.empty()) text += ": " + message;
  if (python) text += " [" + python->type + ": " + python->message + "]";
  if (death && !death->detail.empty() && message.find(death->detail) == std::string::npos) {
    text += " [" + death->detail + "]";
  }
  return text;
}

namespace api {

Result to_result(Outcome&& outcome) {
  if (!outcome.ok()) {
    Failure failure;
    static_cast<Outcome&>(failure) = std::move(outcome);
    return std::unexpected(std::move(failure));
  }
  Reply reply;
  reply.payload = std::move(outcome.payload);
  reply.attachments = std::move(outcome.attachments);
  reply.worker = outcome.worker;
  reply.birth = outcome.birth;
  reply.epoch = outcome.epoch;
  reply.attempts = outcome.attempts;
  reply.queued = outcome.queued;
  reply.ran = outcome.ran;
  return reply;
}

Submission submit(host::Driver& driver, Call call) {
  std::promise<Result> promise;
  Submission out;
  out.result = promise.get_future();
  out.handle.id = driver
                      .submit(std::move(call),
                              [promise = std::move(promise)](Outcome&& outcome) mutable {
                                promise.set_value(to_result(std::move(outcome)));
                              })
                      .value;
  return out;
}

CallHandle submit(host::Driver& driver, Call call, std::move_only_function<void(Result)> done) {
  return {driver
              .submit(std::move(call),
                      [done = std::move(done)](Outcome&& outcome) mutable {
                        done(to_result(std::move(outcome)));
                      })
              .value};
}

}  // namespace api

struct Stream::Impl {
  host::Driver* driver = nullptr;  // borrowed; used by the reader's calls only
  CallId call;
  std::mutex mutex;
  std::condition_variable moved;
  std::deque<std::string> items;  // at most the stream's credit
  std::optional<Result> end;
};

Stream::Stream(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stream::Stream(Stream&&) noexcept = default;

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this != &other) {
    if (impl_) cancel();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Stream::~Stream() {
  if (impl_) cancel();
}

std::optional<std::string> Stream::next() {
  std::string item;
  {
    std::unique_lock lock(impl_->mutex);
    impl_->moved.wait(lock, [this] { return !impl_->items.empty() || impl_->end; });
    if (impl_->items.empty()) return std::nullopt;
    item = std::move(impl_->items.front());
    impl_->items.pop_front();
    if (impl_->end) return item;
  }
  impl_->driver->grant(impl_->call, 1);
  return item;
}

const Result& Stream::result() {
  while (next()) {
  }
  return *impl_->end;
}

void Stream::cancel() {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->end) return;
  }
  impl_->driver->cancel(impl_->call);
}

namespace api {

Stream open_stream(host::Driver& driver, Call call) {
  auto impl = std::make_shared<Stream::Impl>();
  impl->driver = &driver;
  impl->call = driver.stream(
      std::move(call),
      [impl](std::string&& item) {
        const std::lock_guard lock(impl->mutex);
        impl->items.push_back(std::move(item));
        impl->moved.notify_all();
      },
      [impl](Outcome&& outcome) {
        const std::lock_guard lock(impl->mutex);
        impl->end = to_result(std::move(outcome));
        impl->moved.notify_all();
      });
  return Stream(std::move(impl));
}

}  // namespace api

// ---- sessions

Session::Session(PoolImpl& pool, std::string id) : pool_(&pool), id_(std::move(id)) {}

Session& Session::affinity(Affinity mode) {
  affinity_ = mode;
  return *this;
}

Session& Session::expect(Fence fence) {
  fence_ = fence;
  return *this;
}

Call Session::mine(Call call) const {
  call.session = id_;
  if (!call.affinity) call.affinity = affinity_;
  if (!call.expect_epoch) call.expect_epoch = fence_;
  return call;
}

Result Session::call(Call call) {
  return api::to_result(pool_->driver->call(mine(std::move(call))));
}

Result Session::call(std::string function, std::string payload) {
  Call asked;
  asked.function = std::move(function);
  asked.payload = std::move(payload);
  return call(std::move(asked));
}

Submission Session::submit(Call call) { return api::submit(*pool_->driver, mine(std::move(call))); }

CallHandle Session::submit(Call call, std::move_only_function<void(Result)> done) {
  return api::submit(*pool_->driver, mine(std::move(call)), std::move(done));
}

Stream Session::stream(Call call) {
  return api::open_stream(*pool_->driver, mine(std::move(call)));
}

bool Session::end() {
  os::Handover<Outcome> over;
  pool_->driver->end_session(id_, [&](Outcome&& outcome) { over.put(std::move(outcome)); });
  return over.take().ok();
}

}  // namespace keelback
