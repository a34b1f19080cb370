// The configuration in force: default < file < environment < flags < runtime. Each value knows
// where it comes from. The file can be read again while the program runs. PATCH /v1/config and
// `keelback config set` write the runtime layer.
//
// A change is made as a whole or not at all, and only if the result is valid. Keys of scope
// *restart* cannot change. If a file that is read again has other values for such keys, they keep
// the old ones, and the result of the change names them.
//
// Threads: the owner uses it from one thread (the daemon: the driver's loop).
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/config_sources.h"
#include "base/settings.h"
#include "base/settings_schema.h"

namespace keelback::api {

enum class ConfigLayerName : std::uint8_t { kDefault, kFile, kEnvironment, kFlags, kRuntime };
std::string_view to_string(ConfigLayerName layer);  // "default", "file", "environment", …

class ConfigStore {
 public:
  struct Sources {
    std::string file;  // path; empty: none
    Environment environment;
    std::vector<ConfigFlag> flags;
  };
  // What came of a reload or a patch.
  struct Change {
    std::vector<std::string> keys;     // their values in force have changed
    std::vector<std::string> pending;  // sentences: what waits for a restart
    std::vector<std::string> warnings;
  };
  struct Refusal {
    bool stale = false;  // the document has changed since the revision that the caller saw
    ConfigProblems problems;
  };
  struct Provenance {
    ConfigLayerName layer = ConfigLayerName::kDefault;
    std::string where;  // empty for defaults
  };

  [[nodiscard]] static std::expected<ConfigStore, ConfigProblems> load(const Sources& sources);

  const Settings& settings() const { return settings_; }
  const std::vector<std::string>& warnings() const { return warnings_; }  // of load()
  Provenance provenance(std::string_view key) const;

  // Counts changes, of a value or of where it comes from; from 1.
  std::uint64_t revision() const { return revision_; }
  // The revision and a hash of the values (not of secrets), so that an old one does not match by
  // chance after a restart.
  std::string etag() const;
  // GET /v1/config: {"revision":1,"values":{"pool.workers":{"value":2,"source":"default",…}}}
  std::string json() const;

  // `flat`: a JSON object of dotted keys, at most 1 MiB; null takes the key out of the runtime
  // layer. if_match: an etag() or "*".
  [[nodiscard]] std::expected<Change, Refusal> patch(std::string_view flat,
                                                     std::optional<std::string_view> if_match);
  // Reads the file again; without a file nothing changes.
  [[nodiscard]] std::expected<Change, ConfigProblems> reload_file();

 private:
  using Layers = std::array<ConfigLayer, 5>;  // by ConfigLayerName; the first one stays empty

  ConfigStore() = default;
  static const ConfigEntry* entry_in(const Layers& layers, std::string_view key,
                                     ConfigLayerName* layer);
  static std::expected<Settings, ConfigProblems> combine(const Layers& layers);
  Change adopt(Layers layers, const Settings& settings);

  Layers layers_;
  Settings settings_;
  std::string file_;
  std::vector<std::string> warnings_;
  std::uint64_t revision_ = 1;
};

}  // namespace keelback::api
