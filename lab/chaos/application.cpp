#include "chaos/application.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/settings_text.h"
#include "base/utf8.h"
#include "chaos/checkers.h"
#include "chaos/json.h"
#include "chaos/plan.h"
#include "chaos/recorder.h"
#include "host/install.h"
#include "load/application.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kOurs = "chaos_";    // functions of lab/python/apps/chaos_probe.py
constexpr int kSequence = 3;                    // calls that show how a session begins
constexpr Duration kBudget = 4s;                // of a function's whole trial, about
constexpr int kGrowthMin = 5, kGrowthMax = 16;  // calls in each of three stretches
constexpr Duration kWholeLimit = 20s;
constexpr Duration kInterruptible = 4ms;  // shorter calls end before their deadline can matter
constexpr std::size_t kShown = 160;
constexpr int kLooks = 2;  // after the first, before a lock counts as held for ever

// What a worker holds besides its code.
struct Holding {
  double bytes = 0, descriptors = 0, threads = 0;
};
std::optional<Holding> holding_of(pid_t pid) {
  if (pid <= 0) return std::nullopt;
  const auto memory = os::read_memory_use(pid);
  const auto stat = os::read_stat(pid);
  if (!memory || !stat) return std::nullopt;
  const auto descriptors = os::descriptors_of(pid);
  if (!descriptors) return std::nullopt;
  return Holding{static_cast<double>(memory->own), static_cast<double>(descriptors->size()),
                 static_cast<double>(stat->threads)};
}

std::string shown(const std::string& text) {
  return text.size() <= kShown ? text : text.substr(0, kShown) + "…";
}

// The path as faulthandler writes it: in ASCII, every other character as its escape. A byte that is
// no UTF-8 is a lone surrogate to Python.
std::string in_a_dump(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const Utf8Character character = first_character(path);
    const std::uint32_t number =
        character.length > 0 ? character.code : 0xDC00U + static_cast<unsigned char>(path.front());
    path.remove_prefix(std::max<std::size_t>(character.length, 1));
    if (number >= ' ' && number < 0x7F) {
      out += static_cast<char>(number);
    } else if (number <= 0xFF) {
      out += fmt::format("\\x{:02x}", number);
    } else if (number <= 0xFFFF) {
      out += fmt::format("\\u{:04x}", number);
    } else {
      out += fmt::format("\\U{:08x}", number);
    }
  }
  return out;
}

class Tryer {
 public:
  Tryer(World& world, const Scenario& scenario, const std::function<bool()>& interrupted)
      : world_(world), scenario_(scenario), interrupted_(interrupted) {}

  Trial run(std::vector<AppFunction> functions) {
    made_.functions = std::move(functions);
    if (!made_.functions.empty() && whole()) sources();
    for (AppFunction& each : made_.functions) {
      if (each.why_not.empty() && whole()) isolation(each);
    }
    for (AppFunction& each : made_.functions) {
      if (!each.why_not.empty() || !whole()) continue;
      ways(each);
      if (each.called) growth(each);
      if (each.called || each.stops.empty()) deadline(each);
    }
    static_cast<void>(whole());
    firsts();
    return std::move(made_);
  }

 private:
  struct Reply {
    Outcome outcome;
    Duration took{0};
    bool ended = false;
    bool ok() const { return ended && outcome.ok(); }
  };

  bool whole() {
    return wait_until_whole(world_, scenario_.settings.pool.workers, kWholeLimit, interrupted_);
  }

  Reply call(AppFunction& function, const std::string& session, Duration deadline) {
    Call asked;
    asked.function = function.name;
    asked.payload = function.payload;
    asked.session = session;
    asked.deadline = deadline;
    const std::uint64_t index = made_.calls.size();
    CallEvent& event = made_.calls.emplace_back();
    event = {.index = index,
             .origin = "trial",
             .function = function.name,
             .session = session,
             .own = true,
             .idempotent = function.idempotent,
             .deadline = deadline};
    ++function.tried;
    const Duration began = world_.now();
    const std::uint64_t id = world_.submit(std::move(asked), index);
    made_.calls[index].call = id;
    const Duration limit = began + deadline + scenario_.settings.calls.grace + 5s;
    Reply reply;
    while (!reply.ended && world_.now() < limit) {
      world_.wait_until(limit, true);
      for (Ended& ended : world_.take_ended()) {
        CallEvent& known = made_.calls[ended.index];
        ++known.outcomes;
        take_outcome(known, ended.outcome);
        if (ended.index != index) continue;
        reply = {std::move(ended.outcome), world_.now() - began, true};
      }
    }
    return reply;
  }
  Reply call(AppFunction& function, const std::string& session) {
    return call(function, session, scenario_.load.deadline);
  }

  // ---- what does a worker's first call of it cost?

