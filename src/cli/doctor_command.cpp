// keelback doctor: can this machine run it?
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <memory>

#include "cli/config_options.h"
#include "cli/doctor.h"
#include "cli/output.h"

namespace keelback::cli {
namespace {

Tone tone_of(Finding finding) {
  switch (finding) {
    case Finding::kOk:
      return Tone::kGood;
    case Finding::kWarn:
      return Tone::kWarn;
    case Finding::kFail:
      break;
  }
  return Tone::kBad;
}

void print_checks(const std::vector<Check>& checks) {
  for (const Check& check : checks) {
    const std::string state = fmt::format("{:<4}", to_string(check.finding));
    print(fmt::format("{}  {:<19}  {}\n", toned(tone_of(check.finding), state), check.name,
                      check.found));
    if (!check.advice.empty()) print(indented(check.advice, std::string(27, ' ')));
  }
}

struct DoctorOptions {
  std::string app;
  ConfigOptions config;
};

int doctor(const Invocation& invocation, const DoctorOptions& options) {
  const auto store = options.config.load();
  if (!store) return fail(invocation, kExitUsage, "config", store.error());
  const std::vector<Check> checks = examine_machine(store->settings(), options.app);
  const bool failed = std::any_of(checks.begin(), checks.end(), [](const Check& check) {
    return check.finding == Finding::kFail;
  });
  if (invocation.json) {
    Json list = Json::array();
    for (const Check& check : checks) {
      Json item = {
          {"name", check.name}, {"finding", to_string(check.finding)}, {"found", check.found}};
      if (!check.advice.empty()) item["advice"] = check.advice;
      list.push_back(std::move(item));
    }
    print_json({{"ok", !failed}, {"checks", std::move(list)}});
  } else {
    print_checks(checks);
  }
  return failed ? kExitStart : kExitOk;
}

}  // namespace

void add_doctor(CLI::App& app, Invocation& invocation) {
  CLI::App* command = add_command(app, invocation, "doctor",
                                  "Whether this machine can run Keelback, and what to change",
                                  "keelback doctor --set workers.python=.venv/bin/python");
  auto options = std::make_shared<DoctorOptions>();
  command->add_option("APP", options->app,
                      "An application: imports it in a Python without the GIL, and says whether "
                      "that turns the GIL on");
  options->config.add_to(*command);
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return doctor(invocation, *options); };
  });
}

}  // namespace keelback::cli
