// How a pool is to be set up: the application and the settings. Keys, units and defaults are those
// of docs/configuration.md; values are written as in the file and on the command line: "200ms",
// "64KiB", "4", "true".
//
// Not thread-safe; cheap to copy. Nothing here blocks, except from_file(), which reads a file.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keelback {

// Why something was refused: one sentence for people.
struct Error {
  std::string message;
};

using KeyValue = std::pair<std::string, std::string>;

class Config {
 public:
  Config();
  // `app`: a path ("app.py") or a module ("package.module"), as `keelback serve` takes it.
  explicit Config(std::string app);
  ~Config();
  Config(const Config& other);
  Config& operator=(const Config& other);
  Config(Config&&) noexcept;
  Config& operator=(Config&&) noexcept;

  // Takes the settings of a TOML file. set() and use_environment() win over the file, in whatever
  // order they are called. Errors: no such file, not TOML, an unknown key (the error names the
  // nearest known one), a bad value.
  [[nodiscard]] static std::expected<Config, Error> from_file(const std::string& path);

  Config& app(std::string app);
  // The functions that a module without decorators offers. If none is named, the application offers
  // the functions that it decorates.
  Config& expose(std::vector<std::string> functions);
  // An environment variable for the workers, beside what they inherit. It wins over the setting
  // workers.env. One that workers.devices sets, too, is an error when the pool starts.
  Config& worker_environment(std::string name, std::string value);

  // Sets one setting. It wins over file and environment; the last call for a key counts. A bad key
  // or value is an error and changes nothing.
  [[nodiscard]] std::expected<void, Error> set(std::string_view key, std::string_view value);
  // Several at once: all of them, or an error and none.
  [[nodiscard]] std::expected<void, Error> set(const std::vector<KeyValue>& values);
  // Takes settings from the process environment: KEELBACK_POOL_WORKERS=4 is pool.workers. Without
  // this call no setting comes from there.
  [[nodiscard]] std::expected<void, Error> use_environment();

  // The value in effect, written as set() takes it. An error for an unknown key.
  [[nodiscard]] std::expected<std::string, Error> get(std::string_view key) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }  // for Pool

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelback
