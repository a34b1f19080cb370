// Invariants about the application itself, by what the trial before the run has learnt, and what
// its author is told.
#include <fmt/format.h>

#include "base/settings_text.h"
#include "chaos/checkers.h"

namespace keelback::chaos {
namespace {

constexpr double kBytesMax = 128 << 10;  // a call; less is not told from a cache that fills
constexpr double kPiecesMax = 0.5;       // descriptors or threads a call
constexpr Duration kSlowFirst = std::chrono::milliseconds(100);  // callers do not notice less
constexpr int kTimesUsual = 5;
constexpr const char* kNoApp = "no function of an application was tried";

std::string size(double bytes) {
  return bytes >= 1 << 20 ? fmt::format("{:.1f} MiB", bytes / (1 << 20))
                          : fmt::format("{:.0f} KiB", bytes / 1024);
}

bool grows(const AppFunction& function) {
  return function.bytes_per_call > kBytesMax || function.descriptors_per_call > kPiecesMax ||
         function.threads_per_call > kPiecesMax;
}

std::string growth(const AppFunction& function) {
  std::string out;
  const auto add = [&](const std::string& text) { out += (out.empty() ? "" : " and ") + text; };
  if (function.bytes_per_call > kBytesMax) add(size(function.bytes_per_call) + " of memory");
  if (function.descriptors_per_call > kPiecesMax) {
    add(fmt::format("{:.0f} open file(s)", function.descriptors_per_call));
  }
  if (function.threads_per_call > kPiecesMax) {
    add(fmt::format("{:.0f} thread(s)", function.threads_per_call));
  }
  return out;
}

std::string seconds_text(double value) { return fmt::format("{:.1f} s", value); }

// The later calls wait for nothing like it: something is made in the first.
bool begins_slowly(const AppFunction& function) {
  return function.called && function.first_calls > 0 && function.first >= kSlowFirst &&
         function.first >= kTimesUsual * function.usual;
}

// A worker that was interrupted serves on, and whoever needs the lock waits in it.
bool holds_on(const AppFunction& function, const Settings& settings) {
  return !function.held.empty() && settings.calls.after_interrupt == AfterInterrupt::kKeep;
}

std::string about_lock(const AppFunction& function, const Settings& settings) {
  std::string out = fmt::format(
      "`{}` leaves {} held when it is interrupted: the interrupt came between taking the lock and "
      "giving it back. ",
      function.name, function.held);
  out += settings.calls.after_interrupt == AfterInterrupt::kKeep
             ? "calls.after_interrupt is keep, so the worker serves on, and every later call there "
               "that needs the lock waits until its deadline. "
             : "Its worker is replaced after an interrupt, so no stateless call meets the lock; "
               "calls of sessions that still live there do. ";
  return out +
         "Take the lock with `with`, for as short a time as possible and never around slow work, "
         "or leave calls.after_interrupt at replace.";
}

std::string about_stopping(const AppFunction& function, const Scenario& scenario) {
  std::string out = fmt::format(
      "`{}` cannot be stopped. When its deadline passed, neither cancelling nor KeyboardInterrupt "
      "ended it within calls.grace ({}), so its worker was killed, and every session on that "
      "worker "
      "was lost with it.",
      function.name, format_duration(scenario.settings.calls.grace));
  if (!function.stops_witness.empty()) out += " It was at " + function.stops_witness + ".";
  if (!function.source_witness.empty()) {
    out +=
        " " + function.source_witness +
        " catches everything and goes on. Catch what you can handle (`except Exception`), and let "
        "KeyboardInterrupt and asyncio.CancelledError pass.";
  } else {
    out +=
        " If that is a call into C code that holds the interpreter, give it a time limit of its "
        "own.";
  }
  return out;
}

}  // namespace

const Invariant kIsolation = {
    .name = "separate-sessions",
    .alias = "I27",
    .sentence = "sessions of the application do not see each other's state",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const AppFunction& function : input.history.functions) {
        if (function.isolation == "holds") tally.saw();
        if (function.isolation != "shared" && function.isolation != "outlives") continue;
        tally.saw();
        tally.broken(fmt::format("{}: {}", function.name, function.isolation_witness));
      }
      return tally.done(input.history.functions.empty() ? kNoApp : "no function could be compared");
    }};

const Invariant kStopping = {
    .name = "functions-end",
    .alias = "I28",
    .sentence = "the application's functions end when their time is over",
    .verdict = Verdict::kLiveness,
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const AppFunction& function : input.history.functions) {
        if (function.stops == "stops") tally.saw();
        if (holds_on(function, input.scenario.settings)) {
          tally.broken(fmt::format("{} ended at an interrupt and left {} held", function.name,
                                   function.held));
        }
        if (function.stops != "killed") continue;
        tally.saw();
        tally.broken(fmt::format("{} ran on after its deadline, and its worker had to be killed",
                                 function.name));
      }
      return tally.done(input.history.functions.empty() ? kNoApp
                                                        : "no function ran until its deadline");
    }};

