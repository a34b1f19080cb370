#include "cli/config_docs.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/config_sources.h"
#include "base/settings_schema.h"
#include "base/settings_text.h"

namespace keelback::cli {
namespace {

constexpr std::string_view kHead = R"(# Configuration

`keelback config docs` makes this page from the table in `src/base/settings_schema.cpp`. A test
compares the two.

Settings come from five layers. A later layer wins over an earlier one:

1. **default**: built in.
2. **file**: `--config FILE`, in TOML.
3. **environment**: `KEELBACK_POOL_WORKERS` for `pool.workers`.
4. **flags**: `--set pool.workers=4`, and options such as `--workers`.
5. **runtime**: `keelback config set` and `PATCH /v1/config`.

`keelback config get` shows every value, the layer that it comes from, and the place in that layer.

```toml
[pool]
workers = 4

[sessions]
idle_ttl = "10m"
mode = "strict_queue"

[workers.env]
HF_HOME = "/models"
METRICS_PORT = "91{slot}"

[server]
listen = ["127.0.0.1:8080", "unix:/run/keelback.sock"]
```

- Durations are written `250us`, `200ms`, `5s`, `2m`, `1h`, `1d`; sizes `64KiB`, `1MiB`, `10MB`. 0
  needs no unit. Lists are TOML arrays in the file; elsewhere commas separate their items. Tables
  are TOML tables in the file and objects in JSON; elsewhere they are written `NAME=TEXT,NAME=TEXT`,
  with a backslash before a comma or a backslash of the text. A layer replaces the whole table.
- Three things are errors: an unknown key, a value out of its bounds, and settings that contradict
  each other. The error names file, line and column, and the program does not start.
  `keelback config check --config FILE` finds them without starting anything.
- **Scope** says to what a change applies. *existing*: to everything, at once. *new calls*: to calls
  and sessions that come after it. *next generation*: to workers that start after it. *restart*: it
  cannot change while the program runs. All scopes but *restart* are *live*.
- A change at run time is made as a whole or not at all. `PATCH /v1/config` takes flat keys
  (`{"sessions.idle_ttl": "200ms"}`); `null` removes a key from the runtime layer. Send `If-Match`
  with the `ETag` of an earlier reply to change nothing if somebody else has changed it meanwhile.
- SIGHUP reads the file again, and no other layer. The log names changed keys that need a restart;
  they wait for it.
- A secret is never shown; you only see whether it is set. Let only its owner read a file with a
  secret. systemd's `LoadCredential=keelback.server.token:/PATH` passes one without such a file. It
  belongs to the environment layer; the variable wins over it.
)";

constexpr std::string_view kRules = R"(
## What must fit together

- `pool.min_ready` is at most `pool.workers`; in a pool that keeps no worker it counts as 0.
- `pool.workers_max` is 0 or at least `pool.workers`. Without it neither `pool.workers` nor
  `pool.min_ready` may be 0. A pool whose workers are started by exec refuses 0: the pool would be
  ready when the application is loaded, and nobody loads it before the first worker
  ([start-modes.md](start-modes.md)).
- `calls.deadline` is at most `calls.deadline_max`.
- If an address in `server.listen` or `server.admin_listen` can be reached from other machines,
  `server.token` must be set. `server.unix_token = on` needs it too.
- `cluster.store` needs `cluster.advertise` and `cluster.token`, and `sessions.store` must be
  `memory`: the states are in the cluster's database.
- With `workers.devices`, neither `workers.env` nor the daemon's own environment may set
  `CUDA_VISIBLE_DEVICES` or `ROCR_VISIBLE_DEVICES`.
)";

std::string type_text(const SettingRow& row) {
  std::string text(to_string(row.type));
  if (row.type == SettingType::kChoice) {
    text.clear();
    for (const std::string_view choice : row.choices) {
      text += fmt::format("{}`{}`", text.empty() ? "" : " ", choice);
    }
    return text;
  }
  const auto bound = [&](long double value) -> std::string {
    switch (row.type) {
      case SettingType::kDuration:
        return format_duration(Duration(static_cast<std::int64_t>(value)));
      case SettingType::kSize:
        return format_bytes(Bytes{static_cast<std::uint64_t>(value)});
      case SettingType::kNumber:
        return format_number(static_cast<double>(value));
      default:
        return std::to_string(static_cast<std::uint64_t>(value));
    }
  };
  if (row.type == SettingType::kText) return text;
  if (row.type == SettingType::kList || row.type == SettingType::kTable) {
    return fmt::format("{}, at most {}", text, bound(row.max));
  }
  return fmt::format("{}, {} to {}", text, bound(row.min), bound(row.max));
}

std::string default_text(const SettingRow& row) {
  const std::string text = row.get(Settings{});
  if (row.secret || text.empty()) return "not set";
  return fmt::format("`{}`", text);
}

}  // namespace

std::string configuration_markdown() {
  std::string out(kHead);
  std::string_view section;
  for (const SettingRow& row : settings_schema()) {
    const std::string_view own = row.key.substr(0, row.key.find('.'));
    if (own != section) {
      section = own;
      out += fmt::format(
          "\n## {}\n\n| key | default | value | scope | meaning |\n|---|---|---|---|---|\n",
          section);
    }
    std::string doc(row.doc);
    if (!row.zero.empty()) {
      const bool text = row.type == SettingType::kText;
      doc += fmt::format(" {}: {}.", text ? "Empty" : "0", row.zero);
    }
    if (row.secret) doc += " A secret.";
    out += fmt::format("| `{}` | {} | {} | {} | {} |\n", row.key, default_text(row), type_text(row),
                       to_string(row.scope), doc);
  }
  out += kRules;
  return out;
}

}  // namespace keelback::cli
