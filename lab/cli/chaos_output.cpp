#include "cli/chaos_output.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/settings_text.h"
#include "chaos/report.h"

namespace keelback::cli {
namespace {

using chaos::seconds;

constexpr int kBar = 24;

std::size_t terminal_width() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20;
  return known ? size.ws_col : 80;
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : between) + word;
  return out;
}

std::vector<std::string> names_of(const std::vector<Backend>& backends) {
  std::vector<std::string> names;
  for (const Backend backend : backends) names.emplace_back(setting_name(backend));
  return names;
}

std::vector<std::string> backends_of(const chaos::FaultClass& kind) {
  std::vector<Backend> out;
  for (const Backend backend : {Backend::kSim, Backend::kFake, Backend::kPython}) {
    if (kind.on(backend)) out.push_back(backend);
  }
  return names_of(out);
}

// Of the library; all of them parse (a test says so).
std::vector<chaos::Scenario> parsed(const std::vector<std::string>& names, const std::string& tag) {
  std::vector<chaos::Scenario> out;
  for (const std::string& name : names) {
    auto read = chaos::parse_scenario(chaos::library_text(name).value_or(""), chaos::Level::kMedium,
                                      chaos::scenario_lookup(), "library");
    if (!read.scenario) continue;
    const bool wanted =
        tag.empty() || std::ranges::find(read.scenario->tags, tag) != read.scenario->tags.end();
    if (wanted) out.push_back(std::move(*read.scenario));
  }
  return out;
}

std::string classes_of(const chaos::Scenario& scenario) {
  std::vector<std::string> out;
  for (const chaos::FaultSpec& fault : scenario.faults) {
    if (std::ranges::find(out, fault.fault_class) == out.end()) out.push_back(fault.fault_class);
  }
  return joined(out, ", ");
}

Json parameters_json(const chaos::FaultClass& each) {
  Json out = Json::array();
  for (const chaos::Parameter& parameter : each.parameters) {
    out.push_back({{"name", parameter.name},
                   {"doc", parameter.doc},
                   {"light", parameter.light},
                   {"medium", parameter.medium},
                   {"heavy", parameter.heavy}});
  }
  return out;
}

}  // namespace

std::function<void(const chaos::Progress&)> chaos_progress(const std::string& title) {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [title](const chaos::Progress& now) {
    const double share =
        now.end > Duration{0} ? std::clamp(seconds(now.at) / seconds(now.end), 0.0, 1.0) : 0.0;
    const int full = static_cast<int>(share * kBar);
    std::string line =
        fmt::format("{}  {:<8} [{:<{}}] {:.1f}/{:.1f} s  {} sent, {} ok, {} not", title, now.phase,
                    std::string(static_cast<std::size_t>(full), '#'), kBar, seconds(now.at),
                    seconds(now.end), now.sent, now.ok, now.failed);
    if (!now.last.empty()) line += "  " + now.last;
    const std::size_t room = terminal_width() - 1;
    if (line.size() > room) line.resize(room);
    fmt::print(stderr, "\r\x1b[K{}", line);
    std::fflush(stderr);
  };
}

