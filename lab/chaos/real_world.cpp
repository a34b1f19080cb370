// Real processes as an engine: a host::Driver, its workers, the warden, and the ledger files that
// workers write. Signals and limits go only to processes that carry this process's owner token.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "api/driver_factory.h"
#include "base/settings_text.h"
#include "chaos/daemon.h"
#include "chaos/interposer.h"
#include "chaos/lab.h"
#include "chaos/memory_file.h"
#include "chaos/plan.h"
#include "chaos/soon.h"
#include "chaos/warden.h"
#include "chaos/world.h"
#include "host/environment.h"
#include "host/install.h"
#include "load/application.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// For a signal to show: a process that has to wait for a processor first dies late. The load waits
// too.
constexpr Duration kProofWait = 1s;
constexpr std::string_view kSqlite = "sqlite:";
constexpr Duration kCensusPatience = 1s;       // for what is on its way out
constexpr std::uint64_t kLeaseSlackMs = 2000;  // beyond the planned undo
// What lies in memory harms nobody who waits for it; a worker may still be about to use the place.
constexpr std::uint64_t kSharedSlackMs = 30'000;

// Shared with the driver's loop thread, which may outlive a call's waiting.
struct Inbox {
  std::mutex mutex;
  std::condition_variable some;
  std::vector<Ended> ended;  // guarded by mutex
};

std::optional<char> state_of(pid_t pid) {
  const auto stat = os::read_stat(pid);
  return stat ? std::optional(stat->state) : std::nullopt;
}

std::uint64_t status_field(pid_t pid, std::string_view name, int base) {
  std::ifstream in(fmt::format("/proc/{}/status", pid));
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(name)) return std::strtoull(line.c_str() + name.size(), nullptr, base);
  }
  return 0;
}

std::uint64_t highest_descriptor(pid_t pid) {
  std::uint64_t highest = 2;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", pid), error)) {
    highest = std::max<std::uint64_t>(highest,
                                      std::strtoull(entry.path().filename().c_str(), nullptr, 10));
  }
  return highest;
}

class RealWorld final : public World {
 public:
  explicit RealWorld(const WorldOptions& options)
      : options_(options),
        ledger_(options.directory + "/effects.log"),
        control_(options.directory + "/control"),
        shared_(fmt::format("{}{}-{:x}", kShared, ::getpid(), fnv(options.directory))) {}

  ~RealWorld() override {
    for (const auto& [worker, competitors] : competitors_) dismiss(competitors);
    driver_.reset();
    interposer_.reset();
    std::error_code error;
    fs::remove(control_, error);
    if (!interpreter_.empty()) fs::remove(interpreter_, error);
    for (MemoryFile& file : written_) file.keep();
  }

