#include "support/scripted_driver.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <future>
#include <memory>
#include <utility>

#include "base/reasons.h"
#include "os/clock.h"

namespace keelback::testing {

ScriptedDriver::ScriptedDriver() : work_(loop_.get_executor()), thread_([this] { loop_.run(); }) {
  world_.pool.stats.ready = true;
  world_.pool.start = {.mode = "scripted", .state = "up"};
}

ScriptedDriver::~ScriptedDriver() {
  {
    const std::lock_guard lock(mutex_);
    while (!running_.empty()) {
      end(running_.begin()->first, {.kind = OutcomeKind::kCancelled, .effect = Effect::kMaybe});
    }
  }
  on_loop([] {});
  work_.reset();
  loop_.stop();
  thread_.join();
}

void ScriptedDriver::on(std::string function, Script script) {
  const std::lock_guard lock(mutex_);
  scripts_.insert_or_assign(std::move(function), std::move(script));
}

void ScriptedDriver::finish(CallId call, Outcome outcome) {
  const std::lock_guard lock(mutex_);
  if (running_.contains(call.value)) end(call.value, std::move(outcome));
}

bool ScriptedDriver::wait(const std::function<bool(const std::vector<Seen>&)>& predicate,
                          std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [&] { return predicate(seen_); });
}

std::vector<ScriptedDriver::Seen> ScriptedDriver::seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

void ScriptedDriver::on_loop(const std::function<void()>& work) {
  std::promise<void> ran;
  boost::asio::post(loop_, [&] {
    work();
    ran.set_value();
  });
  ran.get_future().wait();
}

void ScriptedDriver::edit(const std::function<void(World&)>& change) {
  const std::lock_guard lock(mutex_);
  change(world_);
}

ScriptedDriver::World ScriptedDriver::world() const {
  const std::lock_guard lock(mutex_);
  return world_;
}

Outcome ScriptedDriver::call(Call call) {
  std::promise<Outcome> outcome;
  submit(std::move(call), [&](Outcome&& got) { outcome.set_value(std::move(got)); });
  return outcome.get_future().get();
}

CallId ScriptedDriver::submit(Call call, host::OnOutcome done) {
  return begin(std::move(call), nullptr, std::move(done));
}

CallId ScriptedDriver::stream(Call call, host::OnItem item, host::OnOutcome done) {
  return begin(std::move(call), std::move(item), std::move(done));
}

CallId ScriptedDriver::take_hop(std::string_view sender, Call call, host::OnItem item,
                                host::OnOutcome done) {
  return begin(std::move(call), std::move(item), std::move(done), std::string(sender));
}

CallId ScriptedDriver::begin(Call call, host::OnItem item, host::OnOutcome done,
                             std::string sender) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t id = seen_.size() + 1;
  Running running{.item = std::move(item), .done = std::move(done), .script = {}};
  const auto script = scripts_.find(call.function);
  if (script == scripts_.end()) {
    running.script.outcome = {.kind = OutcomeKind::kUnknownFunction,
                              .message = "there is no function " + call.function};
  } else {
    running.script = script->second;
    Outcome& outcome = running.script.outcome;
    if (outcome.ok() && outcome.payload.empty() && running.script.items.empty()) {
      outcome.payload = call.payload;
    }
  }
  ++world_.pool.stats.accepted;
  ++world_.pool.stats.in_flight;
  seen_.push_back({.id = CallId{id},
                   .call = std::move(call),
                   .stream = running.item != nullptr,
                   .sender = std::move(sender)});
  running_.emplace(id, std::move(running));
  changed_.notify_all();
  advance(id);
  return CallId{id};
}

void ScriptedDriver::advance(std::uint64_t id) {
  Running& running = running_.at(id);
  if (running.item) {
    auto& items = running.script.items;
    while (running.credit > 0 && running.next_item < items.size()) {
      --running.credit;
      ++seen_[id - 1].emitted;
      // The callback stays with the call, which ends only after its items: on one loop, in order.
      boost::asio::post(loop_, [this, id, item = items[running.next_item++]]() mutable {
        host::OnItem callback;
        {
          const std::lock_guard lock(mutex_);
          if (const auto found = running_.find(id); found != running_.end()) {
            callback = std::move(found->second.item);
          }
        }
        if (!callback) return;
        callback(std::move(item));
        const std::lock_guard again(mutex_);
        if (const auto found = running_.find(id); found != running_.end()) {
          found->second.item = std::move(callback);
        }
      });
    }
    changed_.notify_all();
    if (running.next_item < items.size()) return;
  }
  if (running.script.hold) return;
  // After the items that are on their way.
  boost::asio::post(loop_, [this, id] {
    const std::lock_guard lock(mutex_);
    const auto found = running_.find(id);
    if (found != running_.end()) end(id, std::move(found->second.script.outcome));
  });
}

void ScriptedDriver::end(std::uint64_t id, Outcome outcome) {
  const auto found = running_.find(id);
  ++world_.pool.stats.outcomes[static_cast<int>(outcome.kind)];
  --world_.pool.stats.in_flight;
  boost::asio::post(loop_, [done = std::move(found->second.done),
                            outcome = std::move(outcome)]() mutable { done(std::move(outcome)); });
  running_.erase(found);
  seen_[id - 1].done = true;
  changed_.notify_all();
}

void ScriptedDriver::grant(CallId call, std::uint32_t items) {
  const std::lock_guard lock(mutex_);
  if (call.value == 0 || call.value > seen_.size()) return;
  seen_[call.value - 1].granted += items;
  changed_.notify_all();
  const auto found = running_.find(call.value);
  if (found == running_.end() || found->second.next_item >= found->second.script.items.size()) {
    return;
  }
  found->second.credit += items;
  // The item callback may be out on the loop right now: take turns with it.
  boost::asio::post(loop_, [this, id = call.value] {
    const std::lock_guard again(mutex_);
    if (running_.contains(id)) advance(id);
  });
}

