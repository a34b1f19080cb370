// keelback status: is it well, and what is it doing.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <memory>

#include "cli/server_access.h"

namespace keelback::cli {
namespace {

std::string row(std::string_view name, std::string_view text) {
  return fmt::format("{:<9} {}\n", name, text);
}

// "3 ready, 1 busy": the members of a JSON object that are not 0, in its order.
std::string counted(const Json& object, const std::vector<std::string>& skipped = {}) {
  std::string text;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_number() || value == 0) continue;
    if (std::find(skipped.begin(), skipped.end(), key) != skipped.end()) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", to_text(value), key);
  }
  return text;
}

std::string calls_text(const Json& calls) {
  std::string text = fmt::format("{} accepted, {} in flight", count_in(calls, "accepted"),
                                 count_in(calls, "in_flight"));
  const std::string outcomes = counted(calls, {"accepted", "in_flight", "late"});
  if (const auto late = count_in(calls, "late"); late > 0) {
    text += fmt::format(", {} late (past their deadline and still running)", late);
  }
  return outcomes.empty() ? text : text + ": " + outcomes;
}

std::string start_text(const Json& start) {
  std::string text = fmt::format("{} {}", text_in(start, "mode"), text_in(start, "state"));
  if (const double import_s = number_in(start, "import_s"); import_s > 0) {
    text += fmt::format(", the application's import took {}", human_seconds(import_s));
  }
  const std::string reason = text_in(start, "reason");
  return reason.empty() ? text : text + ": " + reason;
}

void print_status(const Json& pool) {
  const bool ready = flag_in(pool, "ready");
  const bool draining = flag_in(pool, "draining");
  std::string state = toned(ready ? Tone::kGood : Tone::kBad, ready ? "yes" : "no");
  if (draining) state = toned(Tone::kWarn, "no, draining");
  std::string out = row("ready", state);
  for (const Json& reason : array_in(pool, "reasons")) {
    if (!reason.is_string()) continue;
    out += indented(reason.get<std::string>(), "          ");
  }
  for (const Json& reason : array_in(pool, "degraded")) {
    if (!reason.is_string()) continue;
    out += indented(toned(Tone::kWarn, "degraded: " + reason.get<std::string>()), "          ");
  }
  const std::string workers = counted(object_in(pool, "workers"));
  const Json queue = object_in(pool, "queue");
  const Json sessions = object_in(pool, "sessions");
  out += row("workers", workers.empty() ? "none" : workers);
  // A fixed size needs no words.
  const Json scaling = object_in(pool, "scaling");
  if (const std::string why = text_in(scaling, "why");
      !why.empty() && !why.starts_with("the size is fixed")) {
    out += row("wanted", fmt::format("{}: {}", count_in(scaling, "wanted"), why));
  }
  if (const std::string leaving = leaving_text(object_in(pool, "leaving")); !leaving.empty()) {
    out += row("", leaving);
  }
  out += row("start", start_text(object_in(pool, "start")));
  out += row("queue", fmt::format("{} waiting, the oldest for {}", count_in(queue, "depth"),
                                  human_seconds(number_in(queue, "delay_ms") / 1000)));
  out += row("calls", calls_text(object_in(pool, "calls")));
  const std::string past = counted(sessions, {"active"});
  out += row("sessions", fmt::format("{} active{}{}", count_in(sessions, "active"),
                                     past.empty() ? "" : "; so far ", past));
  const Json snapshots = object_in(pool, "snapshots");
  if (count_in(snapshots, "kept") + count_in(snapshots, "failed") + count_in(snapshots, "stored") >
          0 ||
      !flag_in(snapshots, "up")) {
    std::string text = fmt::format("{} stored ({} bytes) in {}; so far {} kept, {} failed",
                                   count_in(snapshots, "stored"), count_in(snapshots, "bytes"),
                                   text_in(snapshots, "store"), count_in(snapshots, "kept"),
                                   count_in(snapshots, "failed"));
    if (const std::string error = text_in(snapshots, "error"); !error.empty()) {
      text += "; " + error;
    }
    out += row("snapshots", flag_in(snapshots, "up") ? text : toned(Tone::kBad, text));
  }
  out +=
      row("faults", fmt::format("{} workers replaced, {} calls retried, {} requests quarantined, "
                                "{} processes abandoned",
                                count_in(pool, "restarts"), count_in(pool, "retries"),
                                count_in(pool, "quarantined"), count_in(pool, "abandoned")));
  const Json health = object_in(pool, "health");
  if (count_in(health, "failed") + count_in(health, "retired") > 0) {
    out += row("health", fmt::format("{} checks failed, {} workers given up by a function",
                                     count_in(health, "failed"), count_in(health, "retired")));
  }
  print(out);
}

}  // namespace

void add_status(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      add_command(app, invocation, "status", "Whether the pool is well, and its counters",
                  "keelback status --url 127.0.0.1:8080");
  auto options = std::make_shared<ServerOptions>();
  options->add_to(*command);
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options]() -> int {
      const auto pool = ask(invocation, *options, {.target = "/v1/pool"});
      if (!pool) return pool.error();
      if (invocation.json) {
        print_json(*pool);
      } else {
        print_status(*pool);
      }
      return kExitOk;
    };
  });
}

}  // namespace keelback::cli
