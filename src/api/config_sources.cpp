#include "api/config_sources.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>

#include "base/check.h"
#include "base/nearest.h"
#include "base/settings_schema.h"
#include "base/settings_text.h"
#include "base/toml_nesting.h"

namespace keelback::api {
namespace {

constexpr std::size_t kFileMax = 1 << 20;
constexpr std::size_t kSecretMax = 4096;

// KEELBACK_* variables that are not settings: switches of tests, settings of clients, and what the
// supervisor tells the processes that it starts. No setting has one of these names.
constexpr std::array<std::string_view, 15> kOtherVariables = {
    "KEELBACK_BACKEND",   "KEELBACK_LEVEL",       "KEELBACK_TIMEOUTS",   "KEELBACK_URL",
    "KEELBACK_TOKEN",     "KEELBACK_WORKER",      "KEELBACK_PYTHON_DIR", "KEELBACK_LIBEXEC_DIR",
    "KEELBACK_SHARED_FD", "KEELBACK_VENV_PYTHON", "KEELBACK_BUILD_DIR",  "KEELBACK_SANITIZE",
    "KEELBACK_OWNER",     "KEELBACK_INSPECTABLE", "KEELBACK_DEVICE",
};
// Not settings either: the tests' marks on the processes that a test starts, and what the shipped
// DSPy application is told.
constexpr std::array<std::string_view, 2> kOtherPrefixes = {"KEELBACK_TEST_", "KEELBACK_DSPY_"};

std::string position(const std::string& name, const toml::source_region& source, bool column) {
  std::string text = name + ":" + std::to_string(source.begin.line);
  if (column) text += ":" + std::to_string(source.begin.column);
  return text;
}

ValueKind toml_kind(const toml::node& node) {
  if (node.is_string()) return ValueKind::kText;
  if (node.is_number()) return ValueKind::kNumber;
  if (node.is_boolean()) return ValueKind::kTruth;
  if (node.is_table()) return ValueKind::kTable;
  return node.is_array() ? ValueKind::kList : ValueKind::kOther;
}

std::string wanted(const SettingRow& row) {
  switch (row.type) {
    case SettingType::kCount:
      return "a whole number";
    case SettingType::kNumber:
      return "a number";
    case SettingType::kDuration:
      return "a duration such as \"200ms\"";
    case SettingType::kSize:
      return "a size such as \"64KiB\"";
    case SettingType::kText:
      return "a text";
    case SettingType::kList:
      return "a list of texts";
    case SettingType::kTable:
      return "a table of texts";
    case SettingType::kChoice:
      return fmt::format("one of {}", fmt::join(row.choices, ", "));
  }
  CHECK(!"type out of range");
  return {};
}

std::string_view name_of(ValueKind kind) {
  static constexpr std::array<std::string_view, 6> kNames = {"a text", "a number", "a truth value",
                                                             "a list", "a table",  "this"};
  return kNames[static_cast<std::size_t>(kind)];
}

// An array of texts as a list; an element that would become two is refused.
std::expected<std::string, std::string> list_of(const toml::array& array) {
  std::vector<std::string> list;
  for (const toml::node& element : array) {
    const auto* text = element.as_string();
    if (text == nullptr) return std::unexpected(std::string("takes a list of texts"));
    if (text->get().find(',') != std::string::npos) {
      return std::unexpected(std::string("an element of the list may not contain a comma"));
    }
    list.push_back(text->get());
  }
  return format_list(list);
}

std::expected<std::string, std::string> table_of(const toml::table& table) {
  TextTable texts;
  for (const auto& [name, node] : table) {
    const auto* text = node.as_string();
    if (text == nullptr) {
      return std::unexpected(
          fmt::format("takes a table of texts, and '{}' is none", name.str().substr(0, 100)));
    }
    texts.emplace(name.str(), text->get());
  }
  return format_table(texts);
}

// A TOML value as the schema's text; the error follows "KEY: ".
std::expected<std::string, std::string> toml_text(const SettingRow& row, const toml::node& node) {
  if (auto wrong = wrong_kind(row, toml_kind(node))) return std::unexpected(*std::move(wrong));
  if (const auto* array = node.as_array()) return list_of(*array);
  if (const auto* table = node.as_table()) return table_of(*table);
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* number = node.as_floating_point()) return format_number(number->get());
  return node.as_string()->get();
}

class TomlReader {
 public:
  explicit TomlReader(const std::string& name) : name_(name) {}

