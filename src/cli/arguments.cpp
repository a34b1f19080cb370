#include "cli/arguments.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <cstdio>
#include <cstring>

#include "base/settings_text.h"
#include "cli/read_file.h"

namespace keelback::cli {
namespace {

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

std::expected<std::string, std::string> text_of(const std::string& argument) {
  if (argument.empty()) return std::string("[]");
  if (argument == "-") return read_all(stdin, "standard input");
  if (argument[0] != '@') return argument;
  return read_file(argument.substr(1));
}

}  // namespace

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
  // Puts the bytes of the result in unchanged: parsed and written again, a large integer would
  // become a float.
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

}  // namespace keelback::cli
