// Real processes as an engine: a host::Driver, its workers, the warden, and the ledger files that
// workers write.
#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>
#include <sstream>
#include <thread>

#include "api/driver_factory.h"
#include "base/settings_text.h"
#include "chaos/lab.h"
#include "chaos/memory_file.h"
#include "chaos/processes.h"
#include "chaos/words.h"
#include "chaos/world.h"
#include "host/environment.h"
#include "host/install.h"
#include "load/application.h"
#include "load/soon.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kSqlite = "sqlite:";
constexpr std::uint32_t kItemsMax = 1'000'000;  // of a stream
constexpr Duration kCensusPatience = 1s;        // for what is on its way out
// Shared with the driver's loop thread, which may outlive a call's waiting.
struct Inbox {
  std::mutex mutex;
  std::condition_variable some;
  std::vector<Ended> ended;  // guarded by mutex
};

class RealWorld final : public World {
 public:
  explicit RealWorld(const WorldOptions& options)
      : World(options),
        ledger_(options.directory + "/effects.log"),
        control_(options.directory + "/control") {}

  ~RealWorld() override {
    driver_.reset();
    options_.means = {};
    std::error_code error;
    fs::remove(control_, error);
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
    auto processes =
        Processes::start(fs::absolute(options_.directory, error).string() + "/" + kJournalName);
    if (!processes) return std::unexpected(processes.error());
    processes_ = std::move(*processes);
    before_ = count("before");
    const bool path = options_.app.find('/') != std::string::npos || options_.app.ends_with(".py");
    if (path) options_.app = fs::absolute(options_.app, error).string();
    for (const auto prepare : options_.prepare) {
      if (const auto prepared = prepare(options_); !prepared) return prepared;
    }
    api::DriverOptions made;
    made.settings = options_.settings;
    // Always a file of this run, whatever path the scenario gives.
    if (std::string& store = made.settings.sessions.store; store.starts_with(kSqlite)) {
      const std::string name = fs::path(store.substr(kSqlite.size())).filename().string();
      store = std::string(kSqlite) + fs::absolute(options_.directory, error).string() + "/" + name;
    }
    made.seed = options_.seed;
    // The pool's own log is evidence of the run, not output of the command.
    made.logger = std::make_shared<spdlog::logger>(
        "pool", std::make_shared<spdlog::sinks::basic_file_sink_mt>(log, true));
    made.logger->flush_on(spdlog::level::info);
    if (!options_.interpreter.empty()) made.settings.workers.python = options_.interpreter;
    if (options_.settings.pool.backend == Backend::kPython) {
      made.app = load::lab_application("chaos_probe");
    } else {
      made.app = "standard";
    }
    made.interpose = options_.interpose;
    made.environment = {{"KEELBACK_CHAOS_LEDGER", ledger_}, {"KEELBACK_CHAOS_CONTROL", control_}};
    made.environment.insert(made.environment.end(), options_.environment.begin(),
                            options_.environment.end());
    if (!options_.app.empty()) made.environment.emplace_back("KEELBACK_CHAOS_APP", options_.app);
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
  std::uint64_t stream(Call call, std::uint64_t index) override {
    auto items = std::make_shared<Items>();  // of both callbacks, on the loop's thread
    const CallId id = driver_->stream(
        std::move(call), [items](std::string&& item) { items->take(item); },
        [inbox = inbox_, index, items, began = began_](Outcome&& outcome) {
          const Duration at = Clock::now() - began;
          const std::lock_guard lock(inbox->mutex);
          inbox->ended.push_back({index, at, std::move(outcome), *items});
          inbox->some.notify_all();
        });
    driver_->grant(id, kItemsMax);
    return id.value;
  }
  bool cancel(std::uint64_t call) override { return driver_->cancel(CallId{call}); }
  std::vector<Ended> take_ended() override {
    const std::lock_guard lock(inbox_->mutex);
    return std::exchange(inbox_->ended, {});
  }

  host::PoolInfo info() override { return driver_->info(); }
  std::vector<host::WorkerInfo> workers() override { return driver_->workers(); }
  std::shared_ptr<const Application> application() override { return driver_->application(); }
  bool end_session(const std::string& session) override {
    return driver_->end_session_here(session);
  }
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
    options_.means = {};
    return ended;
  }

  Evidence send_signal(const std::vector<host::WorkerInfo>& targets, int signal,
                       bool harmless) override {
    std::vector<pid_t> pids;
    for (const host::WorkerInfo& worker : targets) {
      if (!harmless) driver_->order_death(worker.worker);
      pids.push_back(static_cast<pid_t>(worker.pid));
    }
    return Processes::signal(pids, signal, harmless);
  }
  Evidence stop(const host::WorkerInfo& worker, Duration at_most) override {
    return processes_->stop(static_cast<pid_t>(worker.pid), at_most);
  }
  Evidence resume(const host::WorkerInfo& worker) override {
    return processes_->resume(static_cast<pid_t>(worker.pid));
  }
  Processes* processes() override { return processes_.get(); }

  Evidence order_start(const StartOrder& order) override {
    orders_.push_back(order);
    if (!processes_->armed("control")) {
      const auto armed = processes_->arm(
          "control",
          {.lease_ms = Processes::lease(60s), .kind = Undo::Kind::kUnlink, .path = control_});
      if (!armed) return std::unexpected(armed.error());
    }
    return write_orders();
  }
  Evidence lift_start(const std::string& fault) override {
    std::erase_if(orders_, [&](const StartOrder& each) { return each.fault == fault; });
    return orders_.empty() ? processes_->undo("control") : write_orders();
  }
  std::uint64_t obeyed(const std::string& fault) override {
    std::uint64_t n = 0;
    read_ledger([&](const std::string& kind, std::istringstream& rest) {
      std::string id;
      if (kind == "O" && rest >> id) n += id == fault;
    });
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
    return chaos::function_of(word, options_.settings.pool.backend);
  }

  std::optional<MachineSample> machine() override { return look_at_machine(options_.directory); }
  Census census(std::string when) override {
    if (when == "before") return before_;
    Census now = count(when);
    load::soon(
        [&] {
          now = count(when);
          return now.processes.size() <= before_.processes.size() &&
                 now.threads <= before_.threads && now.descriptors <= before_.descriptors;
        },
        kCensusPatience);
    return now;
  }

 private:
  // The control file: all orders in force.
  Evidence write_orders() const {
    std::string text;
    for (const StartOrder& order : orders_) text += order.fault + " " + order.words + "\n";
    if (const auto written = write_file(control_ + ".new", text); !written) {
      return std::unexpected(written.error());
    }
    std::error_code error;
    fs::rename(control_ + ".new", control_, error);
    if (error) return std::unexpected(error.message());
    return "the control file is in place";
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
      if (pid != processes_->warden() && pid != ::getpid()) {
        out.processes.push_back(fmt::format("pid {}", pid));
      }
    }
    if (when == "after") {
      const auto& left = processes_->left();
      out.processes.insert(out.processes.end(), left.begin(), left.end());
    }
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

  std::string ledger_, control_;
  std::vector<MemoryFile> written_;  // while the run goes on
  const Clock::time_point began_ = Clock::now();
  std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  std::unique_ptr<Processes> processes_;
  std::vector<StartOrder> orders_;
  Census before_;
  api::OwnedDriver driver_;
};

}  // namespace

std::expected<std::unique_ptr<World>, std::string> make_real_world(const WorldOptions& options) {
  auto world = std::make_unique<RealWorld>(options);
  if (const auto started = world->start(); !started) return std::unexpected(started.error());
  return world;
}

}  // namespace keelback::chaos
