// A scenario: what is promised of a pool under which load and which faults. Files are TOML
// (docs/chaos.md explains every key); this is what they mean. Everything that chance decides is
// decided later, by the plan.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/settings.h"
#include "base/time.h"
#include "chaos/machine.h"
#include "keelback/outcome.h"

namespace keelback::chaos {

enum class Level : std::uint8_t { kLight, kMedium, kHeavy };
std::string_view to_string(Level level);
std::optional<Level> level_from(std::string_view name);

// One kind of call in the load. `function` is a word of the laboratory (words.h) or, with `own`, a
// function of the application.
struct LoadCall {
  std::string function;
  std::string payload;  // JSON; empty: made by the laboratory
  double weight = 1;
  bool session = false;
  bool idempotent = false;
  bool own = false;
};

struct LoadSpec {
  double rate = 100;        // calls a second
  Duration ramp{0};         // from 0 to rate, before the baseline
  std::uint32_t steps = 0;  // of the ramp; 0: it is a slope
  Duration think{0};        // no session is asked again sooner
  std::uint32_t sessions = 32;
  double zipf = 0;
  double idempotent = 0.5;  // share of the stateless calls
  Duration deadline = std::chrono::seconds(2);
  Duration wait = std::chrono::milliseconds(20);  // of calls that run beside each other, about
  std::vector<LoadCall> calls;
};

struct Trigger {
  enum class Kind : std::uint8_t {
    kAt,     // a time after the start of the fault phase
    kCalls,  // when so many calls have ended in the fault phase
    kRung,   // when another fault has reached a rung of its ladder
  } kind = Kind::kAt;
  Duration at{0};
  std::uint64_t calls = 0;
  std::string fault;  // of kRung
  std::string rung;   // "bite", "detect", "respawn", "undo"
};

struct Target {
  enum class Kind : std::uint8_t {
    kAny,
    kBusy,
    kIdle,
    kAll,
    kCount,  // n=2
    kShare,  // pct=50
    kSlot,   // slot=1
    kSame,   // same(k): the slot that fault k hit
    kHome,   // home: where the busiest session lives
    kOldest,
  } kind = Kind::kAny;
  std::uint32_t n = 1;
  double share = 0;
  std::string fault;
};

struct FaultSpec {
  std::string id;
  std::string fault_class;
  Target target;
  Trigger trigger;
  std::uint32_t times = 1;
  Duration every{0};     // between repetitions
  Duration lasts{0};     // `for`
  bool placebo = false;  // everything but the effect: the run must come out INVALID
  std::map<std::string, std::string> parameters;
  std::optional<std::vector<OutcomeKind>> expected;  // instead of the class's
};

// What calls may cost while faults are about. A budget: any number is legitimate.
struct During {
  double ok = 0.5;
  std::optional<Duration> p99;
  std::optional<double> control_ok;  // of sessions whose worker no fault touched
};

// What holds afterwards. A promise: measured against the run's own baseline.
struct After {
  double margin = 0.005;  // ok >= baseline - margin
  double p99_factor = 3;  // p99 <= factor * baseline's, or 20 ms more where that is larger
  Duration within = std::chrono::seconds(5);  // all of it, from the last bite or undo on
  std::map<std::string, Duration> deadlines;  // by rung: detect, contain, respawn, capacity, …
};

// How much a scenario may break at once, whatever its faults ask for.
struct Blast {
  double share = 1;              // of the workers, at one time
  std::uint32_t concurrent = 8;  // faults in force at one time
  double memory = 0.25;          // of the machine's available memory that a fault may fill
};

struct Scenario {
  std::string name;
  std::string why;
  std::string incident;  // what it is modelled on; may be empty
  std::vector<std::string> tags;
  std::string source;  // where it was read: "library" or a path
  std::string text;    // the TOML with `extends` and the level applied: reads as the same scenario
  Settings settings;
  // So many daemons share a database, and the workers of the pool; 0: there is one pool.
  std::uint32_t nodes = 0;
  LoadSpec load;
  Duration baseline = std::chrono::seconds(2);
  double baseline_ok = 0.99;                 // a baseline below it is no baseline: INVALID
  Duration quiet = std::chrono::seconds(1);  // after the last fault, before recovery is judged
  Duration recovery = std::chrono::seconds(3);
  std::uint32_t verify = 20;  // calls after everything, one after another
  std::vector<FaultSpec> faults;
  During during;
  After after;
  std::uint64_t unexplained_max = 0;
  Blast blast;
  // Thresholds that are laxer than those of the scenario that this one extends, and why. They stand
  // in every report.
  std::vector<std::string> loosened;
  std::string reason;
  std::vector<OutcomeKind> never;   // outcomes that no call may have
  std::vector<std::string> checks;  // Invariant::id
  std::optional<double> stop_ok;    // abort when the share of ok of the last `stop_for` is below
  Duration stop_for = std::chrono::seconds(3);
  HostGuard host;
  std::vector<Backend> backends;  // where all its classes can be injected

  const FaultSpec* fault(std::string_view id) const;
};

struct Finding {
  bool error = true;  // else a warning
  std::string where;  // "fault.k.for"
  std::string text;
};
std::string describe(const Finding& finding);

struct ParsedScenario {
  std::optional<Scenario> scenario;  // only if no finding is an error
  std::vector<Finding> findings;
  bool ok() const { return scenario.has_value(); }
};

// `lookup` finds the text of a scenario that another one extends; null if there is none.
using Lookup = std::function<std::optional<std::string>(std::string_view name)>;

// What a run changes of a scenario; it becomes part of the scenario's text.
struct Overrides {
  std::vector<std::pair<std::string, std::string>> settings;  // key, value
  std::vector<LoadCall> calls;                                // added to the mix
  std::uint32_t nodes = 0;                                    // 0: as the scenario says
  bool placebo = false;  // every fault does everything but its effect
};

// Reads, applies `extends`, the level and the overrides, checks statically (see check_scenario).
[[nodiscard]] ParsedScenario parse_scenario(std::string_view toml, Level level,
                                            const Lookup& lookup, std::string_view source,
                                            const Overrides& overrides = {});

// What can be known to be wrong before anything runs: no assertion, no positive control,
// unreachable triggers, missing `for`, vacuous load, settings that contradict each other.
std::vector<Finding> check_scenario(const Scenario& scenario);

// What `scenario` promises less of than `base`: "during.ok: 0.7, now 0.5", one for each threshold.
std::vector<std::string> laxer(const Scenario& scenario, const Scenario& base);

// Those that come with the program, by name. The table is made at build time of scenarios/*.toml.
struct LibraryEntry {
  std::string_view name, text;
};
const std::vector<LibraryEntry>& library();
std::vector<std::string> library_names();
std::optional<std::string> library_text(std::string_view name);

// A parameter of a fault: what it is at the level of the run, unless the scenario says otherwise. 0
// if the fault has no such parameter.
std::uint64_t count_of(const FaultSpec& fault, std::string_view name);
double number_of(const FaultSpec& fault, std::string_view name);
Duration duration_of(const FaultSpec& fault, std::string_view name);
std::uint64_t bytes_of(const FaultSpec& fault, std::string_view name);

}  // namespace keelback::chaos
