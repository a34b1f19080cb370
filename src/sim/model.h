// What a simulated application does: how long things take, how often they go wrong, and the
// functions that every test application of ours has, whatever runs it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/application.h"
#include "base/prng.h"
#include "base/time.h"
#include "core/action.h"
#include "core/event.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::sim {

// A distribution in integers only, so that a seed means the same on every machine: uniform in
// [low, high], and with `tail_chance` uniform in [high, tail] instead.
struct Spread {
  Duration low{0};
  Duration high{0};
  double tail_chance = 0;
  Duration tail{0};
  Duration sample(Prng& prng) const;
};

// All chances are per occasion, in [0, 1].
struct ModelSettings {
  // From StartWorker to ready.
  Spread start{std::chrono::milliseconds(2), std::chrono::milliseconds(6)};
  // A call of a function without a duration of its own; one item.
  Spread service{std::chrono::microseconds(10), std::chrono::microseconds(30)};
  Duration overhead = std::chrono::microseconds(4);  // from the dispatch to the "started" mark
  // From the cancel flag to the end of a call that heeds it.
  Duration cancel_delay = std::chrono::microseconds(200);
  // From the interrupt to the end of a call that heeds it.
  Duration interrupt_delay = std::chrono::microseconds(300);
  Duration kill_delay = std::chrono::milliseconds(1);  // from SIGKILL to the exit
  Duration stop_delay = std::chrono::milliseconds(2);  // from StopWorker to the exit
  double start_failure = 0;                            // a start ends as start_failed
  double die_before_start = 0;  // a dispatched call meets a worker that dies before the mark
  double die_running = 0;       // … that dies while the function runs
  double die_after_end = 0;     // … that dies with the result computed and not sent
  double unclean = 0;           // a call leaves threads or tasks behind
  // The store writes or reads one snapshot, one after another.
  Spread store{std::chrono::microseconds(50), std::chrono::microseconds(150)};
  double store_failure = 0;  // … and fails: nothing of the session is in it then
  double unkillable = 0;     // SIGKILL takes unkillable_for (a process in D state)
  Duration unkillable_for = std::chrono::minutes(10);
  // Functions beyond the standard ones: each answers its first argument, or null.
  std::vector<std::string> exposed;
  // Functions with another concurrency than is theirs by default.
  std::map<std::string, std::uint32_t> concurrency;
};

// What a worker holds of one session.
struct SessionState {
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t counter = 0;
  bool spoilt = false;  // it cannot be saved
};

// What a worker will do with one call, decided when it is given the call.
struct Script {
  enum class Ending : std::uint8_t { kReturn, kRaise, kBadRequest, kUnknownFunction, kDie };
  Ending ending = Ending::kReturn;
  Duration busy{0};  // until the ending, or until the next item of a stream
  bool heeds_cancel = false;
  bool heeds_interrupt = true;
  bool on_loop = false;       // it is a task of the event loop, else it has a thread to itself
  bool blocks_loop = false;   // … and lets no other task go on
  bool wrong_length = false;  // all calls of its batch end as this one
  std::uint64_t items = 0;    // still to be sent before the ending
  std::uint64_t next_item = 0;
  std::string result;          // of kReturn
  Attachments attachments;     // likewise
  PythonError error;           // of kRaise, kBadRequest, kUnknownFunction
  std::optional<Call> nested;  // it makes this call first, and ends as that one ends
  Death death;                 // of kDie
  bool known = false;          // of kDie: the dying thread tells that it is this call's
};

class Application {
 public:
  explicit Application(std::vector<std::string> exposed,
                       const std::map<std::string, std::uint32_t>& concurrency = {});

  const std::vector<core::FunctionSpec>& functions() const { return functions_; }
  // 1 of a function that it does not have.
  std::uint32_t concurrency(std::string_view function) const;
  // From the next announcement on.
  void set_concurrency(const std::map<std::string, std::uint32_t>& concurrency);
  // What a worker's HELLO would say.
  keelback::Application describe() const;
  // Decides the call. `session` (null: stateless) is the worker's own state and may change.
  // `service` is what a function without a duration of its own takes; `result_max` in bytes.
  struct Circumstances {
    SessionState* session = nullptr;
    std::int64_t pid = 0;
    bool stream = false;  // the caller takes a stream
    Duration service{0};
    std::uint64_t result_max = 0;
  };
  Script script(const Call& call, const Circumstances& around) const;

 private:
  std::vector<core::FunctionSpec> functions_;
  std::vector<std::string> exposed_;
};

}  // namespace keelback::sim
