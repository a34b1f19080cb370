// keelback config: what is configured, where it comes from, and changing it while it runs.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>

#include "base/settings_schema.h"
#include "base/settings_text.h"
#include "cli/config_docs.h"
#include "cli/config_options.h"
#include "cli/output.h"
#include "cli/server_access.h"

namespace keelback::cli {
namespace {

struct GetOptions : ServerOptions {
  std::string key;
};
struct SetOptions : ServerOptions {
  std::vector<std::string> assignments;
  std::string if_match;
};

std::string value_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) {
    TextTable table;
    for (const auto& [name, text] : value.items()) table.emplace(name, value_text(text));
    return format_table(table);
  }
  if (!value.is_array()) return to_text(value);
  std::string text;
  for (const Json& element : value) {
    text += fmt::format("{}{}", text.empty() ? "" : ",", value_text(element));
  }
  return text;
}

std::string source_text(const Json& entry) {
  const std::string where = text_in(entry, "where");
  const std::string source = text_in(entry, "source");
  return where.empty() ? source : fmt::format("{} ({})", source, where);
}

std::string live_text(const Json& entry) {
  return flag_in(entry, "live") ? fmt::format("yes, {}", text_in(entry, "scope")) : "no";
}

std::string table_of(const Json& values) {
  Table table({"KEY", "VALUE", "SOURCE", "LIVE"});
  for (const auto& [key, entry] : values.items()) {
    table.add({key, value_text(member(entry, "value")), source_text(entry), live_text(entry)});
  }
  return table.text();
}

void print_one(const std::string& key, const Json& entry) {
  print(fmt::format("{} = {}\n  source   {}\n  default  {}\n  live     {}\n  {}\n", key,
                    value_text(member(entry, "value")), source_text(entry),
                    value_text(member(entry, "default")), live_text(entry), text_in(entry, "doc")));
}

int get(const Invocation& invocation, const GetOptions& options) {
  if (!options.key.empty() && find_setting(options.key) == nullptr) {
    return fail(invocation, kExitUsage, "usage", unknown_setting(options.key));
  }
  const auto document = ask(invocation, options, {.target = "/v1/config"});
  if (!document) return document.error();
  const Json values = object_in(*document, "values");
  if (options.key.empty()) {
    if (invocation.json) {
      print_json(*document);
    } else {
      print(table_of(values));
    }
    return kExitOk;
  }
  if (!values.contains(options.key)) {
    return fail(invocation, kExitOutcome, "refused",
                fmt::format("the server does not know {}: it is another version", options.key));
  }
  Json entry = object_in(values, options.key.c_str());
  if (invocation.json) {
    entry["key"] = options.key;
    print_json(entry);
  } else {
    print_one(options.key, entry);
  }
  return kExitOk;
}

int set(const Invocation& invocation, const SetOptions& options) {
  Json patch = Json::object();
  std::vector<std::string> errors;
  for (const std::string& text : options.assignments) {
    const auto flag = api::split_assignment(text);
    if (!flag) {
      errors.push_back(flag.error());
    } else if (find_setting(flag->key) == nullptr) {
      errors.push_back(unknown_setting(flag->key));
    } else {
      patch[flag->key] = flag->value;
    }
  }
  if (!errors.empty()) return fail(invocation, kExitUsage, "usage", errors);
  HttpRequest request{.method = "PATCH",
                      .target = "/v1/config",
                      .headers = {{"Content-Type", "application/json"}},
                      .body = to_text(patch)};
  if (!options.if_match.empty()) {
    request.headers.emplace_back("If-Match", fmt::format("\"{}\"", options.if_match));
  }
  const auto document = ask(invocation, options, request);
  if (!document) return document.error();
  if (invocation.json) {
    print_json(*document);
    return kExitOk;
  }
  const Json values = object_in(*document, "values");
  Json changed = Json::object();
  for (const auto& [key, value] : patch.items()) changed[key] = object_in(values, key.c_str());
  print(table_of(changed));
  return kExitOk;
}

int check(const Invocation& invocation, const ConfigOptions& options) {
  const auto store = options.load();
  if (!store) return fail(invocation, kExitUsage, "config", store.error());
  const Json document = Json::parse(store->json());
  if (invocation.json) {
    Json with_warnings = document;
    with_warnings["warnings"] = store->warnings();
    print_json(with_warnings);
    return kExitOk;
  }
  Json given = Json::object();
  for (const auto& [key, entry] : document["values"].items()) {
    if (text_in(entry, "source") != "default") given[key] = entry;
  }
  print(given.empty() ? "valid; every setting has its default\n" : table_of(given));
  for (const std::string& warning : store->warnings()) {
    print(fmt::format("{} {}\n", toned(Tone::kWarn, "warning:"), warning));
  }
  return kExitOk;
}

void add_get(CLI::App& group, Invocation& invocation) {
  CLI::App* command =
      add_command(group, invocation, "get",
                  "Every setting's value, where it comes from, and whether it is live",
                  "keelback config get sessions.idle_ttl");
  auto options = std::make_shared<GetOptions>();
  options->add_to(*command);
  command->add_option("KEY", options->key, "Only this one, with its meaning");
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return get(invocation, *options); };
  });
}

void add_set(CLI::App& group, Invocation& invocation) {
  CLI::App* command =
      add_command(group, invocation, "set", "Change a running server, all or nothing",
                  "keelback config set sessions.idle_ttl=5m pool.workers=8");
  auto options = std::make_shared<SetOptions>();
  options->add_to(*command);
  command->add_option("KEY=VALUE", options->assignments, "What to change")->required();
  command->add_option("--if-match", options->if_match,
                      "Only if the configuration still has this ETag");
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return set(invocation, *options); };
  });
}

void add_check(CLI::App& group, Invocation& invocation) {
  CLI::App* command =
      add_command(group, invocation, "check", "Check a configuration without starting anything",
                  "keelback config check --config keelback.toml");
  auto options = std::make_shared<ConfigOptions>();
  options->add_to(*command);
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return check(invocation, *options); };
  });
}

}  // namespace

void add_config(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("config", "Read, change and check the configuration");
  group->footer(std::string("Example:\n  keelback config get\n\n") + kExitCodesHelp);
  group->require_subcommand(1);
  add_get(*group, invocation);
  add_set(*group, invocation);
  add_check(*group, invocation);
  CLI::App* docs = group->add_subcommand("docs", "docs/configuration.md, on stdout");
  docs->group("");  // for builders of Keelback
  docs->callback([&invocation] {
    invocation.run = []() -> int {
      print(configuration_markdown());
      return kExitOk;
    };
  });
}

}  // namespace keelback::cli