  std::expected<void, std::string> start() {
    std::error_code error;
    ledger_ = fs::absolute(ledger_, error).string();
    control_ = fs::absolute(control_, error).string();
    fs::remove(control_, error);
    const std::string log = fs::absolute(options_.directory, error).string() + "/pool.log";
    for (const std::string& path : {ledger_, log}) {
      auto file = MemoryFile::create(path);
      if (!file) return std::unexpected(file.error());
      written_.push_back(std::move(*file));
    }
    auto warden =
        Warden::start(fs::absolute(options_.directory, error).string() + "/" + kJournalName);
    if (!warden) return std::unexpected(warden.error());
    warden_ = std::move(*warden);
    before_ = count("before");
    api::DriverOptions made;
    made.settings = options_.settings;
    // Never a store that somebody else needs, whatever the scenario calls it.
    if (std::string& store = made.settings.sessions.store; store.starts_with(kSqlite)) {
      const std::string name = fs::path(store.substr(kSqlite.size())).filename().string();
      store = std::string(kSqlite) + fs::absolute(options_.directory, error).string() + "/" + name;
    }
    if (options_.spoil_disk) disk_ = std::make_unique<BadDisk>();
    made.seed = options_.seed;
    // The pool's own log is evidence of the run, not output of the command.
    made.logger = std::make_shared<spdlog::logger>(
        "pool", std::make_shared<spdlog::sinks::basic_file_sink_mt>(log, true));
    made.logger->flush_on(spdlog::level::info);
    if (options_.own_interpreter) {
      interpreter_ = fs::absolute(options_.directory, error).string() + "/python";
      const std::string script =
          fmt::format("#!/bin/sh\nexec '{}' \"$@\"\n", options_.settings.workers.python);
      if (const auto written = write_file(interpreter_, script); !written) {
        return std::unexpected(written.error());
      }
      fs::permissions(interpreter_, fs::perms::owner_all, error);
      made.settings.workers.python = interpreter_;
    }
    if (options_.settings.pool.backend == Backend::kPython) {
      made.app = load::lab_application("chaos_probe");
    } else {
      made.app = "standard";
    }
    if (options_.interpose) {
      auto interposer = Interposer::start();
      if (!interposer) return std::unexpected("no interposer: " + interposer.error());
      interposer_ = std::move(*interposer);
      made.interpose = [between = interposer_.get()](WorkerId worker, os::Fd theirs) {
        return between->stand_between(worker, std::move(theirs));
      };
    }
    made.environment = {{"KEELBACK_CHAOS_LEDGER", ledger_},
                        {"KEELBACK_CHAOS_CONTROL", control_},
                        {"KEELBACK_CHAOS_SHARED", shared_}};
    if (!options_.app.empty()) {
      const bool path =
          options_.app.find('/') != std::string::npos || options_.app.ends_with(".py");
      application_ = path ? fs::absolute(options_.app, error).string() : options_.app;
      made.environment.emplace_back("KEELBACK_CHAOS_APP", application_);
    }
    auto driver = api::make_driver(made);
    if (!driver) return std::unexpected(driver.error());
    driver_ = std::move(*driver);
    return {};
  }

  Duration now() override { return Clock::now() - began_; }
  void wait_until(Duration when, bool or_ended) override {
    if (!or_ended) {
      std::this_thread::sleep_until(began_ + when);
      return;
    }
    std::unique_lock lock(inbox_->mutex);
    inbox_->some.wait_until(lock, began_ + when, [this] { return !inbox_->ended.empty(); });
  }

  std::uint64_t submit(Call call, std::uint64_t index) override {
    return driver_
        ->submit(std::move(call),
                 [inbox = inbox_, index, began = began_](Outcome&& outcome) {
                   const Duration at = Clock::now() - began;
                   const std::lock_guard lock(inbox->mutex);
                   inbox->ended.push_back({index, at, std::move(outcome)});
                   inbox->some.notify_all();
                 })
        .value;
  }
  bool cancel(std::uint64_t call) override { return driver_->cancel(CallId{call}); }
  std::vector<Ended> take_ended() override {
    const std::lock_guard lock(inbox_->mutex);
    return std::exchange(inbox_->ended, {});
  }

  host::PoolInfo info() override { return driver_->info(); }
  std::vector<host::WorkerInfo> workers() override { return driver_->workers(); }
  std::string hello() override {
    const auto application = driver_->application();
    return application.known ? application.hello_json : "";
  }
  bool end_session(const std::string& session) override { return driver_->end_session(session); }
  bool recycle(std::uint32_t slot) override { return driver_->recycle(slot); }
  void reload() override {
    driver_->reload([](const std::string&) {});
  }
  void configure(const Settings& settings) override { driver_->configure(settings); }

  bool shut_down(Duration limit) override {
    auto drained = std::make_shared<std::promise<void>>();  // the callback may come after we left
    auto over = drained->get_future();
    driver_->drain(limit, [drained] { drained->set_value(); });
    const bool ended =
        over.wait_for(limit + options_.settings.calls.grace + 10s) == std::future_status::ready;
    driver_.reset();
    interposer_.reset();
    return ended;
  }

