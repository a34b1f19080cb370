// Options that `run` and `call` share: what is called, and how its end is reported.
#pragma once

#include <chrono>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "cli/attachments.h"
#include "cli/command.h"
#include "cli/output.h"

namespace keelback::cli {

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
// Prints any other outcome from its problem object: text on stderr, with --json the object on
// stdout.
int report_outcome(const Invocation& invocation, const std::string& function, const Json& problem);

}  // namespace keelback::cli