  void firsts() {
    for (AppFunction& each : made_.functions) {
      std::vector<WorkerRef> seen;
      std::vector<Duration> took;
      for (const CallEvent& call : made_.calls) {
        if (call.function != each.name || call.worker.generation == 0) continue;
        if (std::ranges::find(seen, call.worker) != seen.end()) continue;
        seen.push_back(call.worker);
        if (call.ok()) took.push_back(call.ran);
      }
      each.first_calls = took.size();
      if (took.empty()) continue;
      std::ranges::sort(took);
      each.first = took[took.size() / 2];
    }
  }

  // What the source says of handlers that catch everything; the trial shows whether it matters.
  void sources() {
    AppFunction about{.name = std::string(kOurs) + "about", .payload = "[]"};
    const Reply reply = call(about, "");
    const Json found = Json::parse(reply.outcome.payload, nullptr, false);
    for (AppFunction& each : made_.functions) {
      if (found.is_object() && found.contains(each.name) && found[each.name].is_string()) {
        each.source_witness = found[each.name].get<std::string>();
      }
    }
  }

  std::string session(const AppFunction& function) {
    return fmt::format("trial-{}-{}", function.name, ++sessions_);
  }

  // ---- does a session see what another one left?

  // The first session of a function in a process.
  struct First {
    WorkerRef worker;
    std::string session;
    std::vector<std::string> replies;
  };

  // A process that has not served the function begins its first session as every other such process
  // does, or the function is not one that can be judged. Then the second session in a process must
  // begin in the same way as the first.
  void isolation(AppFunction& function) {
    std::vector<First> firsts;
    const std::uint32_t workers = scenario_.settings.pool.workers;
    if (workers < 2) function.isolation = "one worker alone cannot be compared";
    const Duration until = world_.now() + kBudget;
    bool compared = false;
    for (std::uint32_t n = 0; n < 2 * workers + 1 && function.isolation.empty(); ++n) {
      if (world_.now() > until) function.isolation = "its calls take too long to be compared";
      const std::string name = session(function);
      std::vector<std::string> replies;
      WorkerRef worker;
      for (int i = 0; i < kSequence; ++i) {
        const Reply reply = call(function, name);
        note_lateness(function, reply);
        if (!reply.ok()) {
          function.isolation = "its calls fail";
          return;
        }
        replies.push_back(reply.outcome.payload);
        worker = reply.outcome.worker;
      }
      const auto first = std::ranges::find(firsts, worker, &First::worker);
      if (first == firsts.end()) {
        if (!firsts.empty() && replies != firsts.front().replies) {
          function.isolation = "its answers differ from worker to worker anyway";
        }
        firsts.push_back({worker, name, std::move(replies)});
        continue;
      }
      if (firsts.size() < 2) continue;
      compared = true;
      if (replies == first->replies) continue;
      function.isolation = "shared";
      function.isolation_witness = fmt::format(
          "session {} on {} began with {}; a session that came to the same worker later began with "
          "{}",
          first->session, describe(worker), shown(first->replies[0]), shown(replies[0]));
    }
    if (!function.isolation.empty()) return;
    function.isolation = compared ? "holds" : "no two sessions came to one worker";
    if (compared) remembering(function, firsts);
  }

  // Does a session find what an ended one of its name left?
  void remembering(AppFunction& function, const std::vector<First>& firsts) {
    for (const First& first : firsts) {
      if (!world_.end_session(first.session)) continue;
      const Reply again = call(function, first.session);
      if (!again.ok() || again.outcome.worker != first.worker) continue;
      if (again.outcome.payload == first.replies[0]) return;
      function.isolation = "outlives";
      function.isolation_witness = fmt::format(
          "session {} began with {}; it was ended, opened anew on the same worker, and then began "
          "with {}",
          first.session, shown(first.replies[0]), shown(again.outcome.payload));
      return;
    }
  }

  // ---- how is it called?

  void ways(AppFunction& function) {
    std::vector<Duration> times;
    std::string failure;
    const auto tried = [&](const std::string& name) {
      const Reply reply = call(function, name);
      note_lateness(function, reply);
      if (reply.ok()) {
        times.push_back(reply.took);
        return true;
      }
      failure = !reply.ended           ? "it never ended"
                : reply.outcome.python ? fmt::format("{}: {}", reply.outcome.python->type,
                                                     reply.outcome.python->message)
                                       : reply.outcome.message;
      return false;
    };
    const std::string name = session(function);
    function.in_session = tried(name) && tried(name) && tried(name);
    if (function.stops == "killed" || !whole()) {
      function.why_not = "it does not end within load.deadline";
      return;
    }
    function.stateless = tried("");
    function.called = function.in_session || function.stateless;
    if (!function.called) {
      function.why_not = "it fails without any fault: " + shown(failure);
      return;
    }
    std::ranges::sort(times);
    function.usual = times[times.size() / 2];
  }

