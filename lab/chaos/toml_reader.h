// Reads one TOML table key by key. What was not asked for when the reader ends is an unknown key,
// and so an error that names the nearest known one: a misspelt threshold must never pass.
#pragma once

#include <toml++/toml.h>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

class TomlReader {
 public:
  // Both must outlive the reader.
  TomlReader(const toml::table& table, std::string path, std::vector<Finding>& findings)
      : table_(table), path_(std::move(path)), findings_(findings) {}
  TomlReader(const TomlReader&) = delete;
  TomlReader& operator=(const TomlReader&) = delete;
  ~TomlReader();  // complains about what is left

  bool text(std::string_view key, std::string& out);
  bool number(std::string_view key, double& out, double low, double high);
  bool count(std::string_view key, std::uint64_t& out, std::uint64_t high);
  bool count(std::string_view key, std::uint32_t& out, std::uint32_t high);
  bool duration(std::string_view key, Duration& out);
  bool flag(std::string_view key, bool& out);
  bool texts(std::string_view key, std::vector<std::string>& out);
  const toml::table* table(std::string_view key);
  std::vector<const toml::table*> tables(std::string_view key);
  // A scalar of any type as text, for values whose type another table knows.
  bool scalar(std::string_view key, std::string& out);
  void ignore(std::string_view key) { known_.emplace_back(key); }

  void error(std::string_view key, std::string text);
  std::string path(std::string_view key) const;
  const toml::table& all() const { return table_; }

 private:
  const toml::node* find(std::string_view key);
  const toml::table& table_;
  std::string path_;
  std::vector<Finding>& findings_;
  std::vector<std::string> known_;
};

// A scalar as the text that people would write; empty: it is no scalar.
std::string scalar_text(const toml::node& node);

}  // namespace keelback::chaos
