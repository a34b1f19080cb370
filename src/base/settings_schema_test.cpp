#include "base/settings_schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/settings_text.h"

namespace keelback {
namespace {

using namespace std::chrono_literals;

// A legal value other than the default, for any row.
std::string other_value(const SettingRow& row, const Settings& settings) {
  const std::string now = row.get(settings);
  if (row.key == "sessions.store") return "sqlite:/var/lib/keelback.db";
  if (row.key == "server.unix_mode") return "0660";
  if (row.key == "cluster.store")
    return "postgresql://keelback:pw@db:5432/keelback?sslmode=require";
  if (row.key == "cluster.advertise") return "http://node-1:8080";
  if (row.key == "server.allowed_hosts") return "api.example.com,*.example.org";
  if (row.key == "server.trusted_proxies") return "10.0.0.0/8,unix";
  switch (row.type) {
    case SettingType::kCount:
      return now == "7" ? "8" : "7";
    case SettingType::kNumber:
      return now == "0.5" ? "0.25" : "0.5";
    case SettingType::kDuration:
      return now == "7s" ? "8s" : "7s";
    case SettingType::kSize:
      return now == "7MiB" ? "8MiB" : "7MiB";
    case SettingType::kText:
      return "something-else";
    case SettingType::kList:
      return "127.0.0.1:0,unix:/run/keelback.sock";
    case SettingType::kTable:
      return "NO_PROXY=a\\,b,PORT=91{slot}";
    case SettingType::kChoice:
      return std::string(row.choices[now == row.choices[0] ? 1 : 0]);
  }
  return "";
}

// Goal: each row reads and writes one field, its own. With the count of fields, which is checked
// when the schema is compiled, that means: every field has a row.
TEST(SettingsSchema, EachRowOwnsExactlyOneField) {
  for (const SettingRow& row : settings_schema()) {
    Settings settings;
    const std::string value = other_value(row, settings);
    const auto set = set_setting(settings, row.key, value);
    ASSERT_TRUE(set.has_value()) << set.error();
    EXPECT_NE(settings, Settings{}) << row.key;
    EXPECT_EQ(row.get(settings), value) << row.key;
    for (const SettingRow& another : settings_schema()) {
      if (another.key == row.key) continue;
      EXPECT_EQ(another.get(settings), another.get(Settings{}))
          << row.key << " moved " << another.key;
    }
  }
}

TEST(SettingsSchema, DefaultsAreLegalCanonicalAndDoNotContradictEachOther) {
  std::set<std::string_view> keys;
  for (const SettingRow& row : settings_schema()) {
    Settings settings;
    const auto set = set_setting(settings, row.key, row.get(settings));
    EXPECT_TRUE(set.has_value()) << set.error();
    EXPECT_EQ(settings, Settings{}) << row.key;
    EXPECT_TRUE(keys.insert(row.key).second) << row.key;
    EXPECT_TRUE(row.doc.ends_with(".")) << row.key;
    EXPECT_EQ(find_setting(row.key), &row);
    EXPECT_EQ(row.type == SettingType::kChoice, !row.choices.empty()) << row.key;
  }
  EXPECT_TRUE(check_settings(Settings{}).empty());
}

// Goal: the keys that the product's contract names are all there, under these names and scopes.
TEST(SettingsSchema, HoldsTheContract) {
  const std::map<std::string_view, SettingScope> kContract = {
      {"pool.workers", SettingScope::kExisting},
      {"pool.workers_max", SettingScope::kExisting},
      {"pool.scale_up_delay", SettingScope::kExisting},
      {"pool.scale_down_after", SettingScope::kExisting},
      {"pool.min_ready", SettingScope::kExisting},
      {"pool.backend", SettingScope::kRestart},
      {"pool.queue_max", SettingScope::kExisting},
      {"pool.queue_delay_max", SettingScope::kExisting},
      {"calls.deadline", SettingScope::kNewCalls},
      {"calls.deadline_max", SettingScope::kNewCalls},
      {"calls.grace", SettingScope::kExisting},
      {"calls.retries", SettingScope::kNewCalls},
      {"calls.retry_budget", SettingScope::kExisting},
      {"calls.payload_max", SettingScope::kExisting},
      {"calls.idempotency_ttl", SettingScope::kExisting},
      {"sessions.mode", SettingScope::kNewCalls},
      {"sessions.idle_ttl", SettingScope::kExisting},
      {"sessions.max_age", SettingScope::kExisting},
      {"sessions.max", SettingScope::kExisting},
      {"sessions.queue_max", SettingScope::kExisting},
      {"sessions.tombstone_ttl", SettingScope::kExisting},
      {"sessions.snapshot", SettingScope::kExisting},
      {"sessions.store", SettingScope::kRestart},
      {"sessions.snapshot_max", SettingScope::kExisting},
      {"sessions.store_max", SettingScope::kExisting},
      {"sessions.restore_other_digest", SettingScope::kExisting},
      {"workers.python", SettingScope::kRestart},
      {"workers.user", SettingScope::kRestart},
      {"workers.zygote", SettingScope::kNextGeneration},
      {"workers.blas_threads", SettingScope::kRestart},
      {"workers.env", SettingScope::kNextGeneration},
      {"workers.devices", SettingScope::kNextGeneration},
      {"workers.start_timeout", SettingScope::kExisting},
      {"workers.concurrency", SettingScope::kExisting},
      {"workers.loop_lag_warn", SettingScope::kExisting},
      {"workers.max_calls", SettingScope::kNextGeneration},
      {"workers.max_age", SettingScope::kNextGeneration},
      {"workers.max_rss", SettingScope::kNextGeneration},
      {"workers.memory_limit", SettingScope::kNextGeneration},
      {"workers.cgroup", SettingScope::kRestart},
      {"workers.memory_max", SettingScope::kNextGeneration},
      {"workers.processes_max", SettingScope::kNextGeneration},
      {"workers.drain_timeout", SettingScope::kExisting},
      {"breaker.failures", SettingScope::kExisting},
      {"breaker.window", SettingScope::kExisting},
      {"breaker.open_for", SettingScope::kExisting},
      {"quarantine.deaths", SettingScope::kExisting},
      {"quarantine.ttl", SettingScope::kExisting},
      {"server.listen", SettingScope::kRestart},
      {"server.admin_listen", SettingScope::kRestart},
      {"server.unix_token", SettingScope::kExisting},
      {"server.token", SettingScope::kExisting},
      {"server.cancel_on_disconnect", SettingScope::kExisting},
      {"server.drain_timeout", SettingScope::kExisting},
      {"cluster.store", SettingScope::kRestart},
      {"cluster.node", SettingScope::kRestart},
      {"cluster.advertise", SettingScope::kRestart},
      {"cluster.token", SettingScope::kRestart},
      {"cluster.lease", SettingScope::kRestart},
      {"log.level", SettingScope::kExisting},
      {"log.format", SettingScope::kExisting},
  };
  for (const auto& [key, scope] : kContract) {
    const SettingRow* row = find_setting(key);
    ASSERT_NE(row, nullptr) << key;
    EXPECT_EQ(row->scope, scope) << key;
    const bool secret = key == "server.token" || key == "cluster.token" || key == "cluster.store";
    EXPECT_EQ(row->secret, secret) << key;
  }
}

// Goal: at the bound is legal, one past it is a sentence that names key, value and bound, and the
// field keeps its value.
TEST(SettingsSchema, HoldsEveryBoundExactly) {
  for (const SettingRow& row : settings_schema()) {
    const auto text_of = [&](long double value) -> std::string {
      switch (row.type) {
        case SettingType::kCount:
          return std::to_string(static_cast<std::uint64_t>(value));
        case SettingType::kDuration:
          return format_duration(Duration(static_cast<std::int64_t>(value)));
        case SettingType::kSize:
          return format_bytes(Bytes{static_cast<std::uint64_t>(value)});
        default:
          return format_number(static_cast<double>(value));
      }
    };
    if (row.type == SettingType::kText || row.type == SettingType::kList ||
        row.type == SettingType::kTable || row.type == SettingType::kChoice) {
      continue;
    }
    Settings settings;
    const long double step = row.type == SettingType::kNumber ? 0.001L : 1;
    EXPECT_TRUE(set_setting(settings, row.key, text_of(row.max)).has_value()) << row.key;
    EXPECT_TRUE(set_setting(settings, row.key, text_of(row.min)).has_value()) << row.key;
    const Settings before = settings;
    const auto above = set_setting(settings, row.key, text_of(row.max + step));
    ASSERT_FALSE(above.has_value()) << row.key;
    EXPECT_TRUE(above.error().starts_with(row.key)) << above.error();
    EXPECT_NE(above.error().find("above the greatest value"), std::string::npos) << above.error();
    if (row.min > 0) {
      const auto below = set_setting(settings, row.key, text_of(row.min - step));
      ASSERT_FALSE(below.has_value()) << row.key;
      EXPECT_NE(below.error().find("below the least value"), std::string::npos) << below.error();
    }
    EXPECT_EQ(settings, before) << row.key;
  }
}

TEST(SettingsSchema, RefusesNonsenseInASentence) {
  const struct {
    std::string_view key, text, sentence;
  } kCases[] = {
      {"pool.queue_max", "0", "pool.queue_max: '0' is below the least value, 1"},
      {"pool.workers", "1025", "pool.workers: '1025' is above the greatest value, 1024"},
      {"pool.workers", "4294967297", "pool.workers: is too large"},
      {"pool.workers", "two", "pool.workers: 'two' is not a whole number"},
      {"sessions.idle_ttl", "-5s", "sessions.idle_ttl: '-5s' is negative"},
      {"sessions.idle_ttl", "0", "sessions.idle_ttl: '0' is below the least value, 1ms"},
      {"calls.retry_budget", "1.5", "calls.retry_budget: '1.5' is above the greatest value, 1"},
      {"sessions.store", "redis:", "sessions.store: must be memory or sqlite:PATH"},
      {"workers.python", "", "workers.python: must not be empty"},
      {"cluster.advertise", "node-1:8080",
       "cluster.advertise: 'node-1:8080' is no URL such as http://node-1:8080"},
      {"cluster.lease", "99ms", "cluster.lease: '99ms' is below the least value, 100ms"},
      {"sessions.restore_other_digest", "perhaps",
       "sessions.restore_other_digest: 'perhaps' is not one of no or yes"},
      {"server.listen", "", "server.listen: needs at least 1 elements"},
      {"server.listen", "8080", "server.listen: '8080' is neither host:port nor unix:/path"},
      {"workers.env", "A", "workers.env: 'A' has no value: write NAME=TEXT"},
      {"workers.env", "A\\=B=1", "workers.env: 'A=B' is no name of a variable"},
      {"workers.env", "A B=1", "workers.env: 'A B' is no name of a variable"},
      {"workers.env", "KEELBACK_WORKER=1", "workers.env: 'KEELBACK_WORKER' is set by Keelback"},
      {"workers.env", std::string_view("A=\0", 3),
       "workers.env: 'A' has a control character in its value"},
      {"workers.env", "A=\x80", "workers.env: 'A' has a value that is not UTF-8"},
      {"session.idle_ttl", "5s", "unknown key 'session.idle_ttl'; did you mean sessions.idle_ttl?"},
      {"pool.worker", "5", "unknown key 'pool.worker'; did you mean pool.workers?"},
  };
  for (const auto& c : kCases) {
    Settings settings;
    const auto set = set_setting(settings, c.key, c.text);
    ASSERT_FALSE(set.has_value()) << c.key;
    EXPECT_EQ(set.error(), c.sentence);
    EXPECT_EQ(settings, Settings{});
  }
}

TEST(SettingsSchema, NeverRepeatsASecretInAnError) {
  Settings settings;
  const auto set = set_setting(settings, "server.token", "hunter2 with blanks");
  ASSERT_FALSE(set.has_value());
  EXPECT_EQ(set.error().find("hunter2"), std::string::npos) << set.error();
  const auto longer = set_setting(settings, "server.token", std::string(5000, 'h'));
  ASSERT_FALSE(longer.has_value());
  EXPECT_EQ(longer.error(), "server.token: is longer than 4096 bytes");
  for (const char* text : {"mysql://hunter2", "postgres://", "postgres://a b hunter2"}) {
    const auto store = set_setting(settings, "cluster.store", text);
    ASSERT_FALSE(store.has_value()) << text;
    EXPECT_EQ(store.error(),
              "cluster.store: must be a URL that begins with postgres:// or postgresql://, without "
              "blanks");
  }
}

TEST(SettingsSchema, SeesSettingsThatContradictEachOther) {
  Settings settings;
  settings.pool.workers = 2;
  settings.pool.min_ready = 3;
  settings.calls.deadline = 2h;
  settings.server.listen = {"unix:/run/k.sock", "0.0.0.0:80"};
  const auto conflicts = check_settings(settings);
  ASSERT_EQ(conflicts.size(), 3u);
  EXPECT_EQ(conflicts[0].why, "pool.min_ready (3) is more than pool.workers (2)");
  EXPECT_EQ(conflicts[1].why, "calls.deadline (2h) is longer than calls.deadline_max (1h)");
  EXPECT_EQ(conflicts[2].key, "server.token");
  settings.server.listen = {"unix:/run/k.sock"};
  settings.server.admin_listen = {"0.0.0.0:80"};
  settings.server.unix_token = Switch::kOn;
  const auto others = check_settings(settings);
  ASSERT_EQ(others.size(), 4u);
  EXPECT_EQ(others[2].key, "server.token");
  EXPECT_EQ(others[3].key, "server.unix_token");
  settings.server.token = "t";
  settings.calls.deadline = 1h;
  settings.pool.min_ready = 2;
  EXPECT_TRUE(check_settings(settings).empty()) << "equal is allowed";
}

// Goal: a node of a cluster has all that it needs, and one that is alone needs nothing.
TEST(SettingsSchema, ANodeOfAClusterNeedsAnAddressAndAToken) {
  Settings settings;
  settings.cluster.node = "node-1";
  EXPECT_TRUE(check_settings(settings).empty());
  settings.cluster.store = "postgres://db/keelback";
  const auto conflicts = check_settings(settings);
  ASSERT_EQ(conflicts.size(), 2U);
  EXPECT_EQ(conflicts[0].key, "cluster.advertise");
  EXPECT_EQ(conflicts[1].key, "cluster.token");
  settings.cluster.advertise = "http://node-1:8080";
  settings.cluster.token = "t";
  EXPECT_TRUE(check_settings(settings).empty());
}

// Goal: a node does not pass over a store of its own in silence; a daemon that is alone has one.
TEST(SettingsSchema, ANodeHasNoStoreOfItsOwn) {
  Settings settings;
  settings.sessions.store = "sqlite:sessions.db";
  EXPECT_TRUE(check_settings(settings).empty());
  settings.cluster.store = "postgres://db/keelback";
  settings.cluster.advertise = "http://node-1:8080";
  settings.cluster.token = "t";
  const auto conflicts = check_settings(settings);
  ASSERT_EQ(conflicts.size(), 1U);
  EXPECT_EQ(conflicts[0].key, "sessions.store");
  EXPECT_EQ(conflicts[0].why,
            "cluster.store is set, so the states of sessions are kept there, and sessions.store "
            "would not be read: leave it at memory");
}

// Goal: the least and the largest environment, and one more.
TEST(SettingsSchema, BoundsTheEnvironmentOfWorkers) {
  Settings settings;
  TextTable table;
  for (int i = 0; i < 256; ++i) table["V" + std::to_string(i)] = "";
  EXPECT_TRUE(set_setting(settings, "workers.env", format_table(table)));
  table["ONE_MORE"] = "";
  EXPECT_EQ(set_setting(settings, "workers.env", format_table(table)).error(),
            "workers.env: takes at most 256 elements");
  EXPECT_TRUE(set_setting(settings, "workers.env", "A=" + std::string(65534, 'x')));
  EXPECT_EQ(set_setting(settings, "workers.env", "A=" + std::string(65535, 'x')).error(),
            "workers.env: is larger than 64KiB");
  EXPECT_TRUE(set_setting(settings, "workers.env", ""));
  EXPECT_EQ(settings, Settings{});
}

// What the only conflict of a pool of this size is; empty: there is none.
std::string conflict_of(std::uint32_t workers, std::uint32_t workers_max, std::uint32_t min_ready,
                        ZygoteMode zygote = ZygoteMode::kAuto, Backend backend = Backend::kPython) {
  Settings settings;
  settings.pool.workers = workers;
  settings.pool.workers_max = workers_max;
  settings.pool.min_ready = min_ready;
  settings.pool.backend = backend;
  settings.workers.zygote = zygote;
  const auto conflicts = check_settings(settings);
  EXPECT_LE(conflicts.size(), 1U);
  return conflicts.empty() ? "" : conflicts[0].why;
}

TEST(SettingsSchema, APoolMayBeEmptyOnlyIfItGrowsAndForks) {
  EXPECT_EQ(conflict_of(2, 2, 1), "");
  EXPECT_EQ(conflict_of(2, 8, 0), "");
  EXPECT_EQ(conflict_of(0, 8, 0), "");
  EXPECT_EQ(conflict_of(0, 8, 1), "") << "the default of min_ready need not be changed";
  EXPECT_EQ(conflict_of(0, 8, 2), "pool.min_ready (2) is more than pool.workers (0)");
  EXPECT_EQ(conflict_of(4, 2, 1), "pool.workers_max (2) is less than pool.workers (4)");
  EXPECT_EQ(conflict_of(0, 0, 1),
            "pool.workers may be 0 only in a pool that grows: set pool.workers_max");
  EXPECT_EQ(conflict_of(2, 0, 0),
            "pool.min_ready may be 0 only in a pool that grows: set pool.workers_max");
  EXPECT_EQ(conflict_of(0, 8, 0, ZygoteMode::kForce), "");
  EXPECT_EQ(conflict_of(0, 8, 0, ZygoteMode::kOff, Backend::kSim), "");
  EXPECT_NE(conflict_of(0, 8, 0, ZygoteMode::kOff).find("workers.zygote is off"),
            std::string::npos);
  EXPECT_NE(conflict_of(2, 8, 0, ZygoteMode::kOff).find("pool.min_ready is 0"), std::string::npos);
  EXPECT_NE(conflict_of(0, 8, 0, ZygoteMode::kAuto, Backend::kFake).find("pool.backend is fake"),
            std::string::npos);
  EXPECT_EQ(conflict_of(1, 8, 1, ZygoteMode::kOff, Backend::kFake), "");
}

TEST(SettingsSchema, DevicesOverwriteNoVariable) {
  Settings settings;
  settings.workers.devices = {"0", "1"};
  settings.workers.env = {{"OTHER", "1"}};
  EXPECT_TRUE(check_settings(settings).empty());
  settings.workers.env = {{"ROCR_VISIBLE_DEVICES", "1"}};
  const auto conflicts = check_settings(settings);
  ASSERT_EQ(conflicts.size(), 1U);
  EXPECT_EQ(conflicts[0].key, "workers.devices");
  EXPECT_EQ(conflicts[0].why,
            "workers.env sets ROCR_VISIBLE_DEVICES already, and workers.devices would overwrite "
            "it: unset one of the two");
  settings.workers.devices.clear();
  EXPECT_TRUE(check_settings(settings).empty());
}

TEST(SettingsSchema, KnowsListenAddressesAndWhichOfThemAreLocal) {
  for (const std::string_view good : {"127.0.0.1:8080", "localhost:0", "[::1]:1", "unix:/a",
                                      "0.0.0.0:65535", "my-host.example:80"}) {
    EXPECT_TRUE(check_listen(good).has_value()) << good;
  }
  const std::string long_path = "unix:/" + std::string(107, 'x');
  const std::string_view kBad[] = {"",           ":80",         "host",   "host:", "host:x",
                                   "host:65536", "host:-1",     "::1:80", "unix:", "unix:rel",
                                   "a b:80",     "http://x:80", long_path};
  for (const std::string_view bad : kBad) {
    EXPECT_FALSE(check_listen(bad).has_value()) << bad;
  }
  EXPECT_TRUE(
      check_listen(std::string_view(long_path).substr(0, long_path.size() - 1)).has_value());
  for (const std::string_view local :
       {"127.0.0.1:1", "127.1.2.3:1", "localhost:1", "[::1]:1", "unix:/a"}) {
    EXPECT_TRUE(is_local_listen(local)) << local;
  }
  for (const std::string_view open :
       {"0.0.0.0:1", "[::]:1", "example.org:1", "127.0.0.example.org:1", "127.evil.example.org:1",
        "10.0.0.1:1"}) {
    EXPECT_FALSE(is_local_listen(open)) << open;
  }
}

}  // namespace
}  // namespace keelback
