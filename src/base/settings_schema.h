// Every setting's key, type, bounds, scope and sentence, and how to read and write it as text. The
// configuration layers, GET and PATCH /v1/config, the command's flags and docs/configuration.md are
// made from this table; settings_schema.cpp does not compile if a field of Settings has no row.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"

namespace keelback {

enum class SettingType : std::uint8_t {
  kCount,     // a whole number
  kNumber,    // a fraction
  kDuration,  // 200ms
  kSize,      // 64KiB
  kText,
  kList,    // of texts, comma-separated
  kTable,   // of texts by name: NAME=text, comma-separated
  kChoice,  // one of `choices`
};
std::string_view to_string(SettingType type);

enum class SettingScope : std::uint8_t {
  kExisting,        // a change applies at once to what exists
  kNewCalls,        // to calls and sessions that come after it
  kNextGeneration,  // to workers started after it
  kRestart,         // not while the program runs
};
std::string_view to_string(SettingScope scope);  // "existing", "new calls", …

struct SettingRow {
  std::string_view key;  // "sessions.idle_ttl"
  SettingType type;
  SettingScope scope;
  // Bounds of a count or a number; of a duration in nanoseconds; of a size in bytes; of the length
  // of a text, a list or a table. long double is exact for every 64-bit integer.
  long double min;
  long double max;
  std::string_view zero;  // what 0 (or an empty text) means: "off"; empty: nothing special
  std::string_view doc;   // one sentence
  bool secret;            // never shown: get() is for programs, not for people
  std::span<const std::string_view> choices;
  std::string (*get)(const Settings&);  // canonical text, which set() reads back
  // Nothing is changed on an error. The error is what follows "KEY: ".
  std::expected<void, std::string> (*set)(const SettingRow&, Settings&, std::string_view text);

  bool live() const { return scope != SettingScope::kRestart; }
};

// In the order of documentation: by section.
std::span<const SettingRow> settings_schema();
const SettingRow* find_setting(std::string_view key);  // nullptr: there is no such key
// "unknown key 'session.idle_ttl'; did you mean sessions.idle_ttl?"
std::string unknown_setting(std::string_view key);

// Reads `text` into the field named by `key`; checks bounds, not how settings fit together. The
// error is a whole sentence that names the key. A secret's value never appears in it.
std::expected<void, std::string> set_setting(Settings& settings, std::string_view key,
                                             std::string_view text);

// Settings that contradict each other. Empty: they may be used.
struct SettingConflict {
  std::string_view key;  // the one to change
  std::string why;       // a sentence
};
std::vector<SettingConflict> check_settings(const Settings& settings);

// The variables that workers.devices sets; the texts end with a NUL.
inline constexpr std::array<std::string_view, 2> kDeviceVariables = {"CUDA_VISIBLE_DEVICES",
                                                                     "ROCR_VISIBLE_DEVICES"};
// Why workers.devices contradicts that `where` sets one of those variables, too.
SettingConflict device_conflict(std::string_view where, std::string_view variable);

// "unix:/path" with an absolute path, or "host:port", "[v6]:port"; else a reason.
std::expected<void, std::string> check_listen(std::string_view address);
// Only this machine can reach it: a unix socket, localhost, 127.0.0.0/8 or [::1].
bool is_local_listen(std::string_view address);

}  // namespace keelback