  Evidence send_signal(const std::vector<host::WorkerInfo>& targets, int signal,
                       bool harmless) override {
    std::vector<pid_t> pids;
    for (const host::WorkerInfo& worker : targets) {
      if (!harmless) driver_->order_death(worker.worker);
      pids.push_back(static_cast<pid_t>(worker.pid));
    }
    return signal_processes(pids, signal, harmless);
  }
  Evidence stop(const host::WorkerInfo& worker, Duration at_most) override {
    return stop_process(static_cast<pid_t>(worker.pid), at_most);
  }
  Evidence resume(const host::WorkerInfo& worker) override {
    return undo(fmt::format("stop {}", worker.pid));
  }
  Evidence signal_zygote(int signal, bool harmless) override {
    const auto pid = static_cast<pid_t>(driver_->info().start.zygote_pid);
    if (pid == 0) return std::unexpected("there is no zygote: " + driver_->info().start.reason);
    return signal_processes({pid}, signal, harmless);
  }
  Evidence stop_zygote(Duration at_most) override {
    zygote_ = static_cast<pid_t>(driver_->info().start.zygote_pid);
    if (zygote_ == 0) return std::unexpected("there is no zygote: " + driver_->info().start.reason);
    return stop_process(zygote_, at_most);
  }
  Evidence resume_zygote() override { return undo(fmt::format("stop {}", zygote_)); }

  Evidence limit(const host::WorkerInfo& worker, const std::string& what,
                 std::uint64_t room) override {
    const auto pid = static_cast<pid_t>(worker.pid);
    const auto process = ours(pid);
    if (!process) return std::unexpected(process.error());
    const int resource = what == "as" ? RLIMIT_AS : RLIMIT_NOFILE;
    rlimit old{};
    if (::prlimit(pid, static_cast<__rlimit_resource>(resource), nullptr, &old) != 0) {
      return std::unexpected(std::strerror(errno));
    }
    const std::uint64_t now =
        what == "as" ? status_field(pid, "VmSize:", 10) * 1024 : highest_descriptor(pid) + 1;
    const auto armed = arm(fmt::format("{} {}", what, pid), {.lease_ms = lease(60s),
                                                             .kind = Undo::Kind::kLimit,
                                                             .pid = pid,
                                                             .start_time = process->start_time,
                                                             .resource = resource,
                                                             .soft = old.rlim_cur,
                                                             .hard = old.rlim_max});
    if (!armed) return std::unexpected(armed.error());
    const rlimit lower{.rlim_cur = std::min<rlim_t>(now + room, old.rlim_max),
                       .rlim_max = old.rlim_max};
    if (::prlimit(pid, static_cast<__rlimit_resource>(resource), &lower, nullptr) != 0) {
      return std::unexpected(std::strerror(errno));
    }
    return fmt::format("pid {}: soft limit {} (was {})", pid, lower.rlim_cur, old.rlim_cur);
  }
  Evidence unlimit(const host::WorkerInfo& worker, const std::string& what) override {
    return undo(fmt::format("{} {}", what, worker.pid));
  }

