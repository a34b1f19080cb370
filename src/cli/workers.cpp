// keelback workers: the processes, one line each.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>

#include "cli/server_access.h"

namespace keelback::cli {
namespace {

void print_workers(const Json& workers) {
  Table table({"SLOT", "WORKER", "PID", "STATE", "CALLS", "SESSIONS", "MEMORY", "AGE", "RUNNING"});
  for (const Json& worker : workers) {
    const auto pid = count_in(worker, "pid");
    table.add({std::to_string(count_in(worker, "slot")),
               fmt::format("{}.{}", count_in(worker, "slot"), count_in(worker, "generation")),
               pid == 0 ? "-" : std::to_string(pid), text_in(worker, "state"),
               std::to_string(count_in(worker, "calls")),
               std::to_string(count_in(worker, "sessions")),
               human_bytes(count_in(worker, "rss_bytes")),
               human_seconds(number_in(worker, "age_s")), text_in(worker, "function")});
  }
  std::string text = table.empty() ? "no worker\n" : table.text();
  for (const Json& worker : workers) {
    const std::string sick = text_in(worker, "sick");
    if (sick.empty()) continue;
    text += fmt::format("worker {}.{} {}\n", count_in(worker, "slot"),
                        count_in(worker, "generation"), toned(Tone::kBad, sick));
  }
  print(text);
}

}  // namespace

void add_workers(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      add_command(app, invocation, "workers", "The worker processes", "keelback workers --json");
  auto options = std::make_shared<ServerOptions>();
  options->add_to(*command);
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options]() -> int {
      const auto workers = ask(invocation, *options, {.target = "/v1/workers"});
      if (!workers) return workers.error();
      if (invocation.json) {
        print_json(*workers);
      } else {
        print_workers(*workers);
      }
      return kExitOk;
    };
  });
}

}  // namespace keelback::cli
