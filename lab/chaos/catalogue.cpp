#include "chaos/catalogue.h"

#include <algorithm>

namespace keelback::chaos {
namespace {

using enum OutcomeKind;
using enum ParameterType;

constexpr std::string_view kNothing = "none needed";

// Whatever takes a worker away costs its call, its sessions, and what waits too long meanwhile.
const std::vector<OutcomeKind> kDeath = {kWorkerDied, kSessionLost, kTimeout,
                                         kOverloaded, kCircuitOpen, kNotReady};
const std::vector<OutcomeKind> kHang = {kTimeout,    kWorkerDied,  kSessionLost,
                                        kOverloaded, kSessionBusy, kCircuitOpen};
const std::vector<OutcomeKind> kLoad = {kTimeout, kOverloaded};

FaultClass process(std::string_view name, std::string_view what, bool sim) {
  return {.name = name,
          .what = what,
          .proof = "the worker's pidfd reports its end; its wait status where the zombie was seen",
          .undo = kNothing,
          .means = Means::kSignal,
          .reach = Reach::kTarget,
          .sim = sim,
          .fake = true,
          .python = true,
          .expected = kDeath};
}

// Signals that supervisors, terminals and operators send to the wrong process.
FaultClass stray(std::string_view name, std::string_view what, Means means) {
  const bool worker = means == Means::kSignal;
  return {.name = name,
          .what = what,
          .proof =
              "/proc/PID/status: SigCgt or SigIgn has the signal, and it is not pending any "
              "more; 300 ms later the process must still live, or it is SAFETY",
          .undo = kNothing,
          .means = means,
          .reach = worker ? Reach::kTarget : Reach::kCapacity,
          .harmless = true,
          .fake = worker,
          .python = true,
          .expected = {}};
}

FaultClass zygote_death(std::string_view name, std::string_view what) {
  return {.name = name,
          .what = what,
          .proof = "the zygote's pidfd reports its end",
          .undo = kNothing,
          .means = Means::kZygote,
          .reach = Reach::kCapacity,
          .python = true,
          .expected = kLoad};
}

void add_processes(std::vector<FaultClass>& all) {
  all.push_back(process("proc.kill", "SIGKILL to a worker.", true));
  all.push_back(process("proc.segv", "SIGSEGV to a worker, as a broken C extension.", false));
  all.push_back(process("proc.abort", "SIGABRT to a worker, as a failed assertion.", false));
  all.push_back(
      stray("proc.term", "SIGTERM to a worker, for whom it is not meant.", Means::kSignal));
  all.push_back(
      stray("proc.int", "SIGINT to a worker, whose call it must not end.", Means::kSignal));
  all.push_back(process("proc.hup", "SIGHUP to a worker, as when a terminal goes.", false));
  all.push_back({.name = "proc.stop",
                 .what = "SIGSTOP to a worker: alive, silent.",
                 .proof = "state T in /proc/PID/stat",
                 .undo = "SIGCONT, by the warden",
                 .lasts = true,
                 .sim = true,
                 .fake = true,
                 .python = true,
                 .expected = kHang});
  all.push_back({.name = "proc.throttle",
                 .what = "SIGSTOP and SIGCONT in turn: a worker with a fraction of its CPU.",
                 .proof = "state T seen in at least three turns",
                 .undo = "SIGCONT, by the warden",
                 .means = Means::kThrottle,
                 .lasts = true,
                 .fake = true,
                 .python = true,
                 .parameters = {{"stopped", kDuration, "10ms", "20ms", "45ms", "stopped per turn"},
                                {"running", kDuration, "10ms", "10ms", "5ms", "running per turn"}},
                 .expected = kHang});
  all.push_back(
      {.name = "cpu.starve",
       .what = "A worker gets one processor, which others use without rest: slow, not broken.",
       .proof =
           "/proc/PID/task/*/schedstat: since then it waited for a processor for 20 ms, and at "
           "least as long as it ran",
       .undo = "the competitors are killed and it may use all processors again, by the warden",
       .means = Means::kStarve,
       .lasts = true,
       .fake = true,
       .python = true,
       .parameters = {{"competitors", kCount, "2", "4", "8", "so many"},
                      {"calls", kCount, "4", "6", "8", "of the worker's that compute"},
                      {"spin", kDuration, "50ms", "50ms", "50ms", "each, for so long"}},
       .expected = {kTimeout, kOverloaded, kSessionBusy}});
  all.push_back({.name = "broker.kill",
                 .what =
                     "SIGKILL to a whole daemon with the same application, its workers all busy "
                     "in code that holds the interpreter; then the next start.",
                 .proof = "every process of the daemon is gone within 5 s, and the next daemon "
                          "answers",
                 .undo = "the daemons are the laboratory's own; the warden kills them",
                 .means = Means::kDaemon,
                 .reach = Reach::kPool,
                 .fake = true,
                 .python = true,
                 .expected = kLoad});
  all.push_back({.name = "client.slow",
                 .what = "Clients of a daemon with the same application send half a request and "
                         "stop, never read their answer, or hang up while their call runs.",
                 .proof = "all of them got in; ordinary calls were answered meanwhile, no worker "
                          "died, and SIGTERM ended the daemon",
                 .undo = "the daemon is the laboratory's own; the warden kills it",
                 .means = Means::kDaemon,
                 .reach = Reach::kPool,
                 .fake = true,
                 .python = true,
                 .parameters = {{"clients", kCount, "5", "20", "60", "of each of the three kinds"}},
                 .expected = kLoad});
  all.push_back(zygote_death("zygote.kill", "SIGKILL to the zygote that workers are forked from."));
  all.push_back(zygote_death("zygote.hup", "SIGHUP to the zygote, as when a terminal goes."));
  all.push_back(
      stray("zygote.term", "SIGTERM to the zygote, for whom it is not meant.", Means::kZygote));
  all.push_back(stray("zygote.int",
                      "SIGINT to the zygote, as Ctrl-C at a terminal sends it to all.",
                      Means::kZygote));
  all.push_back({.name = "zygote.stop",
                 .what = "SIGSTOP to the zygote: no worker can be forked.",
                 .proof = "state T in /proc/PID/stat",
                 .undo = "SIGCONT, by the warden",
                 .means = Means::kZygote,
                 .reach = Reach::kCapacity,
                 .lasts = true,
                 .python = true,
                 .expected = {kTimeout, kOverloaded, kNotReady}});
}

FaultClass start(std::string_view name, std::string_view what, bool sim,
                 std::vector<Parameter> parameters) {
  return {.name = name,
          .what = what,
          .proof = "a worker that started in the window wrote into the ledger that it obeyed",
          .undo = "the order is taken out of the control file, by the warden if need be",
          .means = Means::kStarts,
          .reach = Reach::kCapacity,
          .lasts = true,
          .sim = sim,
          .fake = true,
          .python = true,
          .parameters = std::move(parameters),
          .expected = {kTimeout, kOverloaded, kNotReady, kSessionLost, kWorkerDied}};
}

void add_starts(std::vector<FaultClass>& all) {
  all.push_back(start("spawn.fail", "worker_setup raises.", true, {}));
  all.push_back(start("spawn.exit", "A starting worker leaves with a code.", false,
                      {{"code", kCount, "1", "1", "0", "the exit code"}}));
  all.push_back(start("spawn.slow", "A start takes longer.", true,
                      {{"delay", kDuration, "100ms", "300ms", "1s", "added to each start"}}));
  all.push_back(start("spawn.hang", "A starting worker never becomes ready.", false, {}));
  all.push_back({.name = "spawn.exec_fail",
                 .what = "The interpreter is gone: no zygote and no worker can be executed.",
                 .proof = "the pool says that it cannot run it",
                 .undo = "the file is put back, by the warden",
                 .means = Means::kInterpreter,
                 .reach = Reach::kCapacity,
                 .lasts = true,
                 .python = true,
                 .expected = {kTimeout, kOverloaded, kNotReady, kSessionLost, kWorkerDied}});
  all.push_back(start("spawn.stay", "A worker that does not leave when it is told to.", false, {}));
}

void add_limits(std::vector<FaultClass>& all) {
  all.push_back({.name = "mem.rlimit",
                 .what = "A soft limit on a living worker's address space; calls then allocate.",
                 .proof = "calls on that worker raised MemoryError",
                 .undo = "the old soft limit, by the warden",
                 .means = Means::kLimit,
                 .lasts = true,
                 .python = true,
                 .parameters = {{"room", kSize, "64MiB", "32MiB", "16MiB", "above what it has now"},
                                {"calls", kCount, "10", "20", "40", "allocating calls"},
                                {"size", kSize, "128MiB", "128MiB", "128MiB", "each allocates"}},
                 .expected = {kError, kTimeout, kWorkerDied, kSessionLost}});
  all.push_back({.name = "fd.exhaust",
                 .what = "A soft limit on a living worker's descriptors; calls then open files.",
                 .proof = "calls on that worker raised OSError with EMFILE",
                 .undo = "the old soft limit, by the warden",
                 .means = Means::kLimit,
                 .lasts = true,
                 .python = true,
                 .parameters = {{"room", kCount, "4", "2", "0", "above what it has now"},
                                {"calls", kCount, "10", "20", "40", "calls that open files"},
                                {"files", kCount, "16", "16", "16", "each opens"}},
                 .expected = {kError, kTimeout, kWorkerDied, kSessionLost}});
}

FaultClass calls(std::string_view name, std::string_view what, std::string_view proof,
                 std::vector<Parameter> parameters, std::vector<OutcomeKind> expected) {
  return {.name = name,
          .what = what,
          .proof = proof,
          .undo = kNothing,
          .means = Means::kCalls,
          .reach = Reach::kOwnCalls,
          .sim = true,
          .fake = true,
          .python = true,
          .parameters = std::move(parameters),
          .expected = std::move(expected)};
}

void add_calls(std::vector<FaultClass>& all) {
  const Parameter few = {"calls", kCount, "1", "2", "4", "so many at once"};
  all.push_back(calls("call.crash", "A call dies of a signal.",
                      "its outcome is worker_died with that signal",
                      {few, {"signal", kCount, "11", "11", "6", "the signal"}}, kDeath));
  all.push_back(calls("call.exit", "A call leaves the process with a code.",
                      "its outcome is worker_died with that exit code",
                      {few, {"code", kCount, "3", "3", "0", "the exit code"}}, kDeath));
  all.push_back(calls("call.raise", "Calls raise.", "their outcome is error with a Python type",
                      {{"calls", kCount, "5", "20", "50", "so many at once"}}, kLoad));
  all.push_back(calls("call.hold", "Calls keep the GIL in C code: only SIGKILL ends them early.",
                      "they ran as long as they were told, or were killed at their deadline",
                      {few, {"hold", kDuration, "200ms", "500ms", "2s", "how long"}}, kHang));
  all.push_back(calls("call.spin", "Calls compute in a loop.",
                      "they ran as long as they were told, or to their deadline",
                      {few, {"spin", kDuration, "200ms", "500ms", "1s", "how long"}}, kHang));
  all.push_back(calls("call.slow", "A share of the load becomes slow.",
                      "those calls ran as long as they were told, or to their deadline",
                      {{"share", kNumber, "0.05", "0.1", "0.2", "of the load"},
                       {"takes", kDuration, "50ms", "100ms", "200ms", "each"}},
                      kHang));
  all.back().lasts = true;
  all.back().reach = Reach::kPool;
  all.push_back(calls("call.poison", "One and the same request kills each worker that runs it.",
                      "a worker died of it, and then it was quarantined",
                      {{"tries", kCount, "4", "6", "10", "how often it is sent"}}, kDeath));
  all.back().expected.push_back(kQuarantined);
  all.push_back(calls("call.unserialisable", "Calls return what JSON cannot write.",
                      "their outcome is error",
                      {{"calls", kCount, "5", "20", "50", "so many at once"}}, kLoad));
  all.push_back(calls("call.exceptions",
                      "Calls raise every kind of exception: SystemExit, KeyboardInterrupt, groups, "
                      "recursion, one that cannot say what it is.",
                      "the outcome of each kind is error with a Python type", {}, kLoad));
  all.push_back(calls("call.results",
                      "Calls return every kind of value that JSON cannot carry: cycles, NaN, "
                      "lists too deep.",
                      "the outcome of each kind is error with a Python type", {}, kLoad));
  for (std::size_t i = all.size() - 2; i < all.size(); ++i) all[i].sim = all[i].fake = false;
  all.push_back(calls("mem.leak", "Calls in one worker keep memory for ever.",
                      "the worker's resident memory has grown by at least half of it",
                      {{"calls", kCount, "20", "40", "80", "that keep memory"},
                       {"size", kSize, "1MiB", "2MiB", "4MiB", "each keeps"}},
                      {kTimeout, kWorkerDied, kSessionLost, kOverloaded}));
  all.back().sim = all.back().fake = false;
  all.back().reach = Reach::kTarget;
  const auto leak = [&](std::string_view name, std::string_view what, std::string_view proof,
                        Parameter size) {
    all.push_back(calls(name, what, proof,
                        {{"calls", kCount, "10", "20", "40", "that keep some"}, size},
                        {kTimeout, kWorkerDied, kSessionLost, kOverloaded}));
    FaultClass& made = all.back();
    made.undo = "the worker is replaced, on the laboratory's order";
    made.sim = made.fake = false;
    made.lasts = made.replaced = true;
    made.reach = Reach::kTarget;
  };
  leak("fd.leak", "Calls in one worker keep files open.",
       "/proc/PID/fd of the worker has grown by at least half of them",
       {"files", kCount, "4", "8", "16", "each keeps open"});
  leak("thread.leak", "Calls in one worker leave threads behind.",
       "the worker's thread count in /proc/PID/stat has grown by at least half of them",
       {"threads", kCount, "2", "4", "4", "each leaves"});
  leak("shm.leak", "Calls in one worker leave shared memory in /dev/shm, mapped and with a name.",
       "/proc/PID/maps of the worker shows at least half of it",
       {"size", kSize, "64KiB", "256KiB", "512KiB", "each leaves"});
  all.back().undo =
      "the worker is replaced, on the laboratory's order; the warden removes the files";
  all.push_back(calls("call.huge", "Calls return more than calls.payload_max.",
                      "their outcome is error",
                      {{"calls", kCount, "1", "3", "5", "so many at once"}}, kLoad));
}

FaultClass clients(std::string_view name, std::string_view what, std::string_view proof, bool lasts,
                   std::vector<Parameter> parameters, std::vector<OutcomeKind> expected) {
  return {.name = name,
          .what = what,
          .proof = proof,
          .undo = kNothing,
          .means = Means::kClients,
          .reach = Reach::kPool,
          .lasts = lasts,
          .sim = true,
          .fake = true,
          .python = true,
          .parameters = std::move(parameters),
          .expected = std::move(expected)};
}

void add_clients(std::vector<FaultClass>& all) {
  all.push_back(clients("client.burst", "The load is multiplied.",
                        "the calls of the burst were sent at their planned times", true,
                        {{"factor", kNumber, "2", "4", "8", "times the rate"}}, kLoad));
  all.push_back(clients("client.retry_storm",
                        "Clients send what has failed again at once, and again: the load feeds on "
                        "its own failures.",
                        "failed calls were sent again", true,
                        {{"retries", kCount, "1", "3", "10", "so often each"}}, kLoad));
  all.push_back(clients("client.herd", "Many clients come at one instant.",
                        "all of the herd was in flight within 50 ms", false,
                        {{"clients", kCount, "50", "200", "800", "so many"}}, kLoad));
  all.push_back(clients("client.hot_session", "One session gets a large share of the load.",
                        "so many calls of that session were sent", true,
                        {{"share", kNumber, "0.3", "0.5", "0.8", "of the load"}},
                        {kTimeout, kOverloaded, kSessionBusy}));
  all.push_back(clients("client.session_flood", "Every call opens a session of its own.",
                        "the pool opened so many sessions, or refused them with session_limit",
                        false, {{"sessions", kCount, "50", "200", "1000", "so many"}},
                        {kTimeout, kOverloaded, kSessionLimit}));
  all.push_back(clients("client.vanish", "Clients leave while their calls run.",
                        "the pool knew the calls when they were cancelled", false,
                        {{"calls", kCount, "5", "20", "50", "so many"},
                         {"takes", kDuration, "50ms", "100ms", "100ms", "each would take"}},
                        kLoad));
  all.back().expected.push_back(kCancelled);
  all.push_back(clients("client.tiny_deadline", "Calls come with next to no time.",
                        "they ended as timeout", false,
                        {{"calls", kCount, "10", "50", "200", "so many"},
                         {"deadline", kDuration, "1ms", "1ms", "1ms", "theirs"}},
                        kLoad));
  all.push_back(clients("client.malformed", "Calls whose arguments are no JSON.",
                        "they ended as bad_request", false,
                        {{"calls", kCount, "5", "20", "50", "so many"}}, kLoad));
  all.push_back(clients("client.unknown_function", "Calls of a function that is not there.",
                        "they ended as unknown_function", false,
                        {{"calls", kCount, "5", "20", "50", "so many"}}, kLoad));
}

void add_operators(std::vector<FaultClass>& all) {
  const auto add = [&](std::string_view name, std::string_view what, std::string_view proof,
                       Reach reach) {
    all.push_back({.name = name,
                   .what = what,
                   .proof = proof,
                   .undo = kNothing,
                   .means = Means::kOperator,
                   .reach = reach,
                   .sim = true,
                   .fake = true,
                   .python = true,
                   .expected = {kSessionLost, kTimeout, kOverloaded}});
  };
  add("pool.recycle", "A worker is replaced on order, replacement first.",
      "its slot has a newer generation", Reach::kTarget);
  add("pool.reload", "The application is loaded anew and every worker replaced, rolling.",
      "every slot has a newer generation", Reach::kPool);
  add("pool.resize", "The pool shrinks by one worker and grows again.",
      "fewer workers were seen, then as many as before", Reach::kPool);
  all.back().lasts = true;
  all.back().undo = "the old size, by the laboratory; it ends with the pool";
  add("pool.shorten_sessions", "An operator lowers sessions.idle_ttl while sessions live.",
      "there are fewer sessions than before, and the pool did not lose them", Reach::kPool);
  all.back().lasts = true;
  all.back().undo = "the old setting, by the laboratory; it ends with the pool";
  all.back().parameters = {{"ttl", kDuration, "200ms", "100ms", "50ms", "the new limit"}};
  all.back().expected = {kSessionExpired};
}

FaultClass channel(std::string_view name, std::string_view what,
                   std::vector<Parameter> parameters = {}) {
  return {.name = name,
          .what = what,
          .proof = "the interposer between worker and pool counted the answers that it hit",
          .undo = "the order is taken back; it ends with the laboratory in any case",
          .means = Means::kChannel,
          .reach = Reach::kTarget,
          .lasts = true,
          .fake = true,
          .python = true,
          .parameters = std::move(parameters),
          .expected = {kWorkerDied, kSessionLost, kTimeout, kOverloaded, kSessionBusy, kCircuitOpen,
                       kNotReady}};
}

FaultClass greeting(std::string_view name, std::string_view what) {
  FaultClass made = start(name, what, false, {});
  made.proof = "the interposer between worker and pool counted the greetings that it hit";
  made.undo = "the order is taken back; it ends with the laboratory in any case";
  return made;
}

void add_channel(std::vector<FaultClass>& all) {
  const Parameter some = {"answers", kCount, "1", "3", "0", "so many of each worker; 0: all"};
  all.push_back(channel("channel.garbage", "Instead of an answer come bytes that are no frame."));
  all.push_back(channel("channel.header", "An answer's header names a type that does not exist."));
  all.push_back(channel("channel.half_frame", "Half an answer, then the end of the socket."));
  all.push_back(channel("channel.half_stall", "Half an answer, then silence."));
  all.push_back(channel("channel.close", "The end of the socket instead of an answer."));
  all.push_back(channel("channel.duplicate", "Answers come twice.", {some}));
  all.push_back(
      channel("channel.zombie", "An old call's answer comes again before a new one.", {some}));
  all.push_back(channel("channel.unknown", "Answers come to calls that nobody made.", {some}));
  all.push_back(channel("channel.late", "Answers come late.",
                        {some, {"delay", kDuration, "100ms", "1s", "3s", "so late"}}));
  all.push_back(channel("channel.drip", "Answers come in small pieces.",
                        {some,
                         {"bytes", kCount, "8", "4", "1", "in a piece"},
                         {"delay", kDuration, "1ms", "2ms", "5ms", "between pieces"}}));
  all.push_back(channel("channel.drop", "Answers get lost.", {some}));
  all.push_back(greeting("channel.bad_version", "A starting worker speaks another version."));
  all.push_back(greeting("channel.half_greeting", "A starting worker sends half a greeting."));
  all.push_back(greeting("channel.no_greeting", "A starting worker says nothing."));
}

FaultClass disk(std::string_view name, std::string_view what, std::vector<OutcomeKind> expected) {
  return {
      .name = name,
      .what = what,
      .proof =
          "the writes of the store that were refused are counted, and the pool says that "
          "its store is down",
      .undo = "by the laboratory, in whose process the store writes; it ends with it in any case",
      .means = Means::kStore,
      .reach = Reach::kPool,
      .lasts = true,
      .fake = true,
      .python = true,
      .expected = std::move(expected)};
}

// Writes go wrong where SQLite hands them to the kernel, so that no file system has to be filled:
// that would need a small one of one's own, which takes privileges.
void add_store(std::vector<FaultClass>& all) {
  all.push_back(disk("disk.full",
                     "The disk of the session store is full: every write of it ends with ENOSPC.",
                     {kSessionLost}));
  all.push_back(disk("disk.fails",
                     "The disk of the session store fails: every write of it ends with EIO.",
                     {kSessionLost}));
  all.push_back(disk("disk.slow", "The disk of the session store is slow.",
                     {kTimeout, kOverloaded, kSessionBusy}));
  all.back().proof = "the writes of the store that were delayed are counted";
  all.back().parameters = {
      {"delay", kDuration, "2ms", "10ms", "30ms", "each write takes longer by"}};
}

std::vector<FaultClass> make() {
  std::vector<FaultClass> all;
  add_processes(all);
  add_starts(all);
  add_limits(all);
  add_calls(all);
  add_clients(all);
  add_operators(all);
  add_channel(all);
  add_store(all);
  return all;
}

}  // namespace

const Parameter* FaultClass::parameter(std::string_view parameter_name) const {
  const auto found = std::ranges::find(parameters, parameter_name, &Parameter::name);
  return found == parameters.end() ? nullptr : &*found;
}

const std::vector<FaultClass>& catalogue() {
  static const std::vector<FaultClass> all = make();
  return all;
}

const FaultClass* find_fault_class(std::string_view name) {
  const auto found = std::ranges::find(catalogue(), name, &FaultClass::name);
  return found == catalogue().end() ? nullptr : &*found;
}

std::vector<NotTested> not_tested(Backend backend) {
  std::vector<NotTested> out = {
      {"time: wall clock jumps (I21)", "the pool reads no wall clock; no injector for it here"},
      {"memory: kernel OOM kill", "needs a delegated cgroup with the memory controller"},
      {"network faults", "one machine, one socket pair a worker: there is no network"}};
  out.push_back(
      {"a process that SIGKILL does not end (state D)",
       "it takes a file system that hangs; unit tests have the pool abandon such a worker"});
  out.push_back({"calls while the pool drains",
                 "a run ends when all is quiet; conformance tests call a pool that drains"});
  out.push_back({"cpu: a quota or a lower priority",
                 "cpu.max needs a delegated cgroup; nice and SCHED_IDLE cannot be taken back"});
  out.push_back({"channel: flipped bits in a payload",
                 "a local socket does not flip bits, and the protocol carries no checksum"});
  if (backend == Backend::kSim) {
    out.push_back({"residue (I10, I11)", "the simulator has no processes and no descriptors"});
    out.push_back({"signals, limits, leaks, zygote, channel", "the simulator has no processes"});
    out.push_back({"disk: full, failing or slow session store", "the simulator has no disk"});
  }
  if (backend == Backend::kFake) {
    out.push_back({"zygote and Python limits", "keelback-fakeworker is started by exec"});
  }
  return out;
}

}  // namespace keelback::chaos
