// keelback sessions: who holds state on which worker, and ending one.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>

#include "cli/server_access.h"

namespace keelback::cli {
namespace {

struct SessionsOptions : ServerOptions {
  std::string after;
  std::uint32_t limit = 100;
  std::string id;
};

int list_sessions(const Invocation& invocation, const SessionsOptions& options) {
  std::string target = fmt::format("/v1/sessions?limit={}", options.limit);
  if (!options.after.empty()) target += "&after=" + percent_encode(options.after);
  const auto page = ask(invocation, options, {.target = target});
  if (!page) return page.error();
  if (invocation.json) {
    print_json(*page);
    return kExitOk;
  }
  Table table({"SESSION", "WORKER", "EPOCH", "STATE", "IDLE", "AGE"});
  for (const Json& item : array_in(*page, "items")) {
    table.add({text_in(item, "id"),
               fmt::format("{}.{}", count_in(item, "slot"), count_in(item, "generation")),
               std::to_string(count_in(item, "epoch")), text_in(item, "state"),
               human_seconds(number_in(item, "idle_s")), human_seconds(number_in(item, "age_s"))});
  }
  print(table.empty() ? "no session\n" : table.text());
  if (const std::string node = text_in(*page, "node"); !node.empty()) {
    print(fmt::format("These are the sessions of node {}. Other nodes may have more.\n", node));
  }
  if (const std::string next = text_in(*page, "next"); !next.empty()) {
    print(fmt::format("{} in all; the next page: keelback sessions list --after '{}'\n",
                      count_in(*page, "total"), next));
  }
  return kExitOk;
}

int end(const Invocation& invocation, const SessionsOptions& options) {
  const auto ended =
      ask(invocation, options,
          {.method = "DELETE", .target = "/v1/sessions/" + percent_encode(options.id)});
  if (!ended) return ended.error();
  if (invocation.json) {
    print_json({{"ended", options.id}});
  } else {
    print(fmt::format("ended session {}\n", options.id));
  }
  return kExitOk;
}

}  // namespace

void add_sessions(CLI::App& app, Invocation& invocation) {
  CLI::App* group = add_command(app, invocation, "sessions", "List the sessions, or end one",
                                "keelback sessions end alice");
  auto options = std::make_shared<SessionsOptions>();
  const auto add_page = [options](CLI::App& command) {
    options->add_to(command);
    command.add_option("--after", options->after, "Begin behind this id");
    command.add_option("--limit", options->limit, "At most so many (1 to 1000)")
        ->check(CLI::Range(1, 1000));
  };
  const auto run_list = [&invocation, options] {
    invocation.run = [&invocation, options] { return list_sessions(invocation, *options); };
  };
  add_page(*group);
  CLI::App* list_command =
      add_command(*group, invocation, "list", "The sessions, in the order of their ids",
                  "keelback sessions list --limit 20");
  add_page(*list_command);
  list_command->callback(run_list);
  CLI::App* end_command =
      add_command(*group, invocation, "end", "End a session: its worker drops the state",
                  "keelback sessions end alice");
  options->add_to(*end_command);
  end_command->add_option("ID", options->id, "The session's id")->required();
  end_command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return end(invocation, *options); };
  });
  group->require_subcommand(0, 1);
  group->callback([group, run_list] {
    if (group->get_subcommands().empty()) run_list();
  });
}

}  // namespace keelback::cli