  // The laboratory must have another processor than the one it makes scarce.
  Evidence starve(const host::WorkerInfo& worker, std::uint32_t competitors,
                  Duration at_most) override {
    const auto pid = static_cast<pid_t>(worker.pid);
    const auto process = ours(pid);
    if (!process) return std::unexpected(process.error());
    const std::vector<int> before = processors_of(pid);
    if (before.size() < 2) return std::unexpected("there is one processor only");
    const std::string warden = host::find_program("keelback-warden");
    const auto null = os::open_null();
    if (warden.empty() || !null) return std::unexpected("nobody can compete");
    const auto armed = arm(fmt::format("bind {}", pid), {.lease_ms = lease(at_most),
                                                         .kind = Undo::Kind::kBind,
                                                         .pid = pid,
                                                         .start_time = process->start_time,
                                                         .path = processors_text(before)});
    if (!armed) return std::unexpected(armed.error());
    if (!bind_to(pid, {before.back()})) return std::unexpected(std::strerror(errno));
    const int fds[] = {null->get(), null->get(), null->get()};
    for (std::uint32_t i = 0; i < competitors; ++i) {
      const auto other = os::spawn(
          {warden, "--compete", std::to_string(before.back()), std::to_string(lease(at_most))},
          fds);
      if (!other) return std::unexpected(other.error().message());
      competitors_[pid].push_back(*other);
      const auto stat = os::read_stat(*other);
      const auto undoing =
          arm(fmt::format("compete {}", *other), {.lease_ms = lease(at_most),
                                                  .kind = Undo::Kind::kKill,
                                                  .pid = *other,
                                                  .start_time = stat ? stat->start_time : 0});
      if (!undoing) return std::unexpected(undoing.error());
    }
    return fmt::format("pid {} has processor {} and {} competitors", pid, before.back(),
                       competitors);
  }
  Evidence feed(const host::WorkerInfo& worker) override {
    const auto pid = static_cast<pid_t>(worker.pid);
    for (const pid_t other : competitors_[pid]) {
      static_cast<void>(undo(fmt::format("compete {}", other)));
    }
    dismiss(competitors_[pid]);
    competitors_.erase(pid);
    return undo(fmt::format("bind {}", pid));
  }
  std::optional<ProcessorTime> processor_time(const host::WorkerInfo& worker) override {
    return chaos::processor_time(static_cast<pid_t>(worker.pid));
  }

  Evidence lend_shared(Duration at_most) override {
    const auto armed = arm("shared", {.lease_ms = lease(at_most) + kSharedSlackMs,
                                      .kind = Undo::Kind::kRemove,
                                      .path = shared_});
    if (!armed) return std::unexpected(armed.error());
    std::error_code error;
    fs::create_directory(shared_, error);
    if (error) return std::unexpected(error.message());
    fs::permissions(shared_, fs::perms::owner_all, error);
    return shared_ + " is there";
  }
  Evidence take_back_shared() override { return undo("shared"); }
  std::optional<Holdings> holdings(const host::WorkerInfo& worker) override {
    return holdings_of(static_cast<pid_t>(worker.pid), shared_);
  }

  Evidence hide_interpreter(Duration at_most) override {
    if (interpreter_.empty()) return std::unexpected("workers.python is not the run's own");
    const auto armed =
        arm("interpreter",
            {.lease_ms = lease(at_most), .kind = Undo::Kind::kRename, .path = interpreter_});
    if (!armed) return std::unexpected(armed.error());
    std::error_code error;
    fs::rename(interpreter_, interpreter_ + std::string(kAside), error);
    if (error) return std::unexpected(error.message());
    return interpreter_ + " is gone";
  }
  Evidence restore_interpreter() override { return undo("interpreter"); }

  void try_daemon(const std::string& fault, std::uint32_t pester) override {
    const auto arm_it = [this, fault](const Undo& undo) {
      return arm(fmt::format("daemon {} {}", fault, undo.pid), undo).has_value();
    };
    DaemonSetup what{.settings = options_.settings, .app = application_, .arm = arm_it};
    daemons_[fault] = std::async(std::launch::async, [what = std::move(what), pester] {
      return pester == 0 ? kill_a_daemon(what) : pester_a_daemon(what, pester);
    });
  }
  std::optional<Evidence> daemon_seen(const std::string& fault, bool wait) override {
    const auto found = daemons_.find(fault);
    if (found == daemons_.end()) return std::unexpected("no daemon was started");
    if (!wait && found->second.wait_for(0s) != std::future_status::ready) return std::nullopt;
    const DaemonSeen seen = found->second.get();
    daemons_.erase(found);
    left_.insert(left_.end(), seen.left.begin(), seen.left.end());
    if (!seen.failure.empty()) return std::unexpected(seen.failure);
    return seen.proof;
  }

