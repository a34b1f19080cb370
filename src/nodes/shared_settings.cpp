#include "nodes/shared_settings.h"

#include <algorithm>

#include "base/settings_schema.h"

namespace keelback::nodes {
namespace {

bool is_shared(std::string_view key) {
  if (key == "calls.idempotency_ttl") return true;
  return key.starts_with("sessions.") && key != "sessions.store" && key != "sessions.store_max";
}

}  // namespace

std::string shared_text(const Settings& settings) {
  std::string text;
  for (const SettingRow& row : settings_schema()) {
    if (!is_shared(row.key)) continue;
    text += row.key;
    text += '=';
    text += row.get(settings);
    text += '\n';
  }
  return text;
}

void obey(std::string_view text, Settings& settings) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || !is_shared(line.substr(0, equals))) continue;
    static_cast<void>(set_setting(settings, line.substr(0, equals), line.substr(equals + 1)));
  }
}

cluster::Rules rules_of(const Settings& settings) {
  cluster::Rules rules;
  rules.commits_each_call = settings.sessions.snapshot == SnapshotMode::kEachCall;
  rules.idle_ttl = settings.sessions.idle_ttl;
  rules.max_age = settings.sessions.max_age;
  rules.tombstone_ttl = settings.sessions.tombstone_ttl;
  rules.key_ttl = settings.calls.idempotency_ttl;
  rules.restore_other_digest = settings.sessions.restore_other_digest == YesNo::kYes;
  return rules;
}

}  // namespace keelback::nodes
