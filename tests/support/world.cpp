#include "support/world.h"

#include <gtest/gtest.h>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <utility>

#include "api/driver_factory.h"
#include "base/check.h"
#include "simdriver/sim_driver.h"

namespace keelback::test {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMessagesKept = 256;

std::string application(Backend backend) {
  return backend == Backend::kFake ? "standard" : KEELBACK_SOURCE_DIR "/tests/apps/conformance.py";
}

}  // namespace

bool Pending::done() const {
  const std::lock_guard lock(state_->mutex);
  return state_->outcome.has_value();
}

std::vector<std::string> Pending::items() const {
  const std::lock_guard lock(state_->mutex);
  return state_->items;
}

Outcome Pending::outcome() const {
  const std::lock_guard lock(state_->mutex);
  CHECK(state_->outcome.has_value());
  EXPECT_EQ(state_->outcomes, 1) << "a call ends once";
  return *state_->outcome;
}

Settings World::default_settings() {
  Settings settings;
  settings.calls.deadline = 20s;
  settings.calls.grace = 1s;
  return settings;
}

World::World(Backend backend, Settings settings)
    : backend_(backend), settings_(std::move(settings)) {
  set_unexpected_fatal(true);
  settings_.pool.backend = backend;
  if (backend == Backend::kSim) {
    sim::Simulation::Options options;
    options.settings = settings_;
    options.check_invariants = true;
    auto loop = std::make_unique<host::EventLoop>();
    auto driver = std::make_unique<simdriver::SimDriver>(*loop, std::move(options),
                                                         simdriver::SimDriver::Pace::kManual);
    sim_ = driver.get();
    driver_ = api::OwnedDriver(std::move(loop), std::move(driver));
    return;
  }
  api::DriverOptions options;
  options.app = application(backend);
  options.settings = settings_;
  // Workers that die on purpose have much to say; KEELBACK_TEST_LOG=1 lets it be read.
  log_ = std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(kMessagesKept);
  options.logger = std::make_shared<spdlog::logger>("world", log_);
  if (std::getenv("KEELBACK_TEST_LOG") != nullptr) {
    options.logger->sinks().push_back(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  }
  auto driver = api::make_driver(options);
  if (!driver) ADD_FAILURE() << driver.error();
  CHECK(driver.has_value());
  driver_ = std::move(*driver);
}

World::~World() {
  driver_.reset();
  leaks_.expect_none();
}

void World::warm() {
  ASSERT_TRUE(until([this] { return stats().workers.ready >= settings_.pool.workers; }))
      << "the workers are not ready";
}

bool World::until(const std::function<bool()>& condition, Duration limit) {
  if (sim_ != nullptr) return sim_->advance_until(condition, limit);
  return eventually(condition, limit);
}

void World::pass(Duration duration) {
  if (sim_ != nullptr) {
    sim_->advance(duration);
    return;
  }
  const auto end = std::chrono::steady_clock::now() + duration;
  until([end] { return std::chrono::steady_clock::now() >= end; }, duration + 1s);
}

Outcome World::call(std::string function, std::string payload, std::string session) {
  Call asked;
  asked.function = std::move(function);
  asked.payload = std::move(payload);
  asked.session = std::move(session);
  return call(std::move(asked));
}

Outcome World::call(Call call) { return driver_->call(std::move(call)); }

Pending World::submit(Call call) {
  Pending pending;
  pending.id_ = driver_->submit(std::move(call), [state = pending.state_](Outcome&& outcome) {
    const std::lock_guard lock(state->mutex);
    state->outcome = std::move(outcome);
    ++state->outcomes;
  });
  return pending;
}

Pending World::stream(Call call) {
  Pending pending;
  pending.id_ = driver_->stream(
      std::move(call),
      [state = pending.state_](std::string&& item) {
        const std::lock_guard lock(state->mutex);
        state->items.push_back(std::move(item));
      },
      [state = pending.state_](Outcome&& outcome) {
        const std::lock_guard lock(state->mutex);
        state->outcome = std::move(outcome);
        ++state->outcomes;
      });
  return pending;
}

Outcome World::wait(const Pending& call) {
  if (until([&] { return call.done(); }, 60s)) return call.outcome();
  ADD_FAILURE() << "call " << call.id().value << " does not end";
  Outcome missing;
  missing.kind = OutcomeKind::kNotReady;
  return missing;
}

bool World::running(std::string_view function, std::size_t workers) {
  return until([&] {
    std::size_t busy = 0;
    for (const host::WorkerInfo& info : driver_->workers()) busy += info.function == function;
    return busy == workers;
  });
}

void World::configure(const std::function<void(Settings&)>& change) {
  change(settings_);
  driver_->configure(settings_);
}

PoolStats World::stats() { return driver_->info().stats; }

std::uint64_t World::count(OutcomeKind kind) { return stats().outcomes[static_cast<int>(kind)]; }

std::optional<std::string> World::logged(std::string_view text) {
  std::vector<std::string> messages;
  if (log_) messages = log_->last_formatted();
  if (sim_ != nullptr) {
    for (core::Notice& notice : sim_->notices()) messages.push_back(std::move(notice.text));
  }
  for (std::string& message : messages) {
    if (message.find(text) != std::string::npos) return std::move(message);
  }
  return std::nullopt;
}

bool World::adds_up() {
  const PoolStats now = stats();
  std::uint64_t outcomes = 0;
  for (const std::uint64_t n : now.outcomes) outcomes += n;
  return now.accepted == now.in_flight + outcomes;
}

}  // namespace keelback::test
