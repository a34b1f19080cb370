// Options that several commands share: what is called, and how a pool is configured.
#pragma once

#include <chrono>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "api/config.h"
#include "cli/attachments.h"
#include "cli/command.h"
#include "cli/output.h"

namespace keelback::cli {

// A whole file, at most 1 GiB. The error is a sentence.
std::expected<std::string, std::string> read_file(const std::string& path);

// ---- a call, of `run` and `call`

struct CallArguments {
  std::string payload;  // JSON
  Attachments attachments;
  std::optional<std::chrono::nanoseconds> deadline;
};

struct CallOptions {
  std::string function;
  std::string json;  // "-": from stdin; "@FILE": from that file; empty: no arguments
  std::string session;
  std::string deadline;
  bool stream = false;
  AttachmentOptions attachments;

  void add_to(CLI::App& command);
  // Reads and checks the arguments; the error is a sentence.
  std::expected<CallArguments, std::string> read() const;
};

// An ok outcome: the result's bytes and a newline, or with --json `document` with its "result".
void print_result(const Invocation& invocation, const std::string& result, Json document);
// The same with what came beside it. The exit code: attachments that cannot be written fail.
int report_ok(const Invocation& invocation, const CallOptions& options, const std::string& result,
              const Attachments& attachments, Json document);
void print_item(const Invocation& invocation, const std::string& item);  // of a stream
// Any other outcome, as its problem object: a block on stderr, with --json the object on stdout.
int report_outcome(const Invocation& invocation, const std::string& function, const Json& problem);

// ---- a pool's configuration, of `serve`, `run`, `doctor` and `config check`

struct ConfigOptions {
  std::string file;
  std::vector<std::string> assignments;  // --set
  std::vector<api::ConfigFlag> flags;    // of options that stand for a key, such as --workers

  // --config and --set.
  void add_to(CLI::App& command);
  // An option that stands for a setting: its text goes through the schema.
  void add_setting_option(CLI::App& command, const char* option, const char* key,
                          const char* description);
  std::expected<api::ConfigStore, std::vector<std::string>> load() const;
  // Whether log.format = json seems to be meant, of a configuration that cannot be loaded: what is
  // wrong with it is then said in JSON.
  bool wants_json_log() const;
};

}  // namespace keelback::cli