void end_chaos_progress() {
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\x1b[K");
}

Tone tone_of(chaos::Verdict verdict) {
  using chaos::Verdict;
  if (verdict == Verdict::kPass) return Tone::kGood;
  const bool hard =
      verdict == Verdict::kSafety || verdict == Verdict::kLiveness || verdict == Verdict::kResidue;
  return hard ? Tone::kBad : Tone::kWarn;
}

std::string run_text(const chaos::RunResult& result) {
  const std::string text = chaos::report_text(result);
  const std::string_view word = chaos::to_string(result.judgement.verdict);
  return toned(tone_of(result.judgement.verdict), word) + text.substr(word.size());
}

std::string scenarios_text(const std::vector<std::string>& names, const std::string& tag) {
  std::string out;
  std::size_t width = 0;
  const auto all = parsed(names, tag);
  for (const chaos::Scenario& scenario : all) width = std::max(width, scenario.name.size());
  for (const chaos::Scenario& scenario : all) {
    out += fmt::format("{:<{}}  {}\n", scenario.name, width, scenario.why);
    const std::string faint =
        fmt::format("{}  on {}{}", classes_of(scenario), joined(names_of(scenario.backends), " "),
                    scenario.tags.empty() ? "" : "  #") +
        joined(scenario.tags, " #");
    out += fmt::format("{:<{}}  {}\n", "", width, toned(Tone::kFaint, faint));
  }
  return out;
}

Json scenarios_json(const std::vector<std::string>& names, const std::string& tag) {
  Json out = Json::array();
  for (const chaos::Scenario& scenario : parsed(names, tag)) {
    Json faults = Json::array();
    for (const chaos::FaultSpec& fault : scenario.faults) {
      faults.push_back({{"id", fault.id}, {"class", fault.fault_class}});
    }
    out.push_back({{"name", scenario.name},
                   {"why", scenario.why},
                   {"incident", scenario.incident},
                   {"tags", scenario.tags},
                   {"backends", names_of(scenario.backends)},
                   {"faults", faults}});
  }
  return out;
}

std::string classes_text() {
  std::string out;
  for (const chaos::FaultClass& each : chaos::catalogue()) {
    std::vector<std::string> parameters;
    for (const chaos::Parameter& parameter : each.parameters) {
      parameters.push_back(fmt::format("{}={}|{}|{} ({})", parameter.name, parameter.light,
                                       parameter.medium, parameter.heavy, parameter.doc));
    }
    out += fmt::format("{:<22} {}\n", each.name, each.what);
    const auto more = [&](const char* what, const std::string& text) {
      if (!text.empty()) {
        out +=
            fmt::format("{:<22} {}\n", "", toned(Tone::kFaint, fmt::format("{} {}", what, text)));
      }
    };
    more("on", joined(backends_of(each), " "));
    more("with", joined(parameters, ", "));
    more("proof:", std::string(each.proof));
  }
  return out;
}

Json classes_json() {
  Json out = Json::array();
  for (const chaos::FaultClass& each : chaos::catalogue()) {
    Json expected = Json::array();
    for (const OutcomeKind kind : each.expected) expected.push_back(to_string(kind));
    out.push_back({{"name", each.name},
                   {"what", each.what},
                   {"proof", each.proof},
                   {"undo", each.undo},
                   {"lasts", each.lasts},
                   {"backends", backends_of(each)},
                   {"parameters", parameters_json(each)},
                   {"expected", expected}});
  }
  return out;
}

std::string rows_text(const std::vector<RunRow>& rows) {
  std::size_t width = 0;
  for (const RunRow& row : rows) width = std::max(width, row.scenario.size());
  std::string out;
  for (const RunRow& row : rows) {
    const std::string word = fmt::format("{:<12}", chaos::to_string(row.verdict));
    out += fmt::format("{} {:<{}}  seed {:<6} {}\n", toned(tone_of(row.verdict), word),
                       row.scenario, width, row.seed, row.why);
    const bool red =
        row.verdict != chaos::Verdict::kPass && row.verdict != chaos::Verdict::kSkipped;
    if (red) out += fmt::format("{:<12} {}\n", "", toned(Tone::kFaint, row.repro));
  }
  return out;
}

Json rows_json(const std::vector<RunRow>& rows, chaos::Verdict worst) {
  Json runs = Json::array();
  for (const RunRow& row : rows) runs.push_back(Json::parse(row.report, nullptr, false));
  return {{"verdict", chaos::to_string(worst)},
          {"exit", chaos::exit_code(worst)},
          {"runs", std::move(runs)}};
}

std::string shell_quoted(const std::string& word) {
  const bool plain = !word.empty() && std::ranges::all_of(word, [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("_-./=:,+@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace keelback::cli