  void table(const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
      const std::string full = prefix + std::string(key.str());
      if (const SettingRow* row = find_setting(full)) {
        value(*row, node);
      } else if (const auto* inner = node.as_table(); inner != nullptr && is_section(full)) {
        this->table(*inner, full + ".");
      } else {
        problem(full, node.source(), unknown(full, node.is_table()));
      }
    }
  }

  ConfigSource source;
  ConfigProblems problems;

 private:
  static bool is_section(std::string_view name) {
    return std::any_of(
        settings_schema().begin(), settings_schema().end(),
        [&](const SettingRow& row) { return row.key.substr(0, row.key.find('.')) == name; });
  }
  static std::string unknown(const std::string& full, bool is_table) {
    if (!is_table || full.find('.') != std::string::npos) return unknown_setting(full);
    std::vector<std::string_view> sections;
    for (const SettingRow& row : settings_schema()) {
      const std::string_view section = row.key.substr(0, row.key.find('.'));
      if (sections.empty() || sections.back() != section) sections.push_back(section);
    }
    const std::string_view near = plausible(full, sections);
    return "unknown section [" + full + "]" +
           (near.empty() ? "" : "; did you mean [" + std::string(near) + "]?");
  }
  void problem(const std::string& key, const toml::source_region& at, std::string why) {
    problems.push_back({position(name_, at, true), key, std::move(why)});
  }
  void value(const SettingRow& row, const toml::node& node) {
    const std::string key(row.key);
    const auto text = toml_text(row, node);
    if (!text) return problem(key, node.source(), key + ": " + text.error());
    ConfigProblems found;
    add_setting(source.layer, found, key, *text, position(name_, node.source(), false));
    for (ConfigProblem& p : found) problem(key, node.source(), std::move(p.why));
  }

  const std::string& name_;  // outlives the reader
};

}  // namespace

std::optional<std::string> wrong_kind(const SettingRow& row, ValueKind kind) {
  const bool counted = row.type == SettingType::kCount || row.type == SettingType::kNumber ||
                       row.type == SettingType::kDuration || row.type == SettingType::kSize;
  if (kind == ValueKind::kText || (kind == ValueKind::kNumber && counted) ||
      (kind == ValueKind::kList && row.type == SettingType::kList) ||
      (kind == ValueKind::kTable && row.type == SettingType::kTable)) {
    return std::nullopt;
  }
  return fmt::format("takes {}, not {}", wanted(row), name_of(kind));
}

std::string to_string(const ConfigProblem& problem) {
  return problem.where.empty() ? problem.why : problem.where + ": " + problem.why;
}

void add_setting(ConfigLayer& layer, ConfigProblems& problems, std::string_view key,
                 std::string_view text, std::string where) {
  Settings scratch;
  if (auto ok = set_setting(scratch, key, text); !ok) {
    problems.push_back({std::move(where), std::string(key), ok.error()});
    return;
  }
  layer[std::string(key)] = {find_setting(key)->get(scratch), std::move(where)};
}

std::expected<ConfigSource, ConfigProblems> read_config_text(std::string_view toml,
                                                             const std::string& name) {
  if (const auto deep = toml_too_deep(toml)) {
    return std::unexpected(
        ConfigProblems{{name + ":" + std::to_string(deep->line), "", deep->why}});
  }
  TomlReader reader(name);
  try {
    const toml::table table = toml::parse(toml, std::string_view(name));
    reader.table(table, "");
  } catch (const toml::parse_error& error) {
    return std::unexpected(ConfigProblems{
        {position(name, error.source(), true), "", std::string(error.description())}});
  }
  if (!reader.problems.empty()) return std::unexpected(std::move(reader.problems));
  return std::move(reader.source);
}