  // ---- what does it keep?

  void growth(AppFunction& function) {
    const auto fits = kBudget / std::max(function.usual * 3, Duration{1ms});
    const int calls = std::clamp(static_cast<int>(fits), kGrowthMin, kGrowthMax);
    if (function.usual * calls * 3 > 2 * kBudget) return;
    const std::string name = function.in_session ? session(function) : std::string();
    std::optional<Holding> marks[4];
    WorkerRef home;
    for (int stretch = 0; stretch <= 3; ++stretch) {
      for (int i = 0; i < calls; ++i) {
        const Reply reply = call(function, name);
        if (!reply.ok()) return;
        if (stretch == 0 && i == 0) home = reply.outcome.worker;
        if (!(reply.outcome.worker == home)) return;  // without a session: another worker
      }
      marks[stretch] = holding_of(pid_of(home));
      if (!marks[stretch]) return;
    }
    function.growth_calls = static_cast<std::uint64_t>(calls) * 3;
    // The least of three stretches: what a cache takes once is no leak.
    const auto least = [&](double Holding::* what) {
      double most = 1e300;
      for (int i = 1; i <= 3; ++i) {
        most = std::min(most, ((*marks[i]).*what - (*marks[i - 1]).*what) / calls);
      }
      return std::max(most, 0.0);
    };
    function.bytes_per_call = least(&Holding::bytes);
    function.descriptors_per_call = least(&Holding::descriptors);
    function.threads_per_call = least(&Holding::threads);
  }

  pid_t pid_of(const WorkerRef& worker) {
    for (const host::WorkerInfo& each : world_.workers()) {
      if (each.worker == worker) return static_cast<pid_t>(each.pid);
    }
    return 0;
  }

  // ---- does it end when its time is over?

  void deadline(AppFunction& function) {
    if (function.usual > 0ns && function.usual < kInterruptible) {
      function.stops = "it always answered before a deadline could matter";
      return;
    }
    const std::string name = session(function);
    const std::set<std::string> before = held_locks(name);
    const Reply reply = call(function, name, std::max(Duration{2ms}, function.usual / 4));
    note_lateness(function, reply);
    if (function.stops == "stops") still_held(function, name, before);
    if (function.stops.empty()) function.stops = "it answered before its deadline";
  }

  // An interrupt comes at any line: also between taking a lock and giving it back. Whoever needs
  // the lock next, in that worker, waits for ever.
  void still_held(AppFunction& function, const std::string& name,
                  const std::set<std::string>& before) {
    std::set<std::string> held = held_locks(name);
    for (int look = 0; look < kLooks && !held.empty(); ++look) {
      world_.wait_until(world_.now() + 20ms, false);
      const std::set<std::string> again = held_locks(name);  // a thread of its own may come and go
      std::erase_if(
          held, [&](const auto& lock) { return before.contains(lock) || !again.contains(lock); });
    }
    if (held.empty()) return;
    for (const std::string& lock : held)
      function.held += (function.held.empty() ? "" : ", ") + lock;
    replace(made_.calls.back().worker);  // what is tried next, and the run, get sound workers
  }

  void replace(const WorkerRef& worker) {
    world_.recycle(worker.slot);
    const Duration until = world_.now() + scenario_.settings.workers.start_timeout;
    while (world_.now() < until && !interrupted_()) {
      if (!state_of(worker)) return;
      world_.wait_until(world_.now() + 2ms, false);
    }
  }

  // The locks in the application's modules that are held in the worker of this session.
  std::set<std::string> held_locks(const std::string& name) {
    AppFunction locks{.name = std::string(kOurs) + "locks", .payload = "[]"};
    const Reply reply = call(locks, name);
    const Json found = Json::parse(reply.outcome.payload, nullptr, false);
    std::set<std::string> out;
    if (!reply.ok() || !found.is_array()) return out;
    for (const Json& each : found) {
      if (each.is_string()) out.insert(each.get<std::string>());
    }
    return out;
  }

  // After a timeout its worker lives on, or had to be killed.
  void note_lateness(AppFunction& function, const Reply& reply) {
    if (!reply.ended || reply.outcome.kind != OutcomeKind::kTimeout) return;
    if (reply.outcome.effect == Effect::kNone) return;  // it never ran
    const Duration until = world_.now() + scenario_.settings.calls.grace + 1s;
    while (world_.now() < until && !interrupted_()) {
      const auto state = state_of(reply.outcome.worker);
      if (state == core::WorkerState::kReady) {
        if (function.stops != "killed") function.stops = "stops";
        return;
      }
      if (!state) {
        function.stops = "killed";
        function.stops_witness =
            last_frame(reply.outcome.dump,
                       {host::find_python_directory() + "/keelback", load::lab_python_directory()});
        return;
      }
      world_.wait_until(world_.now() + 2ms, false);
    }
  }