  Evidence spoil_disk(const DiskFault& fault) override {
    if (!disk_) return std::unexpected("nobody stands between the store and its disk");
    disk_->spoil(fault);
    return "the store's writes are hit";
  }
  Evidence mend_disk(const std::string&) override {
    if (disk_) disk_->mend();
    return "the store's writes are as they were";
  }

  Evidence misbehave(const host::WorkerInfo& worker, const ChannelOrder& order) override {
    if (!interposer_) return std::unexpected("nobody stands between");
    if (!interposer_->order(worker.worker, order)) return std::unexpected("the worker is gone");
    return "the order is given";
  }
  Evidence behave(const std::string& fault) override {
    if (interposer_) interposer_->lift(fault);
    return "the order is taken back";
  }

  Evidence order_starts(const std::vector<StartOrder>& all) override {
    std::vector<StartOrder> orders;
    std::vector<ChannelOrder> on_the_wire;
    for (const StartOrder& order : all) {
      const bool wire = order.words.starts_with("wire ");
      const auto what = wire ? misdeed_from(order.words.substr(5)) : std::nullopt;
      if (what) on_the_wire.push_back({.fault = order.fault, .what = *what});
      if (!wire) orders.push_back(order);
    }
    if (interposer_) interposer_->order_starts(on_the_wire);
    if (orders.empty()) return undo("control");
    if (!armed_.contains("control")) {
      const auto armed =
          arm("control", {.lease_ms = lease(60s), .kind = Undo::Kind::kUnlink, .path = control_});
      if (!armed) return std::unexpected(armed.error());
    }
    std::string text;
    for (const StartOrder& order : orders) text += order.fault + " " + order.words + "\n";
    if (const auto written = write_file(control_ + ".new", text); !written) {
      return std::unexpected(written.error());
    }
    std::error_code error;
    fs::rename(control_ + ".new", control_, error);
    if (error) return std::unexpected(error.message());
    return "the control file is in place";
  }
  std::uint64_t obeyed(const std::string& fault) override {
    std::uint64_t n = 0;
    read_ledger([&](const std::string& kind, std::istringstream& rest) {
      std::string id;
      if (kind == "O" && rest >> id) n += id == fault;
    });
    if (interposer_) n += interposer_->hits(fault);
    if (disk_) n += disk_->hits(fault);
    return n;
  }

  std::vector<EffectEvent> effects() override {
    std::vector<EffectEvent> out;
    read_ledger([&](const std::string& kind, std::istringstream& rest) {
      EffectEvent effect;
      char dot = 0;
      if (kind != "E") return;
      rest >> effect.call >> effect.worker.slot >> dot >> effect.worker.generation >>
          effect.birth >> effect.epoch >> effect.session;
      if (rest.fail()) return;
      if (effect.session == "-") effect.session.clear();
      out.push_back(std::move(effect));
    });
    return out;
  }
  bool effects_known() const override { return true; }
  bool links_known() const override { return options_.settings.pool.backend == Backend::kPython; }
  std::string function_of(const std::string& word) const override {
    if (word == "no-such-function") return word;
    const std::string plain = word == "echo-malformed" ? "echo" : word;
    if (options_.settings.pool.backend == Backend::kPython) return "chaos_" + plain;
    return plain == "chain" ? "counter" : plain;
  }

  std::optional<MachineSample> machine() override { return look_at_machine(options_.directory); }
  Census census(std::string when) override {
    if (when == "before") return before_;
    Census now = count(when);
    soon(
        [&] {
          now = count(when);
          return now.processes.size() <= before_.processes.size() &&
                 now.threads <= before_.threads && now.descriptors <= before_.descriptors;
        },
        kCensusPatience);
    return now;
  }

 private:
  struct Process {
    os::Pidfd handle;
    std::uint64_t start_time = 0;
  };
  // A handle on a process that is a worker or zygote of this very pool; else why not.
  std::expected<Process, std::string> ours(pid_t pid) {
    if (pid <= 1) return std::unexpected("the worker has no process yet");
    auto handle = os::Pidfd::open(pid);
    if (!handle) return std::unexpected("the process is gone");
    const auto owner = os::environment_value(pid, "KEELBACK_OWNER=");
    const auto stat = os::read_stat(pid);
    if (!stat) return std::unexpected("the process is gone");
    if (!owner || *owner != host::owner_of_this_process()) {
      return std::unexpected(fmt::format("pid {} does not carry our owner token", pid));
    }
    return Process{std::move(*handle), stat->start_time};
  }