std::expected<ConfigSource, ConfigProblems> read_config_file(const std::string& path) {
  const auto fail = [&](std::string why) {
    return std::unexpected(ConfigProblems{{path, "", std::move(why)}});
  };
  // A running daemon reads it on its loop: nothing that somebody has put there may make it wait.
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(fd < 0 ? nullptr : ::fdopen(fd, "rb"),
                                                             std::fclose);
  struct stat status{};
  if (!file || ::fstat(fd, &status) != 0) {
    return fail("the configuration file cannot be read: " +
                std::error_code(errno, std::generic_category()).message());
  }
  if (!S_ISREG(status.st_mode)) return fail("the configuration is not a regular file");
  if (status.st_size > static_cast<off_t>(kFileMax)) {
    return fail("the configuration file is larger than 1MiB");
  }
  std::string text(kFileMax + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return fail("the configuration file cannot be read");
  if (text.size() > kFileMax) return fail("the configuration file is larger than 1MiB");

  auto source = read_config_text(text, path);
  if (source && (status.st_mode & (S_IRGRP | S_IROTH)) != 0) {
    for (const SettingRow& row : settings_schema()) {
      if (!row.secret || !source->layer.contains(row.key)) continue;
      source->warnings.push_back(path + " holds " + std::string(row.key) +
                                 " and can be read by others; chmod 600 it");
    }
  }
  return source;
}

std::string environment_name(std::string_view key) {
  std::string name = "KEELBACK_";
  for (const char c : key) {
    name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::expected<ConfigSource, ConfigProblems> read_config_environment(
    const Environment& environment) {
  std::map<std::string, std::string_view> known;
  for (const SettingRow& row : settings_schema()) known[environment_name(row.key)] = row.key;
  std::vector<std::string_view> names(kOtherVariables.begin(), kOtherVariables.end());
  for (const auto& [name, key] : known) names.push_back(name);

  ConfigSource source;
  ConfigProblems problems;
  for (const auto& [name, value] : environment) {
    if (!name.starts_with("KEELBACK_")) continue;
    if (std::ranges::any_of(kOtherPrefixes,
                            [&name](auto prefix) { return name.starts_with(prefix); })) {
      continue;
    }
    if (const auto found = known.find(name); found != known.end()) {
      add_setting(source.layer, problems, found->second, value, name);
    } else if (std::find(kOtherVariables.begin(), kOtherVariables.end(), name) ==
               kOtherVariables.end()) {
      source.warnings.push_back("the environment variable " + name.substr(0, 100) +
                                " is not known and ignored" + did_you_mean(name, names));
    }
  }
  if (!problems.empty()) return std::unexpected(std::move(problems));
  return source;
}

std::expected<ConfigSource, ConfigProblems> read_config_credentials(
    const Environment& environment) {
  ConfigSource source;
  const auto directory =
      std::ranges::find(environment, "CREDENTIALS_DIRECTORY", &Environment::value_type::first);
  if (directory == environment.end()) return source;
  ConfigProblems problems;
  for (const SettingRow& row : settings_schema()) {
    if (!row.secret) continue;
    const std::string name = "keelback." + std::string(row.key);
    const std::string where = "credential " + name;
    const std::string path = directory->second + "/" + name;
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0 && errno == ENOENT) continue;
    std::ifstream file(path, std::ios::binary);
    std::string text(kSecretMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    if (!file.is_open() || file.bad()) {
      problems.push_back({where, std::string(row.key), path + " cannot be read"});
      continue;
    }
    if (text.size() > kSecretMax) {
      problems.push_back({where, std::string(row.key), path + " is larger than 4KiB"});
      continue;
    }
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    if (!text.empty()) add_setting(source.layer, problems, row.key, text, where);
  }
  if (!problems.empty()) return std::unexpected(std::move(problems));
  return source;
}

std::expected<ConfigSource, ConfigProblems> read_config_flags(
    const std::vector<ConfigFlag>& flags) {
  ConfigSource source;
  ConfigProblems problems;
  for (const ConfigFlag& flag : flags) {
    add_setting(source.layer, problems, flag.key, flag.value, flag.where);
  }
  if (!problems.empty()) return std::unexpected(std::move(problems));
  return source;
}

std::expected<ConfigFlag, std::string> split_assignment(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    // The text may be a secret that was pasted: the message repeats only a key that we know.
    const std::string key = find_setting(text) != nullptr ? std::string(text) : "KEY";
    return std::unexpected("write " + key + "=VALUE, for example pool.workers=4");
  }
  return ConfigFlag{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)),
                    "--set"};
}

}  // namespace keelback::api
