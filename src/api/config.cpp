#include "api/config.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "base/json_text.h"
#include "base/settings_text.h"

namespace keelback::api {
namespace {

constexpr std::size_t kPatchMax = 1 << 20;
constexpr std::string_view kPatchWhere = "PATCH";

std::size_t index_of(ConfigLayerName layer) { return static_cast<std::size_t>(layer); }

// The value as JSON has it: counts and fractions are numbers, lists arrays, tables objects, the
// rest text.
nlohmann::ordered_json json_value(const SettingRow& row, const std::string& text) {
  if (row.secret) return text.empty() ? "not set" : "set";
  switch (row.type) {
    case SettingType::kCount:
      return *parse_count(text);
    case SettingType::kNumber:
      return *parse_number(text);
    case SettingType::kList:
      return *parse_list(text);
    case SettingType::kTable:
      return *parse_table(text);
    default:
      return text;
  }
}

ValueKind json_kind(const nlohmann::json& value) {
  if (value.is_string()) return ValueKind::kText;
  if (value.is_number()) return ValueKind::kNumber;
  if (value.is_boolean()) return ValueKind::kTruth;
  if (value.is_object()) return ValueKind::kTable;
  return value.is_array() ? ValueKind::kList : ValueKind::kOther;
}

std::expected<std::string, std::string> table_of(const nlohmann::json& object) {
  TextTable texts;
  for (const auto& [name, text] : object.items()) {
    if (!text.is_string()) {
      return std::unexpected(
          fmt::format("takes a table of texts, and '{}' is none", name.substr(0, 100)));
    }
    texts.emplace(name, text.get<std::string>());
  }
  return format_table(texts);
}

// A JSON value as the schema's text; the error follows "KEY: ".
std::expected<std::string, std::string> json_text(const SettingRow& row,
                                                  const nlohmann::json& value) {
  if (auto wrong = wrong_kind(row, json_kind(value))) return std::unexpected(*std::move(wrong));
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) return table_of(value);
  if (!value.is_array()) return value.dump();
  std::vector<std::string> list;
  for (const auto& element : value) {
    if (!element.is_string()) return std::unexpected(std::string("takes a list of texts"));
    list.push_back(element.get<std::string>());
    if (list.back().find(',') != std::string::npos) {
      return std::unexpected(std::string("an element of the list may not contain a comma"));
    }
  }
  return format_list(list);
}

// The object, or what is wrong with it. A key that comes twice is refused: which value counts is
// not clear.
std::expected<nlohmann::json, ConfigProblem> parse_flat(std::string_view flat) {
  if (flat.size() > kPatchMax) {
    return std::unexpected(ConfigProblem{"", "", "the document is larger than 1MiB"});
  }
  if (!json_nests_within(flat, kJsonNestingMax)) {
    return std::unexpected(ConfigProblem{"", "", "the document nests too deep"});
  }
  std::set<std::string> seen;
  std::string twice;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1 &&
        !seen.insert(parsed.get<std::string>()).second) {
      twice = parsed.get<std::string>();
    }
    return true;
  };
  nlohmann::json object = nlohmann::json::parse(flat, watch, /*allow_exceptions=*/false);
  if (object.is_discarded()) {
    return std::unexpected(ConfigProblem{"", "", "the document is not JSON"});
  }
  if (!object.is_object()) {
    return std::unexpected(ConfigProblem{
        "", "", "the document is not a JSON object such as {\"sessions.idle_ttl\": \"5m\"}"});
  }
  if (!twice.empty()) {
    return std::unexpected(ConfigProblem{"", twice, twice + ": is given twice"});
  }
  return object;
}

}  // namespace

std::string_view to_string(ConfigLayerName layer) {
  static constexpr std::array<std::string_view, 5> kNames = {"default", "file", "environment",
                                                             "flags", "runtime"};
  return kNames[index_of(layer)];
}

