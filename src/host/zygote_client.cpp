#include "host/zygote_client.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <boost/asio/post.hpp>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json_text.h"
#include "host/log_lines.h"
#include "os/socket.h"

namespace keelback::host {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

// How often the log of a zygote that ends is read once the loop has ended.
constexpr auto kLogPause = 20ms;

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::int64_t number_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

constexpr std::size_t kHelloMax = 64 << 20;  // bytes

Unsafe unsafe_of(const Json& object) {
  return {text_of(object, "what"), text_of(object, "module"), text_of(object, "detail"),
          static_cast<std::uint64_t>(number_of(object, "bytes"))};
}

// A worker's start has the steps fork, connect, hello, setup; the zygote's import is its hello.
std::string step_of_zygote(const std::string& step) { return step == "setup" ? "setup" : "hello"; }

}  // namespace

std::string why_not_run(const std::string& program, const std::string& directory,
                        const std::error_code& error) {
  std::error_code at_directory;
  if (!directory.empty() && !std::filesystem::is_directory(directory, at_directory)) {
    return fmt::format("the working directory {} is gone: {} cannot be started there", directory,
                       program);
  }
  return fmt::format("cannot run {}: {}", program, error.message());
}

ZygoteClient::ZygoteClient(boost::asio::io_context& loop, GuardClient& guard, std::uint64_t number,
                           SpawnSpec spec, os::Fd lifeline, os::Fd shared, Handlers handlers)
    : loop_(loop),
      guard_(guard),
      number_(number),
      interpreter_(spec.argv.front()),
      directory_(spec.directory),
      environment_(spec.environment),
      handlers_(std::move(handlers)),
      end_timer_(loop) {
  auto orders = os::make_seqpacket_pair();
  auto log = os::make_pipe();
  auto null = os::open_null();
  auto log_copy = log ? os::duplicate(log->write.get()) : std::unexpected(log.error());
  if (!orders || !log_copy || !null || !os::set_nonblocking(log->read.get(), true)) {
    spawned(os::failure(EMFILE));
    return;
  }
  log_ = std::move(log->read);
  log_watch_ = std::make_unique<FdWatch>(loop_, log_.get(), [this] { read_log(); });
  link_ = std::make_unique<PacketLink>(
      loop_, std::move(orders->ours), [this](std::string_view text) { packet(text); },
      [this] { kill(); });
  spec.numbers = {0, 1, 2, 3, 6, 7};
  std::vector<os::Fd> fds;
  fds.push_back(std::move(*null));
  fds.push_back(std::move(log->write));
  fds.push_back(std::move(*log_copy));
  fds.push_back(std::move(orders->theirs));
  fds.push_back(std::move(lifeline));
  fds.push_back(std::move(shared));
  guard_.spawn(spec, std::move(fds),
               [this, alive = std::weak_ptr<int>(alive_), &guard](os::Result<pid_t> pid) {
                 if (!alive.expired()) return spawned(pid);
                 if (pid) {  // we no longer want it: it ends by its order socket
                   ::kill(*pid, SIGKILL);
                   guard.reap(*pid);
                 }
               });
}

ZygoteClient::~ZygoteClient() {
  handlers_alive_.end();
  if (pidfd_ && !reaped_) {
    static_cast<void>(pidfd_.send_signal(SIGKILL));
    static_cast<void>(os::kill_group(pid_));
    guard_.reap(pid_);  // if not yet dead it becomes a stranger, reaped when it is
  }
}

void ZygoteClient::spawned(os::Result<pid_t> pid) {
  if (!pid) {
    boost::asio::post(loop_, [this, alive = std::weak_ptr<int>(alive_), error = pid.error()] {
      if (alive.expired()) return;
      fail({"fork", why_not_run(interpreter_, directory_, error), ""});
    });
    return;
  }
  pid_ = *pid;
  auto pidfd = os::Pidfd::open(pid_);  // its zombie stands until reap()
  if (!pidfd) {
    ::kill(pid_, SIGKILL);
    guard_.reap(pid_);
    return fail({"fork", "no descriptor for the zygote: " + pidfd.error().message(), ""});
  }
  pidfd_ = std::move(*pidfd);
  death_watch_ = watch_death(loop_, pidfd_, [this] { died(); });
  if (kill_wanted_) kill();
}

