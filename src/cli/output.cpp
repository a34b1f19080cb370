#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "cli/logging.h"
#include "cli/printable.h"

namespace keelback::cli {
namespace {

bool coloured(To to) {
  static const bool wanted = std::getenv("NO_COLOR") == nullptr;
  static const std::array<bool, 2> terminal = {::isatty(STDOUT_FILENO) != 0,
                                               ::isatty(STDERR_FILENO) != 0};
  return wanted && terminal[static_cast<std::size_t>(to)];
}

// Counts code points. For names and numbers that is close enough to columns.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_number(std::string_view text) {
  return text.empty() || text == "-" || (text[0] >= '0' && text[0] <= '9');
}

std::string death_sentence(const Json& death) {
  std::string text = text_in(death, "cause");
  if (const Json& signal = member(death, "signal"); signal.is_number_integer()) {
    text = (text == "signal" ? "" : text + ", ") + fmt::format("signal {}", signal.get<int>());
  }
  if (const Json& code = member(death, "exit_code"); code.is_number_integer()) {
    text = (text == "exit" ? "" : text + ", ") + fmt::format("exit code {}", code.get<int>());
  }
  if (flag_in(death, "oom_suspected")) text += ", out of memory suspected";
  if (const std::string step = text_in(death, "step"); !step.empty()) text += ", at step " + step;
  if (const std::string detail = text_in(death, "detail"); !detail.empty()) text += ": " + detail;
  return text;
}

// item.rows[3].price: Input should be a valid number
std::string misfit_line(const Json& error) {
  std::string place;
  for (const Json& key : array_in(error, "loc")) {
    if (key.is_string()) {
      place += (place.empty() ? "" : ".") + key.get<std::string>();
    } else {
      place += fmt::format("[{}]", key.dump());
    }
  }
  return fmt::format("{}: {}", place, text_in(error, "msg"));
}

}  // namespace

std::string to_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_json(const Json& json) {
  print(to_text(json, ::isatty(STDOUT_FILENO) != 0 ? 2 : -1) + "\n");
}

void print_json(const Json& object, std::string_view key, std::string_view value) {
  const bool indented = ::isatty(STDOUT_FILENO) != 0;
  std::string text = to_text(object, indented ? 2 : -1);
  text.pop_back();  // the brace
  text.resize(text.find_last_not_of("\n ") + 1);
  print(fmt::format("{}{}{}\"{}\":{}{}{}}}\n", text, object.empty() ? "" : ",",
                    indented ? "\n  " : "", key, indented ? " " : "", value, indented ? "\n" : ""));
}

std::string toned(Tone tone, std::string_view text, To to) {
  static constexpr std::array<std::string_view, 5> kCodes = {"", "\x1b[32m", "\x1b[33m", "\x1b[31m",
                                                             "\x1b[2m"};
  if (tone == Tone::kPlain || !coloured(to)) return std::string(text);
  return fmt::format("{}{}\x1b[0m", kCodes[static_cast<std::size_t>(tone)], text);
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  std::vector<bool> numbers;
  for (std::size_t column = 0; column < header_.size(); ++column) {
    std::size_t widest = width(header_[column]);
    bool all = true;
    for (const auto& row : rows_) {
      widest = std::max(widest, width(row[column]));
      all = all && is_number(row[column]);
    }
    widths.push_back(widest);
    numbers.push_back(all && !rows_.empty());
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& row) {
    std::string text;
    for (std::size_t column = 0; column < row.size(); ++column) {
      const std::string blanks(widths[column] - width(row[column]), ' ');
      if (column > 0) text += "  ";
      text += numbers[column] ? blanks + row[column] : row[column] + blanks;
    }
    while (text.ends_with(' ')) text.pop_back();
    out += text + "\n";
  };
  line(header_);
  for (const auto& row : rows_) line(row);
  return out;
}