const ConfigEntry* ConfigStore::entry_in(const Layers& layers, std::string_view key,
                                         ConfigLayerName* layer) {
  for (std::size_t i = layers.size(); i-- > 1;) {
    const auto found = layers[i].find(key);
    if (found == layers[i].end()) continue;
    if (layer != nullptr) *layer = static_cast<ConfigLayerName>(i);
    return &found->second;
  }
  return nullptr;
}

std::expected<Settings, ConfigProblems> ConfigStore::combine(const Layers& layers) {
  Settings settings;
  for (const SettingRow& row : settings_schema()) {
    const ConfigEntry* entry = entry_in(layers, row.key, nullptr);
    if (entry == nullptr) continue;
    // Layers hold canonical text that the schema wrote.
    CHECK(row.set(row, settings, entry->value).has_value());
  }
  ConfigProblems problems;
  std::vector<SettingConflict> conflicts = check_settings(settings);
  for (const std::string_view name : kDeviceVariables) {
    if (settings.workers.devices.empty() || std::getenv(name.data()) == nullptr) continue;
    conflicts.push_back(device_conflict("the environment of this process", name));
  }
  for (SettingConflict& conflict : conflicts) {
    const ConfigEntry* entry = entry_in(layers, conflict.key, nullptr);
    const bool patched = entry != nullptr && entry->where == kPatchWhere;
    problems.push_back({entry == nullptr || patched ? "" : entry->where, std::string(conflict.key),
                        std::move(conflict.why)});
  }
  if (!problems.empty()) return std::unexpected(std::move(problems));
  return settings;
}

std::expected<ConfigStore, ConfigProblems> ConfigStore::load(const Sources& sources) {
  ConfigStore store;
  store.file_ = sources.file;
  ConfigProblems problems;
  const auto take = [&](ConfigLayerName layer, std::expected<ConfigSource, ConfigProblems> source) {
    if (!source) {
      problems.insert(problems.end(), source.error().begin(), source.error().end());
      return;
    }
    store.layers_[index_of(layer)] = std::move(source->layer);
    store.warnings_.insert(store.warnings_.end(), source->warnings.begin(), source->warnings.end());
  };
  if (!sources.file.empty()) take(ConfigLayerName::kFile, read_config_file(sources.file));
  take(ConfigLayerName::kEnvironment, read_config_environment(sources.environment));
  // Below the variables: what was typed for this start is meant more than what is always passed.
  if (auto passed = read_config_credentials(sources.environment); !passed) {
    problems.insert(problems.end(), passed.error().begin(), passed.error().end());
  } else {
    store.layers_[index_of(ConfigLayerName::kEnvironment)].merge(passed->layer);
  }
  take(ConfigLayerName::kFlags, read_config_flags(sources.flags));
  if (!problems.empty()) return std::unexpected(std::move(problems));

  auto settings = combine(store.layers_);
  if (!settings) return std::unexpected(std::move(settings.error()));
  store.settings_ = std::move(*settings);
  return store;
}

ConfigStore::Provenance ConfigStore::provenance(std::string_view key) const {
  Provenance provenance;
  if (const ConfigEntry* entry = entry_in(layers_, key, &provenance.layer)) {
    provenance.where = entry->where;
  }
  return provenance;
}

std::string ConfigStore::etag() const {
  std::uint64_t digest = kFnvBasis;
  for (const SettingRow& row : settings_schema()) {
    if (row.secret) continue;  // not even a hash of it leaves the process
    digest = fnv1a(row.get(settings_) + '\n', digest);
  }
  return fmt::format("{}-{:08x}", revision_, digest >> 32);
}

