// Calls in one worker keep memory, files, threads or shared memory.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/hash.h"
#include "chaos/fault.h"
#include "os/process.h"

namespace keelback::chaos::faults::leaks {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

const std::vector<OutcomeKind> kCosts = {kTimeout, kWorkerDied, kSessionLost, kOverloaded};
// Files in memory do no harm while they wait. A worker may still be about to use the place.
constexpr Duration kSharedSlack = 30s;

// What a process holds, by the kernel's books: the evidence of a leak.
struct Holdings {
  std::uint64_t descriptors = 0, threads = 0;
  std::uint64_t segments = 0, shared_bytes = 0;  // mapped from files below the given path
};

// nullopt: it is gone.
std::optional<Holdings> holdings_of(pid_t pid, std::string_view shared_path) {
  const auto stat = os::read_stat(pid);
  if (!stat) return std::nullopt;
  Holdings out{.threads = stat->threads};
  if (const auto descriptors = os::descriptors_of(pid)) out.descriptors = descriptors->size();
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    if (line.find(shared_path) == line.npos) continue;
    char* dash = nullptr;
    const std::uint64_t from = std::strtoull(line.c_str(), &dash, 16);
    if (dash == nullptr || *dash != '-') continue;
    ++out.segments;
    out.shared_bytes += std::strtoull(dash + 1, nullptr, 16) - from;
  }
  return out;
}

struct Growth final : OwnCalls {
  std::uint64_t fills() const override { return count("calls") * bytes("size"); }

 private:
  // By the pool's own numbers of the worker.
  void decide(const Seen&, Duration at) override {
    for (const host::WorkerInfo& before : targets()) {
      for (const host::WorkerInfo& now : recorder().workers()) {
        if (now.worker != before.worker || now.rss_bytes < before.rss_bytes + fills() / 2) continue;
        bit(at, fmt::format("pid {}: resident {} MiB, {} MiB before", now.pid, now.rss_bytes >> 20,
                            before.rss_bytes >> 20));
      }
    }
  }
};

// Where functions may leave shared memory behind.
struct SharedPlace {
  std::string path;
};

std::expected<void, std::string> prepare(WorldOptions& options) {
  const std::string path = fmt::format("{}{}-{:x}", kShared, ::getpid(), fnv1a(options.directory));
  options.means.add(std::make_shared<SharedPlace>(path));
  options.environment.emplace_back("KEELBACK_CHAOS_SHARED", path);
  return {};
}

// What the kernel says of the worker, before and after. What a worker keeps goes with it.
struct Leak : OwnCalls {
  void before() override {
    if (!targets().empty()) before_ = look();
  }
  Evidence undo() override {
    for (const host::WorkerInfo& target : targets()) {
      const auto same = [&](const auto& worker) { return worker.worker == target.worker; };
      if (std::ranges::any_of(recorder().workers(), same)) world().recycle(target.worker.slot);
    }
    return "the worker is replaced";
  }

 protected:
  // The proof, if it has grown enough; else empty.
  virtual std::string grown(const Holdings& before, const Holdings& now) const = 0;
  std::uint64_t half_of(std::string_view each) const { return count("calls") * count(each) / 2; }

 private:
  std::optional<Holdings> look() const {
    const auto* place = world().options().means.find<SharedPlace>();
    return holdings_of(static_cast<pid_t>(targets().front().pid),
                       place == nullptr ? std::string_view() : std::string_view(place->path));
  }
  void decide(const Seen&, Duration at) override {
    if (over || targets().empty() || !before_) return;
    const auto now = look();
    if (!now) return;
    const std::string proof = grown(*before_, *now);
    if (!proof.empty()) bit(at, fmt::format("pid {}: {}", targets().front().pid, proof));
  }

  std::optional<Holdings> before_;
};

struct Files final : Leak {
  std::string grown(const Holdings& before, const Holdings& now) const override {
    if (now.descriptors < before.descriptors + half_of("files")) return "";
    return fmt::format("{} descriptors, {} before", now.descriptors, before.descriptors);
  }
};

