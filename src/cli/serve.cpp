// keelback serve: the daemon.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "api/driver_factory.h"
#include "base/fault_lines.h"
#include "base/settings_text.h"
#include "cli/config_options.h"
#include "cli/daemon.h"
#include "cli/logging.h"
#include "cli/output.h"
#include "os/process.h"

namespace keelback::cli {
namespace {

struct ServeOptions {
  std::string app;
  std::vector<std::string> expose;
  std::vector<std::string> listen;
  bool wait_for_app = false;
  ConfigOptions config;
};

void announce(const Invocation& invocation, const std::vector<std::string>& addresses) {
  // Printed at once, not through the log: tools wait for these lines.
  for (const std::string& address : addresses) {
    const std::string text = fmt::format("listening on {}", address);
    const std::string line = invocation.json_log ? json_log_line(spdlog::level::info, text) + "\n"
                                                 : fmt::format("keelback: {}\n", text);
    std::fwrite(line.data(), 1, line.size(), stderr);
  }
  if (invocation.json) print_json({{"listening", addresses}, {"pid", ::getpid()}});
}

int serve(Invocation& invocation, const ServeOptions& options) {
  ConfigOptions config = options.config;
  if (!options.listen.empty()) {
    config.flags.push_back({"server.listen", format_list(options.listen), "--listen"});
  }
  auto store = config.load();
  invocation.json_log =
      store ? store->settings().log.format == LogFormat::kJson : config.wants_json_log();
  write_faults_as_json(invocation.json_log);
  if (!store) return fail(invocation, kExitUsage, "config", store.error());
  // Workers inherit our environment, and may look at it. The application must not see these
  // variables.
  for (const char* name : {"KEELBACK_SERVER_TOKEN", "KEELBACK_TOKEN", "KEELBACK_CLUSTER_STORE",
                           "KEELBACK_CLUSTER_TOKEN"}) {
    os::forget_variable(name);
  }
  os::forbid_inspection();

  // So a write beyond RLIMIT_FSIZE fails like a write to a full disk, and does not end the process.
  std::signal(SIGXFSZ, SIG_IGN);
  auto logger = make_logger(store->settings().log);
  for (const std::string& warning : store->warnings()) logger->warn("{}", warning);
  host::EventLoop loop;
  auto driver = api::make_driver({.loop = &loop,
                                  .app = options.app,
                                  .expose = options.expose,
                                  .settings = store->settings(),
                                  .logger = logger});
  int exit_code = kExitStart;
  if (!driver) {
    fail(invocation, kExitStart, "start", driver.error());
  } else {
    Daemon daemon(loop, std::move(*driver), std::move(*store), logger,
                  {.app = options.app, .wait_for_app = options.wait_for_app});
    const auto addresses = daemon.listen();
    if (addresses) {
      announce(invocation, *addresses);
      exit_code = daemon.serve();
      if (!daemon.start_error().empty()) {
        fail(invocation, kExitStart, "start", daemon.start_error());
      }
    } else {
      fail(invocation, kExitStart, "start", addresses.error());
    }
  }
  if (!finish_logging(std::move(logger))) std::_Exit(exit_code);
  return exit_code;
}

}  // namespace

void add_serve(CLI::App& app, Invocation& invocation) {
  CLI::App* command = add_command(app, invocation, "serve", "Serve an application over HTTP",
                                  "keelback serve app.py --workers 4 --listen 127.0.0.1:8080");
  auto options = std::make_shared<ServeOptions>();
  command->add_option("APP", options->app, "app.py, or a module: package.module")->required();
  options->config.add_setting_option(*command, "-w,--workers", "pool.workers",
                                     "Worker processes (pool.workers)");
  command
      ->add_option("-l,--listen", options->listen,
                   "HOST:PORT or unix:/PATH, may be repeated (server.listen)")
      ->allow_extra_args(false);
  command
      ->add_option("--expose", options->expose,
                   "Functions of a plain module, by name, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  options->config.add_setting_option(*command, "--backend", "pool.backend",
                                     "python, fake or sim (pool.backend)");
  command->add_flag("--wait-for-app", options->wait_for_app,
                    "Keep trying if the application cannot be loaded at first (default: exit 4)");
  options->config.add_to(*command);
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return serve(invocation, *options); };
  });
}

}  // namespace keelback::cli