  // Kills and reaps; what is gone already is reaped.
  static void dismiss(const std::vector<pid_t>& competitors) {
    for (const pid_t pid : competitors) {
      ::kill(pid, SIGKILL);  // our own child, not yet reaped: the number is its own
      static_cast<void>(os::reap_own_child(pid));
    }
  }

  // A process that a signal was sent to, and how it takes that.
  struct Signalled {
    pid_t pid = 0;
    Process process;
    bool ignored = false, caught = false;
    Clock::time_point sent;
  };

  static bool has(pid_t pid, std::string_view field, int signal) {
    return (status_field(pid, field, 16) >> (signal - 1) & 1) != 0;
  }

  // To all of them first, and only then is looked for the proof: what waits for one death lets the
  // next one live, and the load wait.
  Evidence signal_processes(const std::vector<pid_t>& pids, int signal, bool harmless) {
    std::vector<Signalled> all;
    for (const pid_t pid : pids) {
      auto process = ours(pid);
      if (!process) return std::unexpected(process.error());
      all.push_back({.pid = pid,
                     .process = std::move(*process),
                     .ignored = has(pid, "SigIgn:", signal),
                     .caught = has(pid, "SigCgt:", signal)});
    }
    for (Signalled& each : all) {
      each.sent = Clock::now();
      if (const auto done = each.process.handle.send_signal(signal); !done) {
        return std::unexpected(done.error().message());
      }
    }
    std::string proof;
    for (const Signalled& each : all) {
      const bool taken = harmless && (each.ignored || each.caught);
      const Evidence evidence = taken ? taken_by(each, signal) : death_of(each, signal);
      if (!evidence) return evidence;
      proof += (proof.empty() ? "" : "; ") + *evidence;
    }
    return proof;
  }

  static Evidence taken_by(const Signalled& who, int signal) {
    if (!soon([&] { return !has(who.pid, "ShdPnd:", signal); }, kProofWait)) {
      return std::unexpected(fmt::format("pid {}: signal {} was not taken", who.pid, signal));
    }
    return fmt::format("pid {}: signal {} sent, in {}, and taken; state {}", who.pid, signal,
                       who.caught ? "SigCgt" : "SigIgn", state_of(who.pid).value_or('-'));
  }

  static Evidence death_of(const Signalled& who, int signal) {
    int status = 0;
    const bool dead = soon(
        [&] {
          const auto stat = os::read_stat(who.pid);
          const bool same = stat && stat->start_time == who.process.start_time;
          if (same && stat->state == 'Z') status = stat->exit_status;
          const auto over = who.process.handle.wait_dead(0ms);
          return over && *over;
        },
        kProofWait);
    if (!dead) {
      return std::unexpected(fmt::format("pid {} lives on after signal {}{}", who.pid, signal,
                                         who.caught ? ", which the application catches" : ""));
    }
    if (const auto stat = os::read_stat(who.pid);
        status == 0 && stat && stat->state == 'Z' && stat->start_time == who.process.start_time) {
      status = stat->exit_status;
    }
    const double took = std::chrono::duration<double, std::milli>(Clock::now() - who.sent).count();
    return fmt::format("pid {}: pidfd says dead {:.2f} ms after signal {}{}", who.pid, took, signal,
                       status != 0 ? fmt::format("; wait status {}", status) : "");
  }

