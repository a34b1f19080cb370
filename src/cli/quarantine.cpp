// keelback quarantine: requests that killed workers and are refused now.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>

#include "cli/server_access.h"

namespace keelback::cli {
namespace {

struct QuarantineOptions : ServerOptions {
  std::string fingerprint;
};

int list_quarantine(const Invocation& invocation, const QuarantineOptions& options) {
  const auto page = ask(invocation, options, {.target = "/v1/quarantine"});
  if (!page) return page.error();
  if (invocation.json) {
    print_json(*page);
    return kExitOk;
  }
  Table table({"FINGERPRINT", "FUNCTION", "SESSION", "DEATHS", "FREE IN"});
  const Json items = array_in(*page, "items");
  for (const Json& item : items) {
    table.add({text_in(item, "fingerprint"), text_in(item, "function"), text_in(item, "session"),
               std::to_string(count_in(item, "deaths")),
               human_seconds(number_in(item, "remaining_s"))});
  }
  print(table.empty() ? "nothing is in quarantine\n" : table.text());
  if (const auto total = count_in(*page, "total"); total > items.size()) {
    print(fmt::format("{} in all\n", total));
  }
  return kExitOk;
}

int release(const Invocation& invocation, const QuarantineOptions& options) {
  const auto released =
      ask(invocation, options,
          {.method = "DELETE", .target = "/v1/quarantine/" + percent_encode(options.fingerprint)});
  if (!released) return released.error();
  if (invocation.json) {
    print_json({{"released", options.fingerprint}});
  } else {
    print(fmt::format("released {}\n", options.fingerprint));
  }
  return kExitOk;
}

}  // namespace

void add_quarantine(CLI::App& app, Invocation& invocation) {
  CLI::App* group = add_command(app, invocation, "quarantine",
                                "Requests that killed workers: list them, or let one go",
                                "keelback quarantine release 00c0ffee00c0ffee");
  auto options = std::make_shared<QuarantineOptions>();
  const auto run_list = [&invocation, options] {
    invocation.run = [&invocation, options] { return list_quarantine(invocation, *options); };
  };
  options->add_to(*group);
  CLI::App* list_command = add_command(*group, invocation, "list", "The requests that are refused",
                                       "keelback quarantine list");
  options->add_to(*list_command);
  list_command->callback(run_list);
  CLI::App* release_command =
      add_command(*group, invocation, "release", "Let a request be tried again",
                  "keelback quarantine release 00c0ffee00c0ffee");
  options->add_to(*release_command);
  release_command->add_option("FINGERPRINT", options->fingerprint, "As the list shows it")
      ->required();
  release_command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return release(invocation, *options); };
  });
  group->require_subcommand(0, 1);
  group->callback([group, run_list] {
    if (group->get_subcommands().empty()) run_list();
  });
}

}  // namespace keelback::cli
