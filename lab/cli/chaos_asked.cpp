// From the options of `keelback chaos` to what is asked for.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/settings_text.h"
#include "chaos/swarm.h"
#include "cli/chaos_commands.h"
#include "cli/chaos_output.h"

namespace keelback::cli {
namespace {

std::optional<Backend> backend_from(const std::string& name) {
  for (const Backend backend : {Backend::kSim, Backend::kFake, Backend::kPython}) {
    if (setting_name(backend) == name) return backend;
  }
  return std::nullopt;
}

// "chat" or "chat={…}".
std::expected<chaos::LoadCall, std::string> call_from(const std::string& text, bool session) {
  const std::size_t equals = text.find('=');
  chaos::LoadCall call{
      .function = text.substr(0, equals), .payload = "[]", .session = session, .own = true};
  if (equals != text.npos) call.payload = text.substr(equals + 1);
  if (call.function.empty()) return std::unexpected("--call: the function's name is missing");
  if (Json::parse(call.payload, nullptr, false).is_discarded()) {
    return std::unexpected(fmt::format("--call: the arguments of {} are not JSON", call.function));
  }
  return call;
}

}  // namespace

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::expected<ChaosAsked, std::string> asked(const ChaosOptions& options) {
  ChaosAsked out;
  const std::string level = !options.level.empty() ? options.level : environment("KEELBACK_LEVEL");
  if (!level.empty()) {
    const auto known = chaos::level_from(level);
    if (!known) {
      return std::unexpected(fmt::format("--level is light, medium or heavy, not '{}'", level));
    }
    out.level = *known;
  }
  std::string backend =
      !options.backend.empty() ? options.backend : environment("KEELBACK_BACKEND");
  const bool python = !options.app.empty() || options.nodes > 0;
  if (backend.empty()) backend = python ? "python" : "sim";
  const auto known = backend_from(backend);
  if (!known)
    return std::unexpected(fmt::format("--backend is sim, fake or python, not '{}'", backend));
  out.backend = *known;
  if (!options.app.empty() && out.backend != Backend::kPython) {
    return std::unexpected("--app needs --backend python: the others run no Python");
  }
  const auto argument = [&](const std::string& word) {
    out.arguments += (out.arguments.empty() ? "" : " ") + word;
  };
  for (const std::string& text : options.settings) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos) return std::unexpected("--set: write KEY=VALUE, not " + text);
    out.overrides.settings.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    argument("--set " + shell_quoted(text));
  }
  for (const bool session : {false, true}) {
    for (const std::string& text : session ? options.session_calls : options.calls) {
      auto call = call_from(text, session);
      if (!call) return std::unexpected(call.error());
      out.overrides.calls.push_back(std::move(*call));
      argument((session ? "--session-call " : "--call ") + shell_quoted(text));
    }
  }
  if (!out.overrides.calls.empty() && options.app.empty()) {
    return std::unexpected("--call needs --app: which application's function is it?");
  }
  out.overrides.nodes = options.nodes;
  if (options.nodes > 0) argument(fmt::format("--nodes {}", options.nodes));
  out.overrides.placebo = options.placebo;
  if (options.placebo) argument("--placebo");
  return out;
}

int chaos_usage(const Invocation& invocation, std::string_view message) {
  return fail(invocation, kExitLabUsage, "usage", message);
}

// Reads and checks; what is wrong is said, a line each.
std::expected<chaos::Scenario, std::vector<std::string>> read_scenario(const std::string& name,
                                                                       const ChaosAsked& asked,
                                                                       std::uint64_t seed) {
  const auto loaded =
      name == chaos::kSwarm
          ? chaos::LoadedScenario{chaos::swarm_scenario(seed, asked.backend), "library"}
          : chaos::load_scenario(name);
  if (!loaded) return std::unexpected(std::vector{loaded.error()});
  auto parsed = chaos::parse_scenario(loaded->text, asked.level, chaos::scenario_lookup(),
                                      loaded->source, asked.overrides);
  if (parsed.ok()) return std::move(*parsed.scenario);
  std::vector<std::string> lines;
  for (const chaos::Finding& finding : parsed.findings) {
    if (finding.error) lines.push_back(fmt::format("{}: {}", name, chaos::describe(finding)));
  }
  return std::unexpected(std::move(lines));
}

}  // namespace keelback::cli
