#include "chaos/daemon.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/settings_text.h"
#include "chaos/json.h"
#include "host/environment.h"
#include "host/install.h"
#include "load/application.h"
#include "load/http.h"
#include "load/soon.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kGoneLimit = 5s;    // from the daemon's death to its last process's
constexpr auto kStartLimit = 60s;  // the application's import included
constexpr auto kAnswerLimit = 10s;
constexpr int kHoldMs = 8000;
constexpr int kQuestions = 5;

// A process by pid and start time: another process with this pid is another one.
struct Named {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
};
bool lives(const Named& process) {
  const auto stat = os::read_stat(process.pid);
  return stat && stat->start_time == process.start_time && stat->state != 'Z' && stat->state != 'X';
}

// Its descendants, and all processes that carry its mark.
std::vector<Named> family_of(pid_t daemon) {
  std::vector<pid_t> pids = os::descendants_of(daemon);
  const std::string mark = fmt::format("{}.", daemon);
  for (const pid_t pid : os::all_processes()) {
    const auto owner = os::environment_value(pid, "KEELBACK_OWNER=");
    if (owner && owner->starts_with(mark) && std::ranges::find(pids, pid) == pids.end()) {
      pids.push_back(pid);
    }
  }
  std::vector<Named> out;
  for (const pid_t pid : pids) {
    const auto stat = os::read_stat(pid);
    if (stat && pid != daemon) out.push_back({pid, stat->start_time});
  }
  return out;
}

