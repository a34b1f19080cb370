#include "bench/agent_process.h"

#include <stdlib.h>

#include <fmt/format.h>

#include <filesystem>
#include <system_error>

#include "base/sanitizer.h"
#include "bench/agent.h"
#include "bench/syscall_counter.h"
#include "host/install.h"

namespace keelback::bench {
namespace {

struct Greeted {
  LineProcess process;
  nlohmann::json hello;
};

// `environment`: NAME=VALUE, for this process only.
std::expected<Greeted, std::string> greet(const std::string& program,
                                          const std::string& environment = {}) {
  std::vector<std::string> argv{program, "bench", "agent"};
  if (!environment.empty()) argv.insert(argv.begin(), {"/usr/bin/env", environment});
  auto agent = LineProcess::start(argv);
  if (!agent) return std::unexpected(agent.error());
  auto hello = agent->ask({{"op", "hello"}});
  if (!hello) return std::unexpected(fmt::format("{}: {}", program, hello.error()));
  if (hello->value("protocol", 0) != kAgentProtocol) {
    return std::unexpected(fmt::format("{} speaks agent protocol {}, this program {}", program,
                                       hello->value("protocol", 0), kAgentProtocol));
  }
  std::error_code error;
  const auto path = std::filesystem::canonical(program, error);
  // The command becomes the laboratory that is installed with it.
  const std::string executable = hello->value("executable", "");
  if (!error && executable != path.string() &&
      executable != host::find_program_of(program, "keelback-lab"))
    return std::unexpected(fmt::format("{} ran {}", program, executable));
  return Greeted{std::move(*agent), std::move(*hello)};
}

}  // namespace

std::expected<LineProcess, std::string> start_agent(const std::string& program) {
  auto greeted = greet(program);
  if (!greeted) return std::unexpected(greeted.error());
  return std::move(greeted->process);
}

std::expected<SystemCalls, std::string> system_calls_per_call(LineProcess& agent,
                                                              const nlohmann::json& started,
                                                              const std::string& function,
                                                              const std::string& payload,
                                                              unsigned calls) {
  std::vector<pid_t> pids{agent.pid()};
  for (const auto& pid : started.value("worker_pids", nlohmann::json::array())) {
    if (pid.get<pid_t>() > 0) pids.push_back(pid.get<pid_t>());
  }
  const nlohmann::json order = {
      {"op", "calls"}, {"function", function}, {"payload", payload}, {"calls", calls}};
  std::expected<nlohmann::json, std::string> answer;
  const auto counted = count_system_calls(pids, [&] { answer = agent.ask(order); });
  if (!counted) return std::unexpected(counted.error());
  if (!answer) return std::unexpected(answer.error());
  SystemCalls result;
  for (const auto& [pid, count] : *counted)
    (pid == agent.pid() ? result.caller : result.worker) += static_cast<double>(count) / calls;
  return result;
}

namespace {

// LD_PRELOAD takes no path with a blank or a colon: such a library gets a link with another name,
// for as long as this lives.
class PreloadablePath {
 public:
  explicit PreloadablePath(const std::string& library) : path_(library) {
    if (library.find_first_of(" :") == std::string::npos) return;
    std::string name = std::filesystem::temp_directory_path() / "keelback-preload-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) return;
    directory_ = name;
    path_ = name + "/library.so";
    std::error_code ignored;
    std::filesystem::create_symlink(library, path_, ignored);
  }
  ~PreloadablePath() {
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }
  PreloadablePath(const PreloadablePath&) = delete;
  PreloadablePath& operator=(const PreloadablePath&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::string directory_;
};

}  // namespace

std::expected<double, std::string> allocations_per_call(const std::string& program,
                                                        const nlohmann::json& start,
                                                        const std::string& function,
                                                        const std::string& payload,
                                                        unsigned calls) {
  if (!kSanitizer.empty()) return std::unexpected("a sanitizer has a malloc of its own");
  const std::string library = host::find_program("libkeelback-allocations.so");
  if (library.empty()) return std::unexpected("libkeelback-allocations.so was not found");
  const PreloadablePath preloadable(library);
  // The library leaves the environment of the first program that it meets. So that must be the one
  // that counts, not the command, which becomes it.
  const std::string laboratory = host::find_program_of(program, "keelback-lab");
  auto greeted =
      greet(laboratory.empty() ? program : laboratory, "LD_PRELOAD=" + preloadable.path());
  if (!greeted) return std::unexpected(greeted.error());
  if (auto up = greeted->process.ask(start); !up) return std::unexpected(up.error());
  const auto answer = greeted->process.ask(
      {{"op", "counters"}, {"function", function}, {"payload", payload}, {"calls", calls}});
  if (!answer) return std::unexpected(answer.error());
  if (!answer->contains("allocations_per_call"))
    return std::unexpected(program + " does not count its allocations");
  return (*answer)["allocations_per_call"].get<double>();
}

std::expected<std::string, std::string> build_of(const std::string& program) {
  auto greeted = greet(program);
  if (!greeted) return std::unexpected(greeted.error());
  return greeted->hello.value("build", "");
}

}  // namespace keelback::bench