std::string human_bytes(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_seconds(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<std::uint64_t>(seconds);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h{}m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{}d{}h", whole / 86400, whole % 86400 / 3600);
}

std::string indented(std::string_view text, std::string_view margin) {
  std::string out;
  while (text.ends_with('\n')) text.remove_suffix(1);
  while (true) {
    const std::size_t end = text.find('\n');
    out.append(margin).append(text.substr(0, end)).append("\n");
    if (end == std::string_view::npos) return out;
    text.remove_prefix(end + 1);
  }
}

int fail(const Invocation& invocation, ExitCode code, std::string_view kind,
         std::string_view message) {
  return fail(invocation, code, kind, std::vector<std::string>{std::string(message)});
}

int fail(const Invocation& invocation, ExitCode code, std::string_view kind,
         const std::vector<std::string>& messages) {
  for (const std::string& message : messages) {
    if (invocation.json_log) {
      const std::string line = json_log_line(spdlog::level::err, message) + "\n";
      std::fwrite(line.data(), 1, line.size(), stderr);
      continue;
    }
    const std::string text =
        fmt::format("{} {}\n", toned(Tone::kBad, "keelback:", To::kStderr), printable(message));
    std::fwrite(text.data(), 1, text.size(), stderr);
  }
  if (invocation.json) {
    print_json({{"error",
                 {{"kind", kind},
                  {"message", messages.empty() ? "" : messages.front()},
                  {"messages", messages},
                  {"exit", static_cast<int>(code)}}}});
  }
  return code;
}

std::string problem_block(std::string_view function, const Json& problem) {
  std::string out = fmt::format("{} {}: {}, effect {}", toned(Tone::kBad, "keelback:", To::kStderr),
                                function, text_in(problem, "outcome"), text_in(problem, "effect"));
  if (const std::string worker = text_in(problem, "worker"); !worker.empty()) {
    out += fmt::format(", worker {}", worker);
  }
  if (const auto attempts = count_in(problem, "attempts"); attempts > 1) {
    out += fmt::format(", {} attempts", attempts);
  }
  out += "\n";
  const auto block = [&](std::string_view title, const std::string& text) {
    if (text.empty()) return;
    if (!title.empty()) out += fmt::format("  {}:\n", title);
    out += indented(printable(text), title.empty() ? "  " : "    ");
  };
  const Json python = object_in(problem, "python");
  const std::string detail = text_in(problem, "detail");
  const std::string raised = text_in(python, "type").empty()
                                 ? std::string()
                                 : text_in(python, "type") + ": " + text_in(python, "message");
  // The traceback ends with the exception, so the exception is not printed again.
  const std::string traceback = text_in(python, "traceback");
  if (raised.empty() || raised.find(detail) == std::string::npos) block("", detail);
  const Json errors = array_in(problem, "errors");
  for (const Json& error : errors) block("", misfit_line(error));
  if (errors.empty()) {
    block("", traceback.find(raised) == std::string::npos || traceback.empty() ? raised : "");
  }
  block("", traceback);
  if (const Json& death = member(problem, "death"); death.is_object()) {
    // The pool's message names the cause, so the cause is not printed again. The last lines of the
    // worker are not printed if they only repeat it.
    const std::string said = death_sentence(death);
    const std::string cause = text_in(death, "detail");
    if (detail.find(cause.empty() ? said : cause) == std::string::npos) {
      block("", "the worker died: " + said);
    }
    std::string tail = text_in(death, "stderr_tail");
    while (tail.ends_with('\n')) tail.pop_back();
    if (cause.empty() || cause.find(tail) == std::string::npos) block("its last words", tail);
  }
  block("where its threads were", text_in(problem, "dump"));
  if (const double retry = number_in(problem, "retry_after_ms"); retry > 0) {
    block("", fmt::format("worth another try in {}", human_seconds(retry / 1000)));
  }
  return out;
}

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string text_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

double number_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_number() ? value.get<double>() : 0;
}

std::uint64_t count_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  const bool count =
      value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
  return count ? value.get<std::uint64_t>() : 0;
}

bool flag_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

Json object_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_object() ? value : Json::object();
}

Json array_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_array() ? value : Json::array();
}

}  // namespace keelback::cli
