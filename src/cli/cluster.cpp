// keelback cluster: the nodes that share a database, as the one that is asked knows them.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>

#include "cli/server_access.h"

namespace keelback::cli {
namespace {

std::string line(std::string_view name, std::string_view text) {
  return fmt::format("{:<9} {}\n", name, text);
}

std::string state_of(const Json& node) {
  if (flag_in(node, "retired")) return "retired";
  return flag_in(node, "draining") ? "draining" : "serving";
}

std::string nodes_table(const Json& nodes) {
  Table table({"NODE", "STATE", "URL", "APPLICATION", "INCARNATION"});
  for (const Json& node : nodes) {
    table.add({text_in(node, "name") + (flag_in(node, "self") ? " (this)" : ""), state_of(node),
               text_in(node, "url"), text_in(node, "digest"), text_in(node, "incarnation")});
  }
  return table.empty() ? "the database has named no node yet\n" : table.text();
}

std::string database_text(const Json& cluster) {
  const Json database = object_in(cluster, "database");
  const bool up = flag_in(database, "up");
  std::string text =
      line("database", up ? toned(Tone::kGood, "answers") : toned(Tone::kBad, "does not answer"));
  for (const Json& weakness : array_in(database, "weaknesses")) {
    if (!weakness.is_string()) continue;
    text += line(
        "", toned(Tone::kWarn, "it may lose what it acknowledged: " + weakness.get<std::string>()));
  }
  if (const auto times = count_in(object_in(cluster, "counters"), "went_back"); times > 0) {
    text += line("", toned(Tone::kBad,
                           fmt::format("it has lost what it acknowledged, seen {} times", times)));
  }
  return text;
}

void print_cluster(const Json& cluster) {
  const std::string phase = text_in(cluster, "phase");
  const bool member = phase == "member";
  std::string state = toned(member ? Tone::kGood : Tone::kBad, phase);
  if (flag_in(cluster, "draining")) state += toned(Tone::kWarn, ", draining");
  std::string out = line("node", fmt::format("{} ({})", text_in(cluster, "node"), state));
  if (const std::string trouble = text_in(cluster, "trouble"); !trouble.empty()) {
    out += indented(trouble, "          ");
  }
  const Json counters = object_in(cluster, "counters");
  const bool serves = flag_in(cluster, "serves_sessions");
  out += line("sessions",
              fmt::format("{} owned{}; so far {} claimed ({} of them from others), {} given up",
                          count_in(cluster, "sessions"),
                          serves ? "" : toned(Tone::kWarn, ", and their calls do not start now"),
                          count_in(counters, "claims"), count_in(counters, "taken_over"),
                          count_in(counters, "forgotten")));
  out +=
      line("calls", fmt::format("{} sent to the owner, {} came here and were not ours; {} heard "
                                "session_lost",
                                count_in(counters, "forwarded"), count_in(counters, "misdirected"),
                                count_in(counters, "sessions_lost")));
  out += line("commits",
              fmt::format("{} kept, {} lost to another node, {} unknown",
                          count_in(counters, "commits_kept"), count_in(counters, "commits_lost"),
                          count_in(counters, "commits_unknown")));
  out += database_text(cluster) + "\n";
  print(out + nodes_table(array_in(cluster, "nodes")));
}

int show_cluster(const Invocation& invocation, const ServerOptions& options) {
  const auto cluster = ask(invocation, options, {.target = "/v1/cluster"});
  if (!cluster) return cluster.error();
  if (invocation.json) {
    print_json(*cluster);
  } else {
    print_cluster(*cluster);
  }
  return kExitOk;
}

// It is `keelback drain`, for a server that is a node: any other one would lose its sessions.
int drain_node(const Invocation& invocation, const ServerOptions& options) {
  const auto cluster = ask(invocation, options, {.target = "/v1/cluster"});
  if (!cluster) return cluster.error();
  const auto answer = ask(invocation, options, {.method = "POST", .target = "/v1/drain"});
  if (!answer) return answer.error();
  const std::string node = text_in(*cluster, "node");
  const std::uint64_t sessions = count_in(*cluster, "sessions");
  if (invocation.json) {
    print_json({{"draining", true}, {"node", node}, {"sessions", sessions}});
  } else {
    print(
        fmt::format("node {} drains: it gives away {} session{}, and stops when the accepted "
                    "calls have ended\n",
                    node, sessions, sessions == 1 ? "" : "s"));
  }
  return kExitOk;
}

}  // namespace

void add_cluster(CLI::App& app, Invocation& invocation) {
  CLI::App* group = add_command(app, invocation, "cluster",
                                "The nodes that share a database: look at them, or drain one",
                                "keelback cluster status --url 10.0.0.1:8080");
  auto options = std::make_shared<ServerOptions>();
  CLI::App* status_command =
      add_command(*group, invocation, "status",
                  "This node, its database, and the other nodes as the database said last",
                  "keelback cluster status --json");
  options->add_to(*status_command);
  status_command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return show_cluster(invocation, *options); };
  });
  CLI::App* drain_command = add_command(
      *group, invocation, "drain",
      "Give this node's sessions to the others, finish the accepted calls, then stop it",
      "keelback cluster drain --url 10.0.0.1:8080");
  options->add_to(*drain_command);
  drain_command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return drain_node(invocation, *options); };
  });
  group->require_subcommand(1);
}

}  // namespace keelback::cli
