#include "keelback/pool.h"

#include <optional>
#include <thread>
#include <utility>

#include "api/driver_factory.h"
#include "api/pool_impl.h"
#include "os/handover.h"

namespace keelback {
namespace {

using namespace std::chrono_literals;

// A stream whose every taken item lets one more come. The call's id is known only after the driver
// took it, when items may have passed already: those are granted then.
class AutomaticGrant {
 public:
  void taken(host::Driver& driver) {
    {
      const std::lock_guard lock(mutex_);
      if (!call_) {
        ++owed_;
        return;
      }
    }
    driver.grant(call_, 1);
  }
  void known(host::Driver& driver, CallId call) {
    std::uint32_t owed = 0;
    {
      const std::lock_guard lock(mutex_);
      call_ = call;
      owed = std::exchange(owed_, 0);
    }
    if (owed > 0) driver.grant(call, owed);
  }

 private:
  std::mutex mutex_;
  CallId call_;  // written once
  std::uint32_t owed_ = 0;
};

}  // namespace

Pool::Pool(std::unique_ptr<PoolImpl> impl) : impl_(std::move(impl)) {}
Pool::~Pool() = default;
Pool::Pool(Pool&&) noexcept = default;
Pool& Pool::operator=(Pool&&) noexcept = default;

std::expected<Pool, Error> Pool::start(Config config) {
  const Config::Impl& asked = config.impl();
  auto impl = std::make_unique<PoolImpl>(asked.store);
  api::DriverOptions options;
  options.app = asked.app;
  options.expose = asked.expose;
  options.environment = asked.worker_environment;
  options.settings = impl->store.settings();
  auto driver = api::make_driver(options);
  if (!driver) return std::unexpected(Error{std::move(driver.error())});
  impl->driver = std::move(*driver);
  impl->host_desk = std::make_shared<api::HostDesk>(*impl->driver);
  return Pool(std::move(impl));
}

std::expected<void, Error> Pool::wait_ready(std::chrono::nanoseconds timeout) {
  // The core decides what ready means, and a pool may become not ready again. So this asks for it.
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (true) {
    const PoolStats stats = impl_->driver->info().stats;
    if (stats.ready) return {};
    if (std::chrono::steady_clock::now() >= until) {
      std::string text = "the pool is not ready";
      for (const std::string& reason : stats.reasons) text += "; " + reason;
      return std::unexpected(Error{std::move(text)});
    }
    std::this_thread::sleep_for(1ms);
  }
}

Result Pool::call(Call call) { return api::to_result(impl_->driver->call(std::move(call))); }

Result Pool::call(std::string function, std::string payload) {
  Call asked;
  asked.function = std::move(function);
  asked.payload = std::move(payload);
  return call(std::move(asked));
}

Submission Pool::submit(Call call) { return api::submit(*impl_->driver, std::move(call)); }

CallHandle Pool::submit(Call call, Done done) {
  return api::submit(*impl_->driver, std::move(call), std::move(done));
}

bool Pool::cancel(CallHandle call) { return impl_->driver->cancel(CallId{call.id}); }

std::optional<std::string> Pool::dump(CallHandle call) {
  return impl_->driver->dump(CallId{call.id});
}

Stream Pool::stream(Call call) { return api::open_stream(*impl_->driver, std::move(call)); }

CallHandle Pool::stream(Call call, OnItem item, Done done, Flow flow) {
  host::Driver& driver = *impl_->driver;
  // Shared by the item callback and this frame, whichever is last.
  std::shared_ptr<AutomaticGrant> grant;
  if (flow == Flow::kAutomatic) grant = std::make_shared<AutomaticGrant>();
  const CallId id = driver.stream(
      std::move(call),
      [item = std::move(item), grant, &driver](std::string&& text) mutable {
        item(std::move(text));
        if (grant) grant->taken(driver);
      },
      [done = std::move(done)](Outcome&& outcome) mutable {
        done(api::to_result(std::move(outcome)));
      });
  if (grant) grant->known(driver, id);
  return {id.value};
}

void Pool::grant(CallHandle call, std::uint32_t items) {
  impl_->driver->grant(CallId{call.id}, items);
}

Session Pool::session(std::string id) { return Session(*impl_, std::move(id)); }

SessionList Pool::sessions(std::string_view after, std::size_t limit) {
  return impl_->driver->sessions(after, limit);
}

ProviderHandle Pool::provide(std::string name, HostFunction function) {
  return {
      impl_->driver
          ->provide({std::move(name)}, api::make_provider(impl_->host_desk, std::move(function)))
          .value};
}

void Pool::withdraw(ProviderHandle provider) { impl_->driver->withdraw({provider.id}); }

PoolStats Pool::stats() { return impl_->driver->info().stats; }

std::vector<WorkerStatus> Pool::workers() {
  std::vector<WorkerStatus> out;
  for (host::WorkerInfo& info : impl_->driver->workers()) {
    out.push_back({.worker = info.worker,
                   .state = std::string(core::to_string(info.state)),
                   .pid = info.pid,
                   .calls = info.calls,
                   .sessions = info.sessions,
                   .rss_bytes = info.rss_bytes,
                   .age = info.age,
                   .function = std::move(info.function),
                   .sick = std::move(info.sick),
                   .log_dropped_lines = info.log_dropped_lines});
  }
  return out;
}

std::vector<FunctionInfo> Pool::functions() {
  const auto application = impl_->driver->application();
  return application ? application->functions : std::vector<FunctionInfo>();
}

std::vector<QuarantinedRequest> Pool::quarantine() { return impl_->driver->quarantine(); }

bool Pool::release(std::uint64_t fingerprint) { return impl_->driver->release(fingerprint); }

std::expected<void, Error> Pool::configure(std::string_view key, std::string_view value) {
  return configure({{std::string(key), std::string(value)}});
}

std::expected<void, Error> Pool::configure(const std::vector<KeyValue>& values) {
  const std::lock_guard lock(impl_->configuring);
  auto changed = api::patch(impl_->store, values);
  if (!changed) return changed;
  impl_->driver->configure(impl_->store.settings());
  return {};
}

std::expected<std::string, Error> Pool::setting(std::string_view key) {
  const std::lock_guard lock(impl_->configuring);
  return api::read_setting(impl_->store, key);
}

void Pool::drain(std::chrono::nanoseconds limit) {
  os::Handover<bool> drained;
  impl_->driver->drain(limit, [&drained] { drained.put(true); });
  drained.take();
}

std::expected<void, Error> Pool::reload() {
  os::Handover<std::string> answer;
  impl_->driver->reload([&answer](std::string error) { answer.put(std::move(error)); });
  std::string error = answer.take();
  if (!error.empty()) return std::unexpected(Error{std::move(error)});
  return {};
}

bool Pool::recycle(std::uint32_t slot) { return impl_->driver->recycle(slot); }

}  // namespace keelback
