// The interpreter that workers and zygotes are started with is taken away. It is a script of the
// run's own, so that nobody else misses it.
#include <fmt/format.h>

#include <filesystem>

#include "chaos/fault.h"
#include "chaos/lab.h"

namespace keelback::chaos::faults::interpreter {
namespace {

using enum OutcomeKind;
namespace fs = std::filesystem;

struct Script {
  std::string path;
  ~Script() {
    std::error_code error;
    fs::remove(path, error);
  }
};

std::expected<void, std::string> prepare(WorldOptions& options) {
  std::error_code error;
  const std::string path = fs::absolute(options.directory, error).string() + "/python";
  const std::string& real = options.settings.workers.python;
  const auto written = write_file(path, fmt::format("#!/bin/sh\nexec '{}' \"$@\"\n", real));
  if (!written) return written;
  fs::permissions(path, fs::perms::owner_all, error);
  options.means.add(std::make_shared<Script>(path));
  options.interpreter = path;
  return {};
}

struct Gone final : Fault {
  void inject(Duration) override { begun(hide()); }
  void prove(Duration at) override {
    const std::string reason = world().info().start.reason;
    // As the launcher words a zygote or a worker that cannot be executed.
    if (!over && reason.find("No such file") != reason.npos) bit(at, "the pool says: " + reason);
  }
  Evidence undo() override { return world().processes()->undo("interpreter"); }

 private:
  Evidence hide() {
    const Script* script = world().options().means.find<Script>();
    if (script == nullptr) return std::unexpected("workers.python is not the run's own");
    const auto armed =
        world().processes()->arm("interpreter", {.lease_ms = Processes::lease(spec().lasts),
                                                 .kind = Undo::Kind::kRename,
                                                 .path = script->path});
    if (!armed) return std::unexpected(armed.error());
    std::error_code error;
    fs::rename(script->path, script->path + std::string(kAside), error);
    if (error) return std::unexpected(error.message());
    return script->path + " is gone";
  }
};

}  // namespace

std::vector<FaultClass> classes() {
  return {{.name = "spawn.exec_fail",
           .what = "The interpreter is gone: no zygote and no worker can be executed.",
           .proof = "the pool says that it cannot run it",
           .undo = "the file is put back, by the warden",
           .reach = Reach::kCapacity,
           .lasts = true,
           .renews_zygote = true,
           .expected = {kTimeout, kOverloaded, kNotReady, kSessionLost, kWorkerDied},
           .prepare = prepare,
           .make = make_fault<Gone>}};
}

}  // namespace keelback::chaos::faults::interpreter