void ZygoteClient::fork(WorkerId worker, WorkerEnds ends, OnForked done) {
  const std::string name = to_string(worker);
  forking_[name] = {std::move(done), handlers_.now()};
  std::vector<os::Fd> fds;
  fds.push_back(std::move(ends.data));
  fds.push_back(std::move(ends.control));
  fds.push_back(std::move(ends.marks));
  fds.push_back(std::move(ends.log));
  Json order = {{"op", "fork"}, {"worker", name}, {"kin", ends.kin}};
  if (!ends.place.directory.empty()) {
    order["cgroup"] = {{"directory", ends.place.directory},
                       {"required", ends.place.required},
                       {"settings", std::map<std::string, std::string>(ends.place.settings.begin(),
                                                                       ends.place.settings.end())}};
  }
  for (const auto& [variable, value] : ends.environment) {
    order["env"][variable] = value ? Json(*value) : Json();
  }
  // What we have inherited may be no UTF-8.
  std::string packet = order.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (!link_ || !link_->send(std::move(packet), std::move(fds))) {
    boost::asio::post(loop_, [this, name, alive = std::weak_ptr<int>(alive_)] {
      if (alive.expired()) return;
      auto node = forking_.extract(name);
      if (!node.empty()) node.mapped().done(StartFailure{"fork", "the zygote takes no orders", ""});
    });
  }
}

void ZygoteClient::reap(pid_t pid) {
  if (workers_ > 0) --workers_;
  if (link_) static_cast<void>(link_->send(fmt::format(R"({{"op":"reap","pid":{}}})", pid)));
}

void ZygoteClient::end(std::chrono::milliseconds limit) {
  if (state_ != State::kUp || limit == 0ms) return kill();
  if (!link_) return;  // it has been told
  // Perhaps we are in its handler.
  boost::asio::post(loop_, [link = std::move(link_)] {});
  end_timer_.expires_after(limit);
  end_timer_.async_wait(handlers_alive_.guard([this](const boost::system::error_code& error) {
    if (!error) kill();
  }));
}

void ZygoteClient::begin_to_end() {
  const auto stat = os::read_stat(pid_);
  const bool stopped = stat && (stat->state == 'T' || stat->state == 't');
  if (state_ != State::kUp || stopped) return kill();
  link_.reset();
}

void ZygoteClient::finish_to_end(Time until) {
  while (state_ == State::kUp) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - handlers_.now());
    if (left <= 0ms) return kill();
    const auto dead = pidfd_.wait_dead(std::min(left, kLogPause));
    if (!dead) return kill();
    if (*dead) return died();
    read_log();  // it must not wait for room there
  }
}

void ZygoteClient::kill() {
  kill_wanted_ = true;
  if (pidfd_) static_cast<void>(pidfd_.send_signal(SIGKILL));
}

void ZygoteClient::give_up(StartFailure failure) {
  failure_ = std::move(failure);
  state_ = State::kStarting;
  kill();
}

