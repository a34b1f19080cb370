#include "fakeworker/script.h"

#include <charconv>
#include <limits>

namespace keelback::fakeworker {
namespace {

template <class Number>
bool number(std::string_view text, Number& out) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  if (value > static_cast<std::uint32_t>(std::numeric_limits<int>::max())) return false;
  out = static_cast<int>(value);
  return true;
}

bool step(std::string_view text, Step& out) {
  if (text == "connect") {
    out = Step::kConnect;
  } else if (text == "hello") {
    out = Step::kHello;
  } else if (text == "setup") {
    out = Step::kSetup;
  } else {
    return false;
  }
  return true;
}

bool exit_at(std::string_view text, Script::Exit& out) {
  const std::size_t colon = text.find(':');
  return colon != text.npos && step(text.substr(0, colon), out.step) &&
         number(text.substr(colon + 1), out.code) && out.code <= 255;
}

bool flag(std::string_view key, Script& script) {
  if (key == "standard") return true;
  if (key == "bad_version") return script.bad_version = true;
  if (key == "duplicate_reply") return script.duplicate_reply = true;
  if (key == "zombie_nested") return script.zombie_nested = true;
  if (key == "zombie_reply") return script.zombie_reply = true;
  if (key == "ignore_shutdown") return script.ignore_shutdown = true;
  if (key == "term_immune") return script.term_immune = true;
  return false;
}

bool setting(std::string_view key, std::string_view value, Script& script) {
  if (key == "import_ms") return number(value, script.import_ms);
  if (key == "setup_ms") return number(value, script.setup_ms);
  if (key == "slow_ms") return number(value, script.slow_ms);
  if (key == "unhealthy_after") return number(value, script.unhealthy_after.emplace());
  if (key == "unclean_every") return number(value, script.unclean_every);
  if (key == "crash_after_calls") return number(value, script.crash_after_calls.emplace());
  if (key == "garbage_after") return number(value, script.garbage_after.emplace());
  if (key == "half_frame_after") return number(value, script.half_frame_after.emplace());
  // START_FAILED belongs to an import or a setup; before CONNECT there is nobody to tell.
  if (key == "fail") return step(value, script.fail.emplace()) && script.fail != Step::kConnect;
  if (key == "hang_at") return step(value, script.hang_at.emplace());
  if (key == "exit_at") return exit_at(value, script.exit_at.emplace(Script::Exit{}));
  return false;
}

}  // namespace

std::expected<Script, std::string> parse_script(std::string_view text) {
  Script script;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text = comma == text.npos ? std::string_view() : text.substr(comma + 1);
    const std::size_t equals = word.find('=');
    const bool known = equals == word.npos
                           ? flag(word, script)
                           : setting(word.substr(0, equals), word.substr(equals + 1), script);
    if (!known) {
      return std::unexpected("the script has the word '" + std::string(word) +
                             "', which means nothing");
    }
  }
  return script;
}

}  // namespace keelback::fakeworker
