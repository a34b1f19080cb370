// What people write as configuration. The first byte says what the rest is: t a TOML file, s the
// text of one setting, f flags (a line each), p a patch of a running daemon. Beyond "does not
// crash": what is accepted is canonical, what is refused says why and changes nothing.
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>

#include "api/config.h"
#include "api/config_sources.h"
#include "base/check.h"
#include "base/settings_schema.h"
#include "base/settings_text.h"

namespace {

using namespace keelback;

void check_problems(const api::ConfigProblems& problems) {
  CHECK(!problems.empty());
  for (const api::ConfigProblem& problem : problems) CHECK(!problem.why.empty());
}

// Canonical: read again, it is the same.
void check_layer(const api::ConfigLayer& layer) {
  for (const auto& [key, entry] : layer) {
    CHECK(find_setting(key) != nullptr);
    api::ConfigLayer again;
    api::ConfigProblems problems;
    api::add_setting(again, problems, key, entry.value, entry.where);
    CHECK(problems.empty() && again.at(key) == entry);
  }
}

void check_source(const std::expected<api::ConfigSource, api::ConfigProblems>& source) {
  if (!source) return check_problems(source.error());
  check_layer(source->layer);
}

template <class Parse, class Format>
void check_text(std::string_view text, Parse parse, Format format) {
  const auto value = parse(text);
  if (!value) return CHECK(!value.error().empty());
  const auto again = parse(format(*value));
  CHECK(again && *again == *value);
}

void setting_text(std::string_view text) {
  check_text(text, parse_duration, format_duration);
  check_text(text, parse_bytes, format_bytes);
  check_text(text, parse_number, format_number);
  check_text(text, parse_list, format_list);
  check_text(text, parse_count, [](std::uint64_t count) { return std::to_string(count); });
  for (const SettingRow& row : settings_schema()) {
    Settings settings;
    if (!set_setting(settings, row.key, text)) {
      CHECK(settings == Settings{});
      continue;
    }
    Settings again;
    CHECK(set_setting(again, row.key, row.get(settings)) && again == settings);
  }
}

void flags(std::string_view text) {
  std::vector<api::ConfigFlag> list;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (auto flag = api::split_assignment(line)) list.push_back(std::move(*flag));
  }
  check_source(api::read_config_flags(list));
}

void patch(std::string_view text) {
  auto store = api::ConfigStore::load({});
  CHECK(store);
  const Settings before = store->settings();
  const std::uint64_t revision = store->revision();
  const auto change = store->patch(text, std::nullopt);
  if (!change) {
    check_problems(change.error().problems);
    CHECK(store->settings() == before && store->revision() == revision);
  }
  CHECK(store->json().starts_with('{'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 't':
      check_source(api::read_config_text(text, "fuzz.toml"));
      break;
    case 's':
      setting_text(text);
      break;
    case 'f':
      flags(text);
      break;
    case 'p':
      patch(text);
      break;
    default:
      break;
  }
  return 0;
}