void ZygoteClient::packet(std::string_view text) {
  const Json object = parse_json<Json>(text);
  if (!object.is_object()) return kill();
  const std::string op = text_of(object, "op");
  if (op == "ready") {
    state_ = State::kUp;
    const auto hello = object.find("hello");
    const auto import_s = object.find("import_s");
    const auto refusal = object.find("unsafe");
    const bool safe = refusal == object.end() || !refusal->is_object();
    const Unsafe unsafe = safe ? Unsafe{} : unsafe_of(*refusal);
    handlers_.ready(hello != object.end() ? hello->dump() : std::exchange(hello_, {}),
                    import_s != object.end() && import_s->is_number() ? import_s->get<double>() : 0,
                    safe ? nullptr : &unsafe);
  } else if (op == "hello") {
    if (hello_.size() > kHelloMax) return kill();
    hello_ += text_of(object, "text");
  } else if (op == "failed") {
    // The process exits by itself; what it printed is read before its death is reported.
    failure_ = {step_of_zygote(text_of(object, "step")),
                fmt::format("{}: {}", text_of(object, "type"), text_of(object, "message")),
                text_of(object, "traceback")};
  } else if (op == "notice") {
    handlers_.notice(text_of(object, "text"));
  } else if (op == "forked" || op == "unsafe" || op == "fork_failed") {
    auto node = forking_.extract(text_of(object, "worker"));
    if (node.empty()) return;
    if (op == "forked") {
      ++workers_;
      node.mapped().done(static_cast<pid_t>(number_of(object, "pid")));
    } else if (op == "unsafe") {
      node.mapped().done(unsafe_of(object));
    } else {
      node.mapped().done(StartFailure{"fork", "fork failed: " + text_of(object, "detail"), ""});
    }
  }
}

void ZygoteClient::read_log() {
  std::string piece(kLogPerTurn, '\0');
  const auto got = os::read_some(log_.get(), piece.data(), piece.size());
  std::vector<std::string> lines;
  if (got && *got > 0) {
    lines_.feed(handlers_.now(), std::string_view(piece).substr(0, *got), lines);
  } else if (got) {  // errors pass; the end does not
    lines_.finish(handlers_.now(), lines);
    log_watch_->stop();
  }
  for (const std::string& line : lines) handlers_.log_line(line);
}

void ZygoteClient::mark_dropped() {
  const LogLines::Flood flood = lines_.take_flood();
  if (flood.dropped > 0) handlers_.log_dropped(flood.dropped);
  for (const std::string& line : flood.held) handlers_.log_line(line);
}

void ZygoteClient::died() {
  death_watch_->stop();
  read_log();
  mark_dropped();
  const auto stat = os::read_stat(pid_);
  // Programs that the import started and left. Workers have groups of their own.
  static_cast<void>(os::kill_group(pid_));
  guard_.reap(pid_);
  reaped_ = true;
  const bool was_up = state_ == State::kUp;
  StartFailure failure = failure_;
  if (failure.step.empty()) {
    failure.step = "hello";
    failure.detail = "the zygote ended before the application was imported";
    if (stat && stat->state == 'Z' && WIFSIGNALED(stat->exit_status)) {
      failure.detail += fmt::format(" (signal {})", WTERMSIG(stat->exit_status));
    } else if (stat && stat->state == 'Z') {
      failure.detail += fmt::format(" (exit code {})", WEXITSTATUS(stat->exit_status));
    }
  }
  // A traceback that was printed as well is not shown twice.
  const std::string tail = lines_.tail();
  const bool printed = tail.find(failure.stderr_tail) != std::string::npos;
  failure.stderr_tail = printed ? tail : tail + failure.stderr_tail;
  if (was_up) {
    state_ = State::kDead;
    cancel_forks(StartFailure{"fork", "the zygote died", "", /*bereft=*/true});
    handlers_.ended();
  } else {
    fail(std::move(failure));
  }
}

void ZygoteClient::fail(StartFailure failure) {
  failure_ = std::move(failure);
  state_ = State::kFailed;
  cancel_forks(StartFailure{"fork", "the zygote failed", ""});
  handlers_.ended();
}

void ZygoteClient::cancel_forks(const ForkAnswer& answer) {
  for (auto& [name, fork] : std::exchange(forking_, {})) fork.done(answer);
}

Duration ZygoteClient::owes(WorkerId worker) const {
  const auto found = forking_.find(to_string(worker));
  return found == forking_.end() ? Duration{0} : handlers_.now() - found->second.since;
}

}  // namespace keelback::host