  // nullopt: it is gone.
  std::optional<core::WorkerState> state_of(const WorkerRef& worker) {
    for (const host::WorkerInfo& each : world_.workers()) {
      if (each.worker == worker) return each.state;
    }
    return std::nullopt;
  }

  World& world_;
  const Scenario& scenario_;
  const std::function<bool()>& interrupted_;
  Trial made_;
  int sessions_ = 0;
};

}  // namespace

std::string last_frame(std::string_view dump, const std::vector<std::string>& ours) {
  constexpr std::string_view kFile = "File \"";
  while (!dump.empty()) {
    const std::size_t end = std::min(dump.find('\n'), dump.size());
    const std::string_view line = dump.substr(0, end);
    dump.remove_prefix(std::min(end + 1, dump.size()));
    const std::size_t at = line.find(kFile);
    if (at == line.npos) continue;
    const std::string_view file = line.substr(at + kFile.size());
    if (std::ranges::any_of(ours, [&](const std::string& directory) {
          return file.starts_with(in_a_dump(directory) + "/");
        })) {
      continue;
    }
    if (line.find("/lib/python3.") != line.npos) continue;
    return std::string(line.substr(at));
  }
  return "";
}

std::vector<AppFunction> choose_functions(const Application* application,
                                          const std::vector<LoadCall>& wanted) {
  std::vector<AppFunction> out;
  const auto named = [&](const std::string& name) {
    return std::ranges::find_if(
        wanted, [&](const LoadCall& call) { return call.own && call.function == name; });
  };
  const bool some_named = std::ranges::any_of(wanted, &LoadCall::own);
  if (application == nullptr) return out;
  for (const FunctionInfo& each : application->functions) {
    AppFunction function{.name = each.name, .payload = "[]", .idempotent = each.idempotent};
    if (function.name.starts_with(kOurs)) continue;
    const auto given = named(function.name);
    const auto required = std::ranges::find_if(each.parameters, &FunctionInfo::Parameter::required);
    if (given != wanted.end()) {
      function.payload = given->payload;
    } else if (some_named) {
      function.why_not = "it was not among the functions that were named";
    } else if (required != each.parameters.end()) {
      function.why_not = fmt::format("it needs arguments: --call '{}={{\"{}\": …}}'", function.name,
                                     required->name);
    }
    if (each.stream) function.why_not = "it streams: only plain calls are made";
    out.push_back(std::move(function));
  }
  for (const LoadCall& call : wanted) {
    if (!call.own || std::ranges::find(out, call.function, &AppFunction::name) != out.end())
      continue;
    out.push_back({.name = call.function,
                   .payload = call.payload,
                   .why_not = "the application has no such function"});
  }
  return out;
}

Trial try_functions(World& world, const Scenario& scenario, std::vector<AppFunction> functions,
                    const std::function<bool()>& interrupted) {
  // What a deadline does to a function shows only at the function's end, and in a worker that is
  // not replaced for another reason.
  Settings patient = scenario.settings;
  patient.calls.answer_at = AnswerAt::kEnd;
  patient.calls.after_interrupt = AfterInterrupt::kKeep;
  world.configure(patient);
  Trial made = Tryer(world, scenario, interrupted).run(std::move(functions));
  world.configure(scenario.settings);
  return made;
}

std::vector<LoadCall> load_of(const std::vector<AppFunction>& functions, const Scenario& scenario) {
  std::vector<LoadCall> out;
  double theirs = 0, ours = 0;
  for (const LoadCall& call : scenario.load.calls) ours += call.own ? 0 : call.weight;
  const auto n = static_cast<double>(std::ranges::count_if(functions, &AppFunction::called));
  if (n == 0) return out;
  for (const AppFunction& each : functions) {
    if (!each.called) continue;
    const double seconds = std::max(1e-4, std::chrono::duration<double>(each.usual).count());
    const double room =
        0.4 * scenario.settings.pool.workers / (seconds * scenario.load.rate);  // of all calls
    const double share = std::min(0.5, room) / n;
    theirs += share;
    const double ways = each.stateless && each.in_session ? 2 : 1;
    for (const bool session : {false, true}) {
      if (!(session ? each.in_session : each.stateless)) continue;
      out.push_back({.function = each.name,
                     .payload = each.payload,
                     .weight = share / ways,
                     .session = session,
                     .idempotent = each.idempotent,
                     .own = true});
    }
  }
  // The shares are of all calls; weights are beside those of the laboratory's words.
  for (LoadCall& call : out) call.weight *= std::max(ours, 1e-9) / (1 - theirs);
  return out;
}

}  // namespace keelback::chaos
