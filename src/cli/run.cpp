// keelback run: one call, without a server. stdout holds the result and nothing else.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <atomic>
#include <cstdlib>
#include <future>
#include <memory>

#include "api/driver_factory.h"
#include "cli/arguments.h"
#include "cli/config_options.h"
#include "cli/logging.h"
#include "server/reply.h"

namespace keelback::cli {
namespace {

using namespace std::chrono_literals;

// How long the worker may take to stop when its call has ended.
constexpr Duration kLeave = 2s;

struct RunOptions {
  std::string app;
  std::vector<std::string> expose;
  CallOptions call;
  ConfigOptions config;
};

Json document_of(const Outcome& outcome) {
  const auto ms = [](Duration d) { return static_cast<double>(d.count()) / 1e6; };
  Json json = {{"outcome", to_string(outcome.kind)},  {"effect", to_string(outcome.effect)},
               {"worker", to_string(outcome.worker)}, {"attempts", outcome.attempts},
               {"queue_ms", ms(outcome.queued)},      {"run_ms", ms(outcome.ran)}};
  if (outcome.birth != 0) {
    json["birth"] = fmt::format("{:016x}", outcome.birth);
    json["epoch"] = outcome.epoch;
  }
  return json;
}

// Prints items on the driver's loop thread, while this thread waits for the outcome.
Outcome stream(const Invocation& invocation, host::Driver& driver, Call call) {
  std::promise<Outcome> ended;
  std::atomic<std::uint64_t> id{0};
  // An item can come before stream() has returned the id: its grant is given then.
  std::atomic<std::uint32_t> owed{0};
  const auto grant = [&driver, &id, &owed] {
    const CallId known{id.load()};
    if (!known) return;
    if (const std::uint32_t items = owed.exchange(0); items > 0) driver.grant(known, items);
  };
  const CallId started = driver.stream(
      std::move(call),
      [&](std::string&& item) {
        print_item(invocation, item);
        owed.fetch_add(1);
        grant();
      },
      [&](Outcome&& outcome) { ended.set_value(std::move(outcome)); });
  id.store(started.value);
  grant();
  return ended.get_future().get();
}

// Returns the exit code: not 0 if the result cannot be written.
int print_ok(const Invocation& invocation, const RunOptions& options, const Outcome& outcome) {
  if (!options.call.stream) {
    return report_ok(invocation, options.call, outcome.payload, outcome.attachments,
                     document_of(outcome));
  }
  if (!outcome.payload.empty()) print_item(invocation, outcome.payload);
  if (invocation.json) print(fmt::format("{{\"end\":{}}}\n", to_text(document_of(outcome))));
  return kExitOk;
}

// `shown`: the lines of the worker were printed as it wrote them (but not those of a start).
int report_failure(const Invocation& invocation, const RunOptions& options, const Outcome& outcome,
                   bool shown) {
  Json problem = Json::parse(server::problem_of(outcome), nullptr, false);
  if (shown && !invocation.json && outcome.kind == OutcomeKind::kWorkerDied &&
      problem.contains("death")) {
    problem["death"].erase("stderr_tail");
  }
  report_outcome(invocation, options.call.function, problem);
  return outcome.kind == OutcomeKind::kNotReady ? kExitStart : kExitOutcome;
}

struct Ended {
  Outcome outcome;
  int exit_code = kExitOk;  // of an outcome that is ok
};

// A result is printed as soon as it is there.
Ended call(const Invocation& invocation, const RunOptions& options, const CallArguments& arguments,
           host::Driver& driver) {
  Call made{.function = options.call.function,
            .payload = arguments.payload,
            .session = options.call.session,
            .deadline = arguments.deadline,
            .attachments = arguments.attachments};
  Ended ended;
  ended.outcome = options.call.stream ? stream(invocation, driver, std::move(made))
                                      : driver.call(std::move(made));
  if (ended.outcome.ok()) ended.exit_code = print_ok(invocation, options, ended.outcome);
  auto left = std::make_shared<std::promise<void>>();
  driver.drain(kLeave, [left] { left->set_value(); });
  left->get_future().wait_for(2 * kLeave);
  return ended;
}

int run(const Invocation& invocation, const RunOptions& options) {
  const auto arguments = options.call.read();
  if (!arguments) return fail(invocation, kExitUsage, "usage", arguments.error());
  ConfigOptions config = options.config;
  // One call needs one worker, whatever the file says. A --set that comes later still counts.
  config.assignments.insert(config.assignments.begin(), {"pool.workers=1", "pool.min_ready=1"});
  const auto store = config.load();
  if (!store) return fail(invocation, kExitUsage, "config", store.error());
  const bool default_level = store->provenance("log.level").layer == api::ConfigLayerName::kDefault;
  auto logger = make_run_logger(store->settings().log, default_level);
  for (const std::string& warning : store->warnings()) logger->warn("{}", warning);
  auto driver = api::make_driver({.app = options.app,
                                  .expose = options.expose,
                                  .settings = store->settings(),
                                  .logger = logger});
  if (!driver) {
    fail(invocation, kExitStart, "start", driver.error());
    if (!finish_logging(std::move(logger))) std::_Exit(kExitStart);
    return kExitStart;
  }
  const auto [outcome, printed] = call(invocation, options, *arguments, **driver);
  driver->reset();
  // After the lines of the worker, so that the last lines say how the call ended.
  const bool logged = finish_logging(std::move(logger));
  const int exit_code = outcome.ok()
                            ? printed
                            : report_failure(invocation, options, outcome, logged && default_level);
  if (!logged) std::_Exit(exit_code);
  return exit_code;
}

}  // namespace

void add_run(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      add_command(app, invocation, "run", "Call one function of an application, without a server",
                  "keelback run examples/hello.py greet '{\"name\": \"Ada\"}'");
  auto options = std::make_shared<RunOptions>();
  command->add_option("APP", options->app, "app.py, or a module: package.module")->required();
  options->call.add_to(*command);
  command
      ->add_option("--expose", options->expose,
                   "Functions of a plain module, by name, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  options->config.add_setting_option(*command, "--backend", "pool.backend",
                                     "python, fake or sim (pool.backend)");
  options->config.add_to(*command);
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return run(invocation, *options); };
  });
}

}  // namespace keelback::cli
