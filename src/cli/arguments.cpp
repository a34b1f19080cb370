#include "cli/arguments.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>

#include "base/settings_text.h"

namespace keelback::cli {
namespace {

constexpr std::size_t kPayloadMax = 1ULL << 30;  // the greatest calls.payload_max

// What is wrong with the text as JSON, and where; nullopt if nothing is.
std::optional<std::string> json_error(const std::string& text) {
  if (Json::accept(text)) return std::nullopt;  // without building it: arguments may be large
  try {
    [[maybe_unused]] const Json parsed = Json::parse(text);
    return std::nullopt;
  } catch (const Json::exception& error) {
    const std::string what = error.what();  // "[json.exception.parse_error.101] parse error at …"
    const std::size_t name_end = what.find("] ");
    return name_end == std::string::npos ? what : what.substr(name_end + 2);
  }
}

std::expected<std::string, std::string> read_all(std::FILE* file, const std::string& name) {
  std::string text;
  std::string piece(64 << 10, '\0');
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), file)) {
    text.append(piece, 0, got);
    if (text.size() > kPayloadMax) return std::unexpected(name + " is larger than 1GiB");
  }
  if (std::ferror(file) != 0) {
    return std::unexpected(fmt::format("{} cannot be read: {}", name, std::strerror(errno)));
  }
  return text;
}

std::expected<std::string, std::string> text_of(const std::string& argument) {
  if (argument.empty()) return std::string("[]");
  if (argument == "-") return read_all(stdin, "standard input");
  if (argument[0] != '@') return argument;
  return read_file(argument.substr(1));
}

std::vector<std::pair<std::string, std::string>> process_environment() {
  std::vector<std::pair<std::string, std::string>> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    all.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return all;
}

}  // namespace

std::expected<std::string, std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             std::fclose);
  if (!file) return std::unexpected(fmt::format("{}: {}", path, std::strerror(errno)));
  return read_all(file.get(), path);
}

void CallOptions::add_to(CLI::App& command) {
  command.add_option("FUNCTION", function, "The function's name")->required();
  command.add_option("JSON", json,
                     "Its arguments: an object is keywords, an array positional; - reads stdin, "
                     "@FILE a file (default: none)");
  command.add_option("-s,--session", session, "The session that the call belongs to");
  command.add_option("-d,--deadline", deadline, "For the whole call: 500ms, 5s, 2m");
  command.add_flag("--stream", stream,
                   "Print what a generator yields as it comes, one item a line");
  attachments.add_to(command);
}

std::expected<CallArguments, std::string> CallOptions::read() const {
  CallArguments arguments;
  auto text = text_of(json);
  if (!text) return std::unexpected(text.error());
  if (auto wrong = json_error(*text)) {
    return std::unexpected("the arguments are not JSON: " + *wrong);
  }
  arguments.payload = std::move(*text);
  if (!deadline.empty()) {
    const auto parsed = parse_duration(deadline);
    if (!parsed) return std::unexpected("--deadline: " + parsed.error());
    if (*parsed <= Duration(0)) return std::unexpected(std::string("--deadline: must be above 0"));
    arguments.deadline = *parsed;
  }
  auto read = attachments.read();
  if (!read) return std::unexpected(read.error());
  arguments.attachments = std::move(*read);
  if (json.empty() && !arguments.attachments.empty()) arguments.payload = "{}";
  return arguments;
}

void print_result(const Invocation& invocation, const std::string& result, Json document) {
  if (!invocation.json) return print(result + "\n");
  // The result goes in as it came: read and written again, a large integer would be a float.
  const bool is_json = Json::accept(result);
  print_json(document, "result", is_json ? result : to_text(result));
}

int report_ok(const Invocation& invocation, const CallOptions& options, const std::string& result,
              const Attachments& attachments, Json document) {
  const auto written = options.attachments.write(attachments);
  if (written && !written->empty()) document["attachments"] = *written;
  print_result(invocation, result, std::move(document));
  if (written) return kExitOk;
  std::fputs(fmt::format("keelback: {}\n", written.error()).c_str(), stderr);
  return kExitUsage;
}

void print_item(const Invocation& invocation, const std::string& item) {
  print(invocation.json ? fmt::format("{{\"item\":{}}}\n", item) : item + "\n");
}

int report_outcome(const Invocation& invocation, const std::string& function, const Json& problem) {
  const std::string block = problem_block(function, problem);
  std::fwrite(block.data(), 1, block.size(), stderr);
  if (invocation.json) print_json(problem);
  return kExitOutcome;
}

void ConfigOptions::add_to(CLI::App& command) {
  command.add_option("-c,--config", file, "The configuration file (TOML; docs/configuration.md)");
  command
      .add_option("--set", assignments,
                  "A setting, as KEY=VALUE; above the file and the environment; may be repeated")
      ->allow_extra_args(false);
}

bool ConfigOptions::wants_json_log() const {
  for (const std::string& assignment : assignments) {
    if (assignment.starts_with("log.format=")) return assignment == "log.format=json";
  }
  if (const char* format = std::getenv("KEELBACK_LOG_FORMAT")) {
    return std::string_view(format) == "json";
  }
  const auto text = file.empty() ? std::unexpected(std::string()) : read_file(file);
  if (!text) return false;
  std::string dense;  // without blanks: [log] … format="json", or log.format="json"
  std::ranges::copy_if(*text, std::back_inserter(dense),
                       [](char c) { return c != ' ' && c != '\t'; });
  return dense.find("format=\"json\"") != std::string::npos ||
         dense.find("format='json'") != std::string::npos;
}

void ConfigOptions::add_setting_option(CLI::App& command, const char* option, const char* key,
                                       const char* description) {
  const std::string_view names(option);  // "-w,--workers"
  const std::string where(names.substr(names.find("--")));
  command.add_option_function<std::string>(
      option,
      [this, where, key](const std::string& value) { flags.push_back({key, value, where}); },
      description);
}

std::expected<api::ConfigStore, std::vector<std::string>> ConfigOptions::load() const {
  std::vector<std::string> errors;
  api::ConfigStore::Sources sources{.file = file, .environment = process_environment()};
  for (const std::string& text : assignments) {
    auto flag = api::split_assignment(text);
    if (flag) {
      sources.flags.push_back(std::move(*flag));
    } else {
      errors.push_back("--set: " + flag.error());
    }
  }
  // An option of its own is meant more than a --set beside it.
  sources.flags.insert(sources.flags.end(), flags.begin(), flags.end());
  auto store = api::ConfigStore::load(sources);
  if (!store) {
    for (const api::ConfigProblem& problem : store.error()) errors.push_back(to_string(problem));
  }
  if (!errors.empty()) return std::unexpected(std::move(errors));
  return std::move(*store);
}

}  // namespace keelback::cli