std::string ConfigStore::json() const {
  nlohmann::ordered_json values = nlohmann::ordered_json::object();
  const Settings defaults;
  for (const SettingRow& row : settings_schema()) {
    const Provenance from = provenance(row.key);
    nlohmann::ordered_json& value = values[std::string(row.key)];
    value["value"] = json_value(row, row.get(settings_));
    value["source"] = to_string(from.layer);
    if (!from.where.empty()) value["where"] = from.where;
    value["live"] = row.live();
    value["scope"] = to_string(row.scope);
    value["type"] = to_string(row.type);
    value["default"] = json_value(row, row.get(defaults));
    if (!row.choices.empty()) value["choices"] = row.choices;
    if (row.secret) value["secret"] = true;
    value["doc"] = row.doc;
  }
  nlohmann::ordered_json document;
  document["revision"] = revision_;
  document["values"] = std::move(values);
  // A file's name may be any bytes; what is not UTF-8 in it is shown as U+FFFD.
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ConfigStore::Change ConfigStore::adopt(Layers layers, const Settings& settings) {
  Change change;
  for (const SettingRow& row : settings_schema()) {
    if (row.get(settings_) != row.get(settings)) change.keys.emplace_back(row.key);
  }
  if (layers != layers_) ++revision_;
  layers_ = std::move(layers);
  settings_ = settings;
  return change;
}

std::expected<ConfigStore::Change, ConfigStore::Refusal> ConfigStore::patch(
    std::string_view flat, std::optional<std::string_view> if_match) {
  if (if_match && *if_match != "*" && *if_match != etag()) {
    return std::unexpected(Refusal{
        true,
        {{"", "", "the configuration has changed since: it is at revision " + etag() + " now"}}});
  }
  const auto object = parse_flat(flat);
  if (!object) return std::unexpected(Refusal{false, {object.error()}});

  Layers layers = layers_;
  ConfigLayer& runtime = layers[index_of(ConfigLayerName::kRuntime)];
  ConfigProblems problems;
  for (const auto& [key, value] : object->items()) {
    const SettingRow* row = find_setting(key);
    if (row == nullptr) {
      problems.push_back({"", key, unknown_setting(key)});
    } else if (!row->live()) {
      problems.push_back({"", key,
                          key + ": cannot change while the program runs; set it in the "
                                "configuration file and restart"});
    } else if (value.is_null()) {
      runtime.erase(key);
    } else if (const auto text = json_text(*row, value); !text) {
      problems.push_back({"", key, key + ": " + text.error()});
    } else {
      ConfigProblems found;
      add_setting(runtime, found, key, *text, std::string(kPatchWhere));
      for (ConfigProblem& p : found) problems.push_back({"", key, std::move(p.why)});
    }
  }
  if (!problems.empty()) return std::unexpected(Refusal{false, std::move(problems)});
  const auto settings = combine(layers);
  if (!settings) return std::unexpected(Refusal{false, settings.error()});
  return adopt(std::move(layers), *settings);
}

std::expected<ConfigStore::Change, ConfigProblems> ConfigStore::reload_file() {
  if (file_.empty()) return Change{};
  auto source = read_config_file(file_);
  if (!source) return std::unexpected(std::move(source.error()));

  Layers layers = layers_;
  const ConfigLayer& old = layers_[index_of(ConfigLayerName::kFile)];
  ConfigLayer& file = layers[index_of(ConfigLayerName::kFile)];
  file = std::move(source->layer);
  std::vector<std::string> pending;
  for (const SettingRow& row : settings_schema()) {
    if (row.live()) continue;
    const auto before = old.find(row.key);
    const auto after = file.find(row.key);
    const bool same = before == old.end()
                          ? after == file.end()
                          : after != file.end() && after->second.value == before->second.value;
    if (same) continue;
    pending.push_back(std::string(row.key) + " has changed in " + file_ +
                      " and waits for a restart");
    if (before == old.end()) {
      file.erase(after);
    } else {
      file[std::string(row.key)] = before->second;
    }
  }
  const auto settings = combine(layers);
  if (!settings) return std::unexpected(settings.error());
  Change change = adopt(std::move(layers), *settings);
  change.pending = std::move(pending);
  change.warnings = std::move(source->warnings);
  return change;
}

}  // namespace keelback::api