struct Threads final : Leak {
  std::string grown(const Holdings& before, const Holdings& now) const override {
    if (now.threads < before.threads + half_of("threads")) return "";
    return fmt::format("{} threads, {} before", now.threads, before.threads);
  }
};

struct Shared final : Leak {
  std::uint64_t fills() const override { return count("calls") * bytes("size"); }
  void inject(Duration) override { begun(lend()); }
  // Taken back, nothing is left of it.
  Evidence undo() override {
    static_cast<void>(Leak::undo());
    return world().processes()->undo("shared");
  }

 private:
  Evidence lend() {
    const auto* place = world().options().means.find<SharedPlace>();
    if (place == nullptr) return std::unexpected("there is no place for shared memory");
    const auto armed = world().processes()->arm(
        "shared", {.lease_ms = Processes::lease(spec().lasts + kSharedSlack),
                   .kind = Undo::Kind::kRemove,
                   .path = place->path});
    if (!armed) return std::unexpected(armed.error());
    std::error_code error;
    fs::create_directory(place->path, error);
    if (error) return std::unexpected(error.message());
    fs::permissions(place->path, fs::perms::owner_all, error);
    return place->path + " is there";
  }
  std::string grown(const Holdings&, const Holdings& now) const override {
    if (now.shared_bytes < fills() / 2) return "";
    return fmt::format("{} segments in /dev/shm mapped, {} KiB", now.segments,
                       now.shared_bytes >> 10);
  }
};

std::function<void(CallPlan&)> keep(std::string_view function, std::string_view parameter,
                                    std::uint64_t (*value)(const FaultSpec&, std::string_view)) {
  return [=](CallPlan& plan) {
    plan.same(function, fmt::format("[{}]", value(plan.fault, parameter)));
    plan.after_bite();
  };
}

FaultClass leak(FaultClass made, Parameter size) {
  made.parameters = {{"calls", kCount, "10", "20", "40", "that keep some"}, size};
  made.undo =
      made.undo == kNothingToUndo ? "the worker is replaced, on the laboratory's order" : made.undo;
  made.lasts = made.replaced = true;
  made.expected = kCosts;
  return made;
}

}  // namespace

std::vector<FaultClass> classes() {
  return {
      {.name = "mem.leak",
       .what = "Calls in one worker keep memory for ever.",
       .proof = "the worker's resident memory has grown by at least half of it",
       .parameters = {{"calls", kCount, "20", "40", "80", "that keep memory"},
                      {"size", kSize, "1MiB", "2MiB", "4MiB", "each keeps"}},
       .expected = kCosts,
       .plan = keep("keep", "size", bytes_of),
       .make = make_fault<Growth>},
      leak({.name = "fd.leak",
            .what = "Calls in one worker keep files open.",
            .proof = "/proc/PID/fd of the worker has grown by at least half of them",
            .plan = keep("keep_files", "files", count_of),
            .make = make_fault<Files>},
           {"files", kCount, "4", "8", "16", "each keeps open"}),
      leak({.name = "thread.leak",
            .what = "Calls in one worker leave threads behind.",
            .proof = "the worker's thread count in /proc/PID/stat has grown by at least half of "
                     "them",
            .plan = keep("keep_threads", "threads", count_of),
            .make = make_fault<Threads>},
           {"threads", kCount, "2", "4", "4", "each leaves"}),
      leak({.name = "shm.leak",
            .what = "Calls in one worker leave shared memory in /dev/shm, mapped and with a "
                    "name.",
            .proof = "/proc/PID/maps of the worker shows at least half of it",
            .undo = "the worker is replaced, on the laboratory's order; the warden removes the "
                    "files",
            .plan = keep("keep_shared", "size", bytes_of),
            .prepare = prepare,
            .make = make_fault<Shared>},
           {"size", kSize, "64KiB", "256KiB", "512KiB", "each leaves"})};
}

}  // namespace keelback::chaos::faults::leaks
