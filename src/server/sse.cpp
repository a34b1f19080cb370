#include "server/sse.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "server/reply.h"

namespace keelback::server {
namespace {

std::string end_json(const Outcome& outcome, std::uint64_t items) {
  const auto ms = [](std::chrono::nanoseconds d) { return static_cast<double>(d.count()) / 1e6; };
  nlohmann::ordered_json json = {{"outcome", to_string(outcome.kind)},
                                 {"effect", to_string(outcome.effect)},
                                 {"items", items},
                                 {"worker", to_string(outcome.worker)},
                                 {"attempts", outcome.attempts},
                                 {"queue_ms", ms(outcome.queued)},
                                 {"run_ms", ms(outcome.ran)}};
  if (outcome.birth != 0) {
    json["birth"] = fmt::format("{:016x}", outcome.birth);
    json["epoch"] = outcome.epoch;
  }
  return json.dump();
}

}  // namespace

void append_event(std::string& out, std::string_view name, std::string_view data) {
  out.append("event: ").append(name).append("\n");
  for (;;) {
    const auto end = data.find_first_of("\r\n");
    out.append("data: ").append(data.substr(0, end)).append("\n");
    if (end == std::string_view::npos) break;
    const bool pair = data.substr(end, 2) == "\r\n";
    data.remove_prefix(end + (pair ? 2 : 1));
  }
  out += '\n';
}

void append_last_event(std::string& out, const Outcome& outcome, std::uint64_t items) {
  if (outcome.ok()) {
    append_event(out, "end", end_json(outcome, items));
  } else {
    append_event(out, "error", problem_of(outcome));
  }
}

}  // namespace keelback::server
