#include "chaos/toml_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"
#include "base/settings_text.h"

namespace keelback::chaos {

std::string scalar_text(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return *text;
  if (const auto number = node.value_exact<std::int64_t>()) return std::to_string(*number);
  if (const auto number = node.value_exact<double>()) return format_number(*number);
  if (const auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
  return "";
}

TomlReader::~TomlReader() {
  for (const auto& [key, node] : table_) {
    if (std::ranges::find(known_, key.str()) != known_.end()) continue;
    const std::vector<std::string_view> names(known_.begin(), known_.end());
    error(key.str(), "is not known here" + did_you_mean(key.str(), names));
  }
}

std::string TomlReader::path(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

void TomlReader::error(std::string_view key, std::string text) {
  findings_.push_back({true, path(key), std::move(text)});
}

const toml::node* TomlReader::find(std::string_view key) {
  known_.emplace_back(key);
  return table_.get(key);
}

bool TomlReader::text(std::string_view key, std::string& out) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto value = node->value_exact<std::string>();
  if (!value) return error(key, "must be a text"), false;
  out = *value;
  return true;
}

bool TomlReader::number(std::string_view key, double& out, double low, double high) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto value = node->is_number() ? node->value<double>() : std::nullopt;
  if (!value) return error(key, "must be a number"), false;
  if (*value < low || *value > high) {
    return error(key,
                 fmt::format("must be from {} to {}", format_number(low), format_number(high))),
           false;
  }
  out = *value;
  return true;
}

bool TomlReader::count(std::string_view key, std::uint64_t& out, std::uint64_t high) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto value = node->value_exact<std::int64_t>();
  if (!value || *value < 0 || static_cast<std::uint64_t>(*value) > high) {
    return error(key, fmt::format("must be a whole number of at most {}", high)), false;
  }
  out = static_cast<std::uint64_t>(*value);
  return true;
}

bool TomlReader::count(std::string_view key, std::uint32_t& out, std::uint32_t high) {
  std::uint64_t value = out;
  if (!count(key, value, static_cast<std::uint64_t>(high))) return false;
  out = static_cast<std::uint32_t>(value);
  return true;
}

bool TomlReader::duration(std::string_view key, Duration& out) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto text = node->value_exact<std::string>();
  const auto value = text ? parse_duration(*text) : std::unexpected(std::string("must be a text"));
  if (!value) return error(key, value.error() + ", such as \"200ms\""), false;
  out = *value;
  return true;
}

bool TomlReader::flag(std::string_view key, bool& out) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto value = node->value_exact<bool>();
  if (!value) return error(key, "must be true or false"), false;
  out = *value;
  return true;
}

bool TomlReader::texts(std::string_view key, std::vector<std::string>& out) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const toml::array* array = node->as_array();
  if (array == nullptr) return error(key, "must be a list of texts"), false;
  out.clear();
  for (const toml::node& item : *array) {
    const auto text = item.value_exact<std::string>();
    if (!text) return error(key, "must be a list of texts"), false;
    out.push_back(*text);
  }
  return true;
}

const toml::table* TomlReader::table(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) return nullptr;
  if (!node->is_table()) error(key, "must be a table");
  return node->as_table();
}

std::vector<const toml::table*> TomlReader::tables(std::string_view key) {
  const toml::node* node = find(key);
  std::vector<const toml::table*> out;
  if (node == nullptr) return out;
  const toml::array* array = node->as_array();
  if (array == nullptr) return error(key, "must be written as [[" + path(key) + "]]"), out;
  for (const toml::node& item : *array) {
    if (item.is_table()) {
      out.push_back(item.as_table());
    } else {
      error(key, "must be written as [[" + path(key) + "]]");
    }
  }
  return out;
}

bool TomlReader::scalar(std::string_view key, std::string& out) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  out = scalar_text(*node);
  if (out.empty() && !node->is_string()) return error(key, "must be a single value"), false;
  return true;
}

}  // namespace keelback::chaos