  Evidence stop_process(pid_t pid, Duration at_most) {
    const auto process = ours(pid);
    if (!process) return std::unexpected(process.error());
    const auto armed = arm(fmt::format("stop {}", pid), {.lease_ms = lease(at_most),
                                                         .kind = Undo::Kind::kContinue,
                                                         .pid = pid,
                                                         .start_time = process->start_time});
    if (!armed) return std::unexpected(armed.error());
    if (const auto sent = process->handle.send_signal(SIGSTOP); !sent) {
      return std::unexpected(sent.error().message());
    }
    if (!soon([&] { return state_of(pid) == 'T'; }, kProofWait)) {
      return std::unexpected(
          fmt::format("pid {} is in state {} after SIGSTOP", pid, state_of(pid).value_or('-')));
    }
    return fmt::format("pid {}: state T in /proc/{}/stat", pid, pid);
  }

  static std::uint64_t lease(Duration planned) {
    return static_cast<std::uint64_t>(
               std::chrono::ceil<std::chrono::milliseconds>(planned).count()) +
           kLeaseSlackMs;
  }
  std::expected<void, std::string> arm(const std::string& name, Undo record) {
    const std::lock_guard lock(warden_mutex_);
    const auto id = warden_.arm(std::move(record));
    if (!id) return std::unexpected(id.error());
    armed_[name] = *id;
    return {};
  }
  Evidence undo(const std::string& name) {
    const std::lock_guard lock(warden_mutex_);
    const auto found = armed_.find(name);
    if (found == armed_.end()) return "nothing was in force";
    const auto done = warden_.undo(found->second);
    armed_.erase(found);
    return done;
  }

  template <class Line>
  void read_ledger(Line line) {
    std::ifstream in(ledger_);
    std::string text;
    while (std::getline(in, text)) {
      std::istringstream words(text);
      std::string kind;
      if (words >> kind) line(kind, words);
    }
  }

  Census count(const std::string& when) const {
    Census out{.when = when, .known = true};
    out.descriptors = os::count_open_fds().value_or(0);
    if (const auto stat = os::read_stat(::getpid())) out.threads = stat->threads;
    const std::string owner = "KEELBACK_OWNER=" + host::owner_of_this_process();
    std::vector<pid_t> family = os::descendants_of(::getpid());
    for (const pid_t pid : os::all_processes()) {
      const bool known = std::ranges::find(family, pid) != family.end();
      if (!known && os::environment_has(pid, owner)) family.push_back(pid);
    }
    for (const pid_t pid : family) {
      if (pid != warden_.pid() && pid != ::getpid()) {
        out.processes.push_back(fmt::format("pid {}", pid));
      }
    }
    if (when == "after") out.processes.insert(out.processes.end(), left_.begin(), left_.end());
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/dev/shm", error)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("keelback") || is_of_another_laboratory(entry.path().string()))
        continue;
      out.files.push_back(entry.path().string());
    }
    std::ranges::sort(out.files);
    return out;
  }

  const WorldOptions options_;
  std::string ledger_, control_;
  std::vector<MemoryFile> written_;  // while the run goes on
  const Clock::time_point began_ = Clock::now();
  std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  std::mutex warden_mutex_;  // guards warden_ and armed_: daemons are killed on threads of theirs
  Warden warden_;
  std::map<std::string, std::uint64_t> armed_;
  pid_t zygote_ = 0;
  std::map<pid_t, std::vector<pid_t>> competitors_;  // by the worker that they starve
  const std::string shared_;
  Census before_;
  std::string application_;  // absolute, if it is a path
  std::string interpreter_;  // of the run's own, if it has one
  std::map<std::string, std::future<DaemonSeen>> daemons_;
  std::vector<std::string> left_;  // by daemons that were killed
  std::unique_ptr<Interposer> interposer_;
  std::unique_ptr<BadDisk> disk_;  // goes after the driver, whose store writes through it
  std::unique_ptr<host::Driver> driver_;
};

}  // namespace

std::expected<std::unique_ptr<World>, std::string> make_real_world(const WorldOptions& options) {
  auto world = std::make_unique<RealWorld>(options);
  if (const auto started = world->start(); !started) return std::unexpected(started.error());
  return world;
}

}  // namespace keelback::chaos
