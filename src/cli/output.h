// What commands write: aligned tables and blocks of text for people, one JSON document for
// programs. Colour only on a terminal, and never as the only sign of something.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"

namespace keelback::cli {

// Keeps the order of insertion.
using Json = nlohmann::ordered_json;

// Bytes that are not UTF-8 are shown as U+FFFD.
std::string to_text(const Json& json, int indent = -1);
// To stdout, indented if that is a terminal.
void print_json(const Json& json);
// The same for an object with one more member, whose value is JSON and is written as it is.
void print_json(const Json& object, std::string_view key, std::string_view value);
void print(std::string_view text);  // to stdout as it is

enum class Tone : std::uint8_t { kPlain, kGood, kWarn, kBad, kFaint };
enum class To : std::uint8_t { kStdout, kStderr };
// With escape sequences if that stream is a terminal and NO_COLOR is not set.
std::string toned(Tone tone, std::string_view text, To to = To::kStdout);

// Columns as wide as their widest cell; a column of which every cell is a number is right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  std::string text() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

std::string human_bytes(std::uint64_t bytes);  // "35.2 MiB"
std::string human_seconds(double seconds);     // "0.4s", "12s", "3m20s", "2h5m", "4d3h"

// Every line of `text` behind `margin`; ends in a newline.
std::string indented(std::string_view text, std::string_view margin);

// Says on stderr what went wrong (and on stdout, as {"error": …}, with --json) and returns `code`.
// kind: a word for programs: "usage", "config", "unreachable", "refused", "start".
int fail(const Invocation& invocation, ExitCode code, std::string_view kind,
         std::string_view message);
int fail(const Invocation& invocation, ExitCode code, std::string_view kind,
         const std::vector<std::string>& messages);

// An application/problem+json of a call that did not end as ok: outcome, effect, cause, Python's
// traceback, the worker's last words.
std::string problem_block(std::string_view function, const Json& problem);

// A member that may be missing or of another type, because the server may be any program. Never
// throws.
const Json& member(const Json& object, const char* key);  // null if it is not there
std::string text_in(const Json& object, const char* key);
double number_in(const Json& object, const char* key);
std::uint64_t count_in(const Json& object, const char* key);
bool flag_in(const Json& object, const char* key);
Json object_in(const Json& object, const char* key);
Json array_in(const Json& object, const char* key);

}  // namespace keelback::cli