double ms_since(Clock::time_point from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

using load::http_request;

class Daemon {
 public:
  explicit Daemon(const DaemonSetup& what) : what_(what) {
    std::error_code error;
    std::string pattern = (fs::temp_directory_path(error) / "keelback-daemon-XXXXXX").string();
    const char* made = ::mkdtemp(pattern.data());
    directory_ = made != nullptr ? made : "";
  }
  ~Daemon() {
    end();
    std::error_code error;
    if (!directory_.empty()) fs::remove_all(directory_, error);
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  DaemonSeen kill_it() {
    DaemonSeen out;
    const std::uint32_t workers = what_.settings.pool.workers;
    if (!start(out.failure)) return out;
    std::vector<Client> holding;
    const std::string hold =
        http_request("POST", "/v1/call/" + word("hold"), fmt::format("[{}]", kHoldMs));
    for (std::uint32_t i = 0; i < workers; ++i) sends(holding.emplace_back(connect()), hold);
    if (!load::soon([&] { return busy() == workers; }, kAnswerLimit, 2ms)) {
      out.failure = fmt::format("only {} of {} workers of the daemon became busy", busy(), workers);
      return out;
    }
    const pid_t first = pid_;
    const std::vector<Named> family = family_of(first);
    const auto killed = Clock::now();
    end();
    const bool gone =
        load::soon([&] { return std::ranges::none_of(family, lives) && family_of(first).empty(); },
                   kGoneLimit, 2ms);
    const double took = ms_since(killed);
    if (!gone) {
      for (const Named& each : family_of(first)) {
        out.left.push_back(fmt::format("pid {} of the killed daemon {}", each.pid, first));
      }
    }
    std::string proof = fmt::format(
        "daemon {}: SIGKILL while all of its {} workers held the interpreter; {} of its "
        "{} other processes gone, the last after {:.1f} ms",
        first, workers, family.size() - out.left.size(), family.size(), took);
    const auto restarted = Clock::now();
    if (!start(out.failure)) {
      out.failure = proof + "; the next one did not come up: " + out.failure;
      return out;
    }
    int answered = 0;
    for (int i = 0; i < kQuestions; ++i) answered += asked();
    ::kill(pid_, SIGTERM);
    if (const auto handle = os::Pidfd::open(pid_)) static_cast<void>(handle->wait_dead(10s));
    out.proof =
        fmt::format("{}; the next one was ready after {:.0f} ms and answered {} of {} calls", proof,
                    ms_since(restarted), answered, kQuestions);
    if (answered < kQuestions) out.failure = out.proof;
    return out;
  }

  DaemonSeen pester(std::uint32_t clients) {
    DaemonSeen out;
    if (!start(out.failure)) return out;
    const std::string half = "POST /v1/call/" + word("echo") + " HTTP/1.1\r\nHost: loc";
    const std::string large = http_request("POST", "/v1/call/" + word("blob"), "[1000000]");
    const std::string slow = http_request("POST", "/v1/call/" + word("sleep"), "[100]");
    std::vector<Client> held;
    std::uint32_t bad = 0;
    for (std::uint32_t i = 0; i < clients; ++i) {
      bad += sends(held.emplace_back(connect()), half);
      bad += sends(held.emplace_back(connect()), large);
      Client leaves = connect();
      bad += sends(leaves, slow);
    }
    if (bad < clients * 3) {
      out.failure = fmt::format("only {} of {} bad clients got in", bad, clients * 3);
      return out;
    }
    int answered = 0;
    double slowest = 0;
    for (int i = 0; i < 4 * kQuestions; ++i) {
      const auto began = Clock::now();
      answered += asked();
      slowest = std::max(slowest, ms_since(began));
    }
    const Json pool = get("/v1/pool");
    const auto restarts = pool.is_object() ? pool.value("restarts", 1) : 1;
    ::kill(pid_, SIGTERM);
    const auto stopping = Clock::now();
    const auto handle = os::Pidfd::open(pid_);
    const auto dead = handle ? handle->wait_dead(30s) : os::Result<bool>(true);
    out.proof = fmt::format(
        "{} clients sent half a request, {} never read 1 MB, {} hung up: {} of {} ordinary calls "
        "were answered, the slowest in {:.0f} ms; {} workers died; SIGTERM ended the daemon in "
        "{:.0f} ms",
        clients, clients, clients, answered, 4 * kQuestions, slowest, restarts, ms_since(stopping));
    if (answered < 4 * kQuestions || restarts != 0 || !dead || !*dead) out.failure = out.proof;
    return out;
  }

 private:
  using Client = std::expected<load::HttpConnection, std::string>;

  std::string socket() const { return directory_ + "/s"; }
  Client connect() const { return load::HttpConnection::open(socket()); }
  static bool sends(Client& client, const std::string& bytes) {
    return client && client->send(bytes);
  }
  // Status 0: it did not answer.
  load::HttpConnection::Reply ask(std::string_view method, const std::string& path,
                                  const std::string& body = {}) const {
    Client client = connect();
    return client ? client->exchange(http_request(method, path, body))
                  : load::HttpConnection::Reply{};
  }
  std::string word(const std::string& plain) const {
    return (what_.settings.pool.backend == Backend::kPython ? "chaos_" : "") + plain;
  }

  bool start(std::string& failure) {
    const std::string program = host::find_program("keelback");
    if (program.empty() || directory_.empty()) {
      failure = program.empty() ? "the program keelback is not installed" : "no directory";
      return false;
    }
    const Settings& settings = what_.settings;
    const bool python = settings.pool.backend == Backend::kPython;
    std::vector<std::string> argv = {"/usr/bin/env",
                                     "KEELBACK_CHAOS_APP=" + what_.app,
                                     program,
                                     "serve",
                                     python ? load::lab_application("chaos_probe") : "standard",
                                     "--wait-for-app",
                                     "--listen",
                                     "unix:" + socket()};
    const auto set = [&](std::string_view key, const std::string& value) {
      argv.insert(argv.end(), {"--set", fmt::format("{}={}", key, value)});
    };
    set("pool.backend", std::string(setting_name(settings.pool.backend)));
    set("pool.workers", std::to_string(settings.pool.workers));
    set("pool.min_ready", std::to_string(settings.pool.workers));
    set("workers.zygote", std::string(setting_name(settings.workers.zygote)));
    if (python) set("workers.python", settings.workers.python);
    const auto null = os::open_null();
    if (!null) return failure = null.error().message(), false;
    const int fds[] = {null->get(), null->get(), null->get()};
    const auto pid = os::spawn(argv, fds);
    if (!pid) return failure = pid.error().message(), false;
    pid_ = *pid;
    const auto stat = os::read_stat(pid_);
    if (!stat || !what_.arm({.lease_ms = 180'000,
                             .kind = Undo::Kind::kKill,
                             .pid = pid_,
                             .start_time = stat->start_time})) {
      failure = "the warden could not be told of the daemon";
      return false;
    }
    const bool ready =
        load::soon([&] { return ask("GET", "/readyz").status == 200; }, kStartLimit, 2ms);
    if (!ready) failure = "the daemon was not ready in time";
    return ready;
  }

  Json get(const std::string& path) const {
    return Json::parse(ask("GET", path).body, nullptr, false);
  }

  std::uint32_t busy() {
    const Json all = get("/v1/workers");
    std::uint32_t n = 0;
    if (!all.is_array()) return 0;
    for (const Json& each : all) n += each.value("state", "") == "busy";
    return n;
  }

  bool asked() const {
    return ask("POST", "/v1/call/" + word("echo"), "[\"alive\"]").status == 200;
  }

  void end() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);  // our own child, not yet reaped: the number is its own
    static_cast<void>(os::reap_own_child(pid_));
    pid_ = 0;
    std::error_code error;
    fs::remove(socket(), error);
  }

  const DaemonSetup what_;
  std::string directory_;
  pid_t pid_ = 0;
};

}  // namespace

DaemonSeen kill_a_daemon(const DaemonSetup& what) { return Daemon(what).kill_it(); }

DaemonSeen pester_a_daemon(const DaemonSetup& what, std::uint32_t clients) {
  return Daemon(what).pester(clients);
}

}  // namespace keelback::chaos