const Invariant kGrowth = {
    .name = "nothing-kept",
    .alias = "I29",
    .sentence = "the application's functions keep nothing from call to call",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const AppFunction& function : input.history.functions) {
        if (function.growth_calls == 0) continue;
        tally.saw();
        if (grows(function)) {
          tally.broken(fmt::format("{} keeps {} a call", function.name, growth(function)));
        }
      }
      return tally.done(input.history.functions.empty() ? kNoApp : "no function could be measured");
    }};

const Invariant kStart = {
    .name = "quick-import",
    .alias = "I30",
    .sentence = "the application's import takes no longer than after.within",
    .verdict = Verdict::kLiveness,
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const RunFacts& facts = input.history.facts;
      if (input.plan.app.empty() || facts.import_s <= 0) return tally.not_applicable(kNoApp);
      tally.saw();
      const double promised = std::chrono::duration<double>(input.scenario.after.within).count();
      if (facts.import_s > promised) {
        tally.broken(fmt::format("the application's import takes {}; after.within promises {}",
                                 seconds_text(facts.import_s), seconds_text(promised)));
      }
      return tally.done("");
    }};

namespace {

void advise_on(const AppFunction& function, const Scenario& scenario,
               std::vector<std::string>& out) {
  if (function.isolation == "shared") {
    out.push_back(fmt::format(
        "`{}` lets sessions see each other's state: {}. It keeps state in the process (a global, "
        "a "
        "class attribute, a module's cache), which all sessions of a worker share and which is "
        "gone when the worker is. Keep it in keelback.session().state: that belongs to one "
        "session.",
        function.name, function.isolation_witness));
  }
  if (function.isolation == "outlives") {
    out.push_back(
        fmt::format("`{}` remembers sessions that have ended: {}. What is kept in a global under "
                    "the session's "
                    "id is never given back, and comes back to whoever opens a session of that "
                    "name next. Keep "
                    "it in keelback.session().state, or remove it in @keelback.on_session_end.",
                    function.name, function.isolation_witness));
  }
  if (!function.held.empty()) out.push_back(about_lock(function, scenario.settings));
  if (begins_slowly(function)) {
    out.push_back(fmt::format(
        "The first call of `{}` in a new worker takes {:.0f} ms; later ones take {:.1f} ms. So "
        "each "
        "worker that is started, or replaces a dead one, makes its first caller wait. Load in "
        "@keelback.setup what all workers can share, or in @keelback.worker_setup what each "
        "needs "
        "of its own: both run before a worker takes calls.",
        function.name, milliseconds(function.first), milliseconds(function.usual)));
  }
  if (function.stops == "killed") out.push_back(about_stopping(function, scenario));
  if (grows(function)) {
    out.push_back(
        fmt::format("`{}` keeps {} a call: measured over {} calls of it alone, in one worker. "
                    "Look for lists, "
                    "dicts and caches that only grow, and for files and threads that are not "
                    "closed. Until it "
                    "is mended, workers.max_rss or workers.max_calls recycles workers in time.",
                    function.name, growth(function), function.growth_calls));
  }
}

}  // namespace

std::vector<std::string> application_advice(const CheckInput& input) {
  std::vector<std::string> out;
  const RunFacts& facts = input.history.facts;
  for (const AppFunction& function : input.history.functions) {
    advise_on(function, input.scenario, out);
  }
  const double promised = std::chrono::duration<double>(input.scenario.after.within).count();
  if (!input.plan.app.empty() && facts.import_s > promised) {
    out.push_back(fmt::format(
        "Importing the application takes {}. A dead worker is replaced in milliseconds, because "
        "workers are forked from a process that has imported it; but a start, a reload or the "
        "death "
        "of that process takes {}, and no worker can be replaced meanwhile ({} are promised). "
        "`python -X importtime` on the application shows which import takes it; what is not needed "
        "at once can be loaded later, in @keelback.worker_setup or in the function that needs it.",
        seconds_text(facts.import_s), seconds_text(facts.import_s), seconds_text(promised)));
  }
  if (!input.plan.app.empty() && facts.start_mode == "exec" && !facts.start_reason.empty()) {
    out.push_back(fmt::format(
        "Each worker imports the application for itself, which makes replacements slow: {}.",
        facts.start_reason));
  }
  return out;
}

std::vector<NotTested> application_not_tested(const CheckInput& input) {
  std::vector<NotTested> out;
  if (!input.plan.app.empty() && input.plan.backend != Backend::kPython) {
    out.push_back(
        {"the application " + input.plan.app,
         "only the backend python runs it; this run used the laboratory's own functions"});
  }
  for (const AppFunction& function : input.history.functions) {
    const std::string name = "function " + function.name;
    if (!function.why_not.empty()) out.push_back({name, function.why_not});
    if (!function.called) continue;
    const bool known = function.isolation == "holds" || function.isolation == "shared" ||
                       function.isolation == "outlives";
    if (!known && !function.isolation.empty()) {
      out.push_back({name + ": do sessions see each other", function.isolation});
    }
    if (function.stops != "stops" && function.stops != "killed") {
      out.push_back({name + ": does it end at its deadline", function.stops});
    }
    if (function.growth_calls == 0) {
      out.push_back({name + ": does it keep memory", "too few calls fit into its trial"});
    }
  }
  return out;
}

std::vector<Invariant> invariants_of_application() {
  return {kIsolation, kStopping, kGrowth, kStart};
}

}  // namespace keelback::chaos