std::optional<std::string> ScriptedDriver::dump(CallId call) {
  const std::lock_guard lock(mutex_);
  const auto found = world_.dumps.find(call.value);
  return found == world_.dumps.end() ? std::nullopt : std::optional(found->second);
}

bool ScriptedDriver::cancel(CallId call) {
  const std::lock_guard lock(mutex_);
  const auto found = running_.find(call.value);
  if (found == running_.end()) return false;
  seen_[call.value - 1].cancelled = true;
  changed_.notify_all();
  if (found->second.script.obeys_cancel) {
    end(call.value, {.kind = OutcomeKind::kCancelled,
                     .effect = Effect::kMaybe,
                     .message = "the call was cancelled",
                     .attempts = 1});
  }
  return true;
}

host::PoolInfo ScriptedDriver::info() { return world().pool; }
std::vector<host::WorkerInfo> ScriptedDriver::workers() { return world().workers; }
std::shared_ptr<const Application> ScriptedDriver::application() { return world().application; }
std::vector<QuarantinedRequest> ScriptedDriver::quarantine() { return world().quarantine; }
Time ScriptedDriver::now() const { return os::monotonic_now(); }
void ScriptedDriver::configure(const Settings&) {}

SessionList ScriptedDriver::sessions(std::string_view after, std::size_t limit) {
  const std::lock_guard lock(mutex_);
  SessionList page;
  page.total = world_.sessions.size();
  for (const SessionStatus& session : world_.sessions) {
    if (session.id <= after) continue;
    if (page.items.size() == limit) {
      page.next = page.items.back().id;
      break;
    }
    page.items.push_back(session);
  }
  return page;
}

bool ScriptedDriver::apply(const core::Event& event) {
  const std::lock_guard lock(mutex_);
  if (const auto* ended = std::get_if<core::SessionEnded>(&event)) {
    const auto removed =
        std::erase_if(world_.sessions, [&](const auto& view) { return view.id == ended->session; });
    if (removed > 0) world_.ended_sessions.emplace_back(ended->session);
    return removed > 0;
  }
  if (const auto* released = std::get_if<core::QuarantineReleased>(&event)) {
    const auto removed = std::erase_if(world_.quarantine, [&](const auto& entry) {
      return entry.fingerprint == released->fingerprint;
    });
    return removed > 0;
  }
  const auto* recycled = std::get_if<core::RecycleRequested>(&event);
  if (recycled == nullptr) return true;
  const bool there = std::ranges::any_of(
      world_.workers, [&](const auto& info) { return info.worker.slot == recycled->slot; });
  if (there) world_.recycled.push_back(recycled->slot);
  return there;
}

void ScriptedDriver::take_hop_end(std::string_view, std::string session, host::OnOutcome done) {
  if (world().owns_sessions) return end_session(std::move(session), std::move(done));
  Outcome outcome;
  outcome.kind = OutcomeKind::kNotReady;
  outcome.effect = Effect::kNone;
  outcome.reason = kNotOwner;
  done(std::move(outcome));
}

void ScriptedDriver::reload(std::move_only_function<void(std::string error)> done) {
  boost::asio::post(loop_,
                    [this, done = std::move(done)]() mutable { done(world().reload_error); });
}

void ScriptedDriver::drain(Duration, std::move_only_function<void()> done) {
  {
    const std::lock_guard lock(mutex_);
    ++world_.drains;
    world_.pool.stats.draining = true;
    world_.pool.stats.ready = false;
    world_.pool.stats.reasons = {"draining"};
  }
  boost::asio::post(loop_, std::move(done));
}

host::ProviderId ScriptedDriver::provide(std::vector<std::string> names,
                                         std::shared_ptr<host::Provider> provider) {
  const std::lock_guard lock(mutex_);
  const host::ProviderId id = providers_.add(names, std::move(provider));
  changed_.notify_all();
  return id;
}

void ScriptedDriver::withdraw(host::ProviderId provider) {
  std::shared_ptr<host::Provider> removed;  // ends after the lock
  const std::lock_guard lock(mutex_);
  std::vector<host::Providers::Asker> askers;
  removed = providers_.remove(provider, askers);
  for (const auto& asker : askers) {
    replies_[asks_.at(asker.request)] = {.ok = false, .error_message = "host_gone"};
  }
  changed_.notify_all();
}

bool ScriptedDriver::answer(std::uint64_t request, host::HostReply reply) {
  const std::lock_guard lock(mutex_);
  if (!providers_.take(request)) return false;
  replies_[request] = std::move(reply);
  changed_.notify_all();
  return true;
}

std::uint64_t ScriptedDriver::ask(host::HostRequest request) {
  std::optional<host::ProviderNews> news;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t number = asks_.size() + 1;
    auto asked = providers_.ask({WorkerId{0, 1}, CallId{1}, number}, std::move(request));
    if (!asked) return 0;
    news = std::move(*asked);
    asks_[number] = news->id();
  }
  news->tell();
  return news->id();
}

void ScriptedDriver::cancel_ask(std::uint64_t request) {
  std::optional<host::ProviderNews> news;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, id] : asks_) {
      if (id == request) news = providers_.cancel({WorkerId{0, 1}, CallId{1}, number});
    }
  }
  if (news) news->tell();
}

bool ScriptedDriver::wait_provided(const std::string& name, bool provided) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10),
                           [&] { return providers_.provides(name) == provided; });
}

std::optional<host::HostReply> ScriptedDriver::reply(std::uint64_t request) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::seconds(10), [&] { return replies_.contains(request); });
  const auto found = replies_.find(request);
  return found == replies_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace keelback::testing
