// The sources of settings: the TOML file, the environment, flags. Each source is read completely,
// so that every problem is found and not only the first one.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/settings_schema.h"

namespace keelback::api {

// Something wrong with what the user wrote; never holds a secret's value.
struct ConfigProblem {
  std::string where;  // "keelback.toml:3:1", "KEELBACK_POOL_WORKERS", "--set"; may be empty
  std::string key;    // empty: not about one key
  std::string why;    // a sentence
};
std::string to_string(const ConfigProblem& problem);  // "where: why"

struct ConfigEntry {
  std::string value;  // canonical text, as the schema writes it
  std::string where;  // "keelback.toml:3", "KEELBACK_POOL_WORKERS", "--workers", "PATCH"
  friend bool operator==(const ConfigEntry&, const ConfigEntry&) = default;
};
using ConfigLayer = std::map<std::string, ConfigEntry, std::less<>>;

struct ConfigSource {
  ConfigLayer layer;
  std::vector<std::string> warnings;  // sentences
};
using ConfigProblems = std::vector<ConfigProblem>;

// The type of a value in JSON and TOML. A text is read like the text of a flag, for every setting.
// A number, a list or a table fits only a setting of that type.
enum class ValueKind : std::uint8_t { kText, kNumber, kTruth, kList, kTable, kOther };
// "takes a list of texts, not a number"; nullopt: the setting takes such a value.
std::optional<std::string> wrong_kind(const SettingRow& row, ValueKind kind);

// Puts key = text, checked and in canonical form, into the layer; else adds to the problems.
void add_setting(ConfigLayer& layer, ConfigProblems& problems, std::string_view key,
                 std::string_view text, std::string where);

// name: what positions in messages are relative to, usually the path as the user gave it.
[[nodiscard]] std::expected<ConfigSource, ConfigProblems> read_config_text(std::string_view toml,
                                                                           const std::string& name);
// A regular file of at most 1 MiB.
[[nodiscard]] std::expected<ConfigSource, ConfigProblems> read_config_file(const std::string& path);

// KEELBACK_SECTION_KEY. Our variables that are not settings are ignored. Any other KEELBACK_* gives
// a warning with the name of the nearest setting.
using Environment = std::vector<std::pair<std::string, std::string>>;
[[nodiscard]] std::expected<ConfigSource, ConfigProblems> read_config_environment(
    const Environment& environment);
// The secrets that a service manager passes as files of $CREDENTIALS_DIRECTORY (systemd's
// LoadCredential=): keelback.server.token for server.token. Without the line end that an editor
// leaves. A file that is missing or empty sets nothing; one that cannot be read is a problem.
[[nodiscard]] std::expected<ConfigSource, ConfigProblems> read_config_credentials(
    const Environment& environment);
// "sessions.idle_ttl" -> "KEELBACK_SESSIONS_IDLE_TTL"
std::string environment_name(std::string_view key);

struct ConfigFlag {
  std::string key;
  std::string value;
  std::string where;  // "--set", "--workers"
};
// The last of several flags for one key counts.
[[nodiscard]] std::expected<ConfigSource, ConfigProblems> read_config_flags(
    const std::vector<ConfigFlag>& flags);
// "key=value" -> its halves; an error is a sentence.
[[nodiscard]] std::expected<ConfigFlag, std::string> split_assignment(std::string_view text);

}  // namespace keelback::api
