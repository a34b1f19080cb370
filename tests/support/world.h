// One isolated pool for one test, on whichever backend, which leaves nothing behind. Waiting is
// always for an observed condition: on the simulator virtual time moves until it holds, elsewhere
// it is asked again and again, with a bound that KEELBACK_TIMEOUTS=extended stretches.
//
// The application is tests/apps/conformance.py; the fake worker and the simulator have it built in.
#pragma once

#include <spdlog/sinks/ringbuffer_sink.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/driver_factory.h"
#include "base/settings.h"
#include "host/driver.h"
#include "support/leaks.h"
#include "support/waiting.h"

namespace keelback::simdriver {
class SimDriver;
}

namespace keelback::test {

// A submitted call; its outcome comes from the driver's loop.
class Pending {
 public:
  CallId id() const { return id_; }
  bool done() const;
  // Of a stream; in order of arrival.
  std::vector<std::string> items() const;
  // Requires: done().
  Outcome outcome() const;

 private:
  friend class World;
  struct State {
    mutable std::mutex mutex;
    std::optional<Outcome> outcome;
    int outcomes = 0;
    std::vector<std::string> items;
  };
  CallId id_;
  std::shared_ptr<State> state_ = std::make_shared<State>();  // shared with the callbacks
};

class World {
 public:
  // Two workers of the standard test application unless `settings` say otherwise; not yet ready.
  explicit World(Backend backend, Settings settings = default_settings());
  // Fails the test if the pool leaves anything behind.
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  static Settings default_settings();

  // Until all workers are ready.
  void warm();
  // True as soon as `condition` holds; false if it does not within `limit`.
  bool until(const std::function<bool()>& condition, Duration limit = std::chrono::seconds(20));
  // Lets that much time pass.
  void pass(Duration duration);

  Outcome call(std::string function, std::string payload = "[]", std::string session = {});
  Outcome call(Call call);
  Pending submit(Call call);
  Pending stream(Call call);
  // Until the call is over; the outcome. Fails the test and answers not_ready if it does not end.
  Outcome wait(const Pending& call);
  // Until that many workers run `function`.
  bool running(std::string_view function, std::size_t workers = 1);

  void configure(const std::function<void(Settings&)>& change);
  PoolStats stats();
  std::uint64_t count(OutcomeKind kind);
  // accepted = in flight + outcomes, in one picture.
  bool adds_up();
  // A message of the log, or a notice on the simulator, that has this text in it. Only the last
  // ones are kept.
  std::optional<std::string> logged(std::string_view text);
  host::Driver& driver() { return *driver_; }
  Backend backend() const { return backend_; }

 private:
  Leaks leaks_;
  Backend backend_;
  Settings settings_;
  api::OwnedDriver driver_;
  simdriver::SimDriver* sim_ = nullptr;                     // driver_, if it is one
  std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> log_;  // shared with the logger
};

}  // namespace keelback::test
