#include "base/settings_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/nearest.h"

namespace keelback {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array<Unit, 7> kTimeUnits = {{{"d", 86'400'000'000'000},
                                             {"h", 3'600'000'000'000},
                                             {"m", 60'000'000'000},
                                             {"s", 1'000'000'000},
                                             {"ms", 1'000'000},
                                             {"us", 1'000},
                                             {"ns", 1}}};
constexpr std::array<Unit, 10> kSizeUnits = {{{"TiB", 1ULL << 40},
                                              {"GiB", 1ULL << 30},
                                              {"MiB", 1ULL << 20},
                                              {"KiB", 1ULL << 10},
                                              {"B", 1},
                                              {"TB", 1'000'000'000'000},
                                              {"GB", 1'000'000'000},
                                              {"MB", 1'000'000},
                                              {"KB", 1'000},
                                              {"kB", 1'000}}};
constexpr std::uint64_t kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 60;  // enough to recognise it, whatever was pasted
  std::string shown(text.substr(0, kShown));
  if (text.size() > kShown) shown += "…";
  return "'" + shown + "'";
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

// whole[.fraction] times factor, exactly; false: too large, or not a whole number of the base unit.
bool scale(std::string_view whole, std::string_view fraction, std::uint64_t factor,
           std::uint64_t& out) {
  std::uint64_t value = 0;
  for (const char c : whole) {
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (value > (kMax - digit) / 10) return false;
    value = value * 10 + digit;
  }
  if (value > kMax / factor) return false;
  value *= factor;

  while (fraction.ends_with('0')) fraction.remove_suffix(1);
  if (fraction.size() > 18) return false;  // 10^18 is the last power of ten that fits
  std::uint64_t digits = 0, power = 1;
  for (const char c : fraction) {
    digits = digits * 10 + static_cast<std::uint64_t>(c - '0');
    power *= 10;
  }
  // digits * factor / power without overflow: take out what factor and power have in common.
  const std::uint64_t common = std::gcd(factor, power);
  if (digits % (power / common) != 0) return false;
  const std::uint64_t part = digits / (power / common) * (factor / common);
  if (part > kMax - value) return false;
  out = value + part;
  return true;
}

Parsed<std::uint64_t> parse_scaled(std::string_view text, std::span<const Unit> units,
                                   std::string_view form) {
  text = trimmed(text);
  std::size_t i = 0;
  while (i < text.size() && is_digit(text[i])) ++i;
  const std::string_view whole = text.substr(0, i);
  std::string_view fraction;
  if (i < text.size() && text[i] == '.') {
    const std::size_t from = ++i;
    while (i < text.size() && is_digit(text[i])) ++i;
    fraction = text.substr(from, i - from);
    if (fraction.empty()) return std::unexpected(quoted(text) + " is not " + std::string(form));
  }
  const std::string_view name = trimmed(text.substr(i));
  if (whole.empty()) {
    if (text.starts_with("-")) return std::unexpected(quoted(text) + " is negative");
    return std::unexpected(quoted(text) + " is not " + std::string(form));
  }
  if (name.empty() && whole.find_first_not_of('0') == std::string_view::npos &&
      fraction.find_first_not_of('0') == std::string_view::npos) {
    return 0;
  }
  if (name.empty()) {
    return std::unexpected(quoted(text) + " lacks its unit: write " + std::string(form));
  }
  const auto unit =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == name; });
  if (unit == units.end()) {
    return std::unexpected(quoted(text) + " is not " + std::string(form));
  }
  std::uint64_t value = 0;
  if (!scale(whole, fraction, unit->factor, value)) {
    return std::unexpected(quoted(text) + " is too large or too fine");
  }
  return value;
}

// `units` from the largest to the smallest, the last one of factor 1.
std::string format_scaled(std::uint64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.factor == 0) {
      return std::to_string(value / unit.factor) + std::string(unit.name);
    }
  }
  return "0";
}

constexpr std::array<std::string_view, 3> kBackends = {"python", "fake", "sim"};
constexpr std::array<std::string_view, 3> kZygoteModes = {"auto", "force", "off"};
constexpr std::array<std::string_view, 3> kCgroupModes = {"auto", "off", "require"};
constexpr std::array<std::string_view, 3> kSnapshotModes = {"off", "on_drain", "each_call"};
constexpr std::array<std::string_view, 2> kAnswerTimes = {"deadline", "end"};
constexpr std::array<std::string_view, 3> kAfterInterrupts = {"replace", "keep",
                                                              "replace_cancelled"};
constexpr std::array<std::string_view, 3> kDisconnectPolicies = {"stateless", "always", "never"};
constexpr std::array<std::string_view, 2> kSwitches = {"off", "on"};
constexpr std::array<std::string_view, 2> kYesNo = {"no", "yes"};
constexpr std::array<std::string_view, 6> kLogLevels = {"trace", "debug", "info",
                                                        "warn",  "error", "off"};
constexpr std::array<std::string_view, 2> kLogFormats = {"text", "json"};
constexpr std::array<std::string_view, 3> kAffinities = {"strict_queue", "strict_fail_fast",
                                                         "hint"};

}  // namespace

Parsed<Duration> parse_duration(std::string_view text) {
  const auto value = parse_scaled(text, kTimeUnits, "a duration such as 200ms, 5s, 2m or 1h");
  if (!value) return std::unexpected(value.error());
  return Duration(static_cast<std::int64_t>(*value));
}

std::string format_duration(Duration duration) {
  const auto count = duration.count();
  if (count < 0) return "-" + format_scaled(static_cast<std::uint64_t>(-count), kTimeUnits);
  return format_scaled(static_cast<std::uint64_t>(count), kTimeUnits);
}

Parsed<Bytes> parse_bytes(std::string_view text) {
  const auto value = parse_scaled(text, kSizeUnits, "a size such as 64KiB, 1MiB or 10MB");
  if (!value) return std::unexpected(value.error());
  return Bytes{*value};
}

std::string format_bytes(Bytes bytes) {
  return format_scaled(bytes.count, std::span<const Unit>(kSizeUnits).first(5));
}

Parsed<std::uint64_t> parse_count(std::string_view text) {
  text = trimmed(text);
  std::uint64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc::result_out_of_range) return std::unexpected(quoted(text) + " is too large");
  if (ec != std::errc() || end != text.data() + text.size()) {
    if (text.starts_with("-")) return std::unexpected(quoted(text) + " is negative");
    return std::unexpected(quoted(text) + " is not a whole number");
  }
  return value;
}

Parsed<double> parse_number(std::string_view text) {
  text = trimmed(text);
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::unexpected(quoted(text) + " is not a number");
  }
  return value;
}

std::string format_number(double number) {
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number);
  return std::string(buffer.data(), result.ptr);
}

Parsed<bool> parse_bool(std::string_view text) {
  text = trimmed(text);
  if (text == "true") return true;
  if (text == "false") return false;
  return std::unexpected(quoted(text) + " is neither true nor false");
}

Parsed<std::vector<std::string>> parse_list(std::string_view text) {
  std::vector<std::string> list;
  if (trimmed(text).empty()) return list;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view element = trimmed(text.substr(0, comma));
    if (element.empty()) return std::unexpected(std::string("an element of the list is empty"));
    list.emplace_back(element);
    if (comma == std::string_view::npos) return list;
    text.remove_prefix(comma + 1);
  }
}

std::string format_list(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& element : list) {
    if (!text.empty()) text += ',';
    text += element;
  }
  return text;
}

Parsed<TextTable> parse_table(std::string_view text) {
  TextTable table;
  if (trimmed(text).empty()) return table;
  std::string name, value;
  bool in_name = true;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || text[i] == ',') {
      if (in_name) return std::unexpected(quoted(name) + " has no value: write NAME=TEXT");
      if (name.empty()) return std::unexpected(std::string("a name of the table is empty"));
      if (table.contains(name)) return std::unexpected(quoted(name) + " is there twice");
      table.emplace(std::exchange(name, {}), std::exchange(value, {}));
      in_name = true;
    } else if (in_name && text[i] == '=') {
      in_name = false;
    } else if (in_name && name.empty() && text[i] == ' ') {
      continue;
    } else {
      if (text[i] == '\\' && i + 1 < text.size()) ++i;
      (in_name ? name : value) += text[i];
    }
  }
  return table;
}

std::string format_table(const TextTable& table) {
  std::string text;
  const auto put = [&text](std::string_view part, std::string_view escaped) {
    for (const char c : part) {
      if (escaped.find(c) != escaped.npos) text += '\\';
      text += c;
    }
  };
  for (const auto& [name, value] : table) {
    if (!text.empty()) text += ',';
    put(name, "\\,= ");
    text += '=';
    put(value, "\\,");
  }
  return text;
}

Parsed<std::size_t> parse_choice(std::string_view text, std::span<const std::string_view> names) {
  text = trimmed(text);
  const auto found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  std::string all;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) all += i + 1 == names.size() ? " or " : ", ";
    all += names[i];
  }
  return std::unexpected(quoted(text) + " is not one of " + all + did_you_mean(text, names));
}

template <>
std::span<const std::string_view> setting_names<Backend>() {
  return kBackends;
}
template <>
std::span<const std::string_view> setting_names<ZygoteMode>() {
  return kZygoteModes;
}
template <>
std::span<const std::string_view> setting_names<CgroupMode>() {
  return kCgroupModes;
}
template <>
std::span<const std::string_view> setting_names<SnapshotMode>() {
  return kSnapshotModes;
}
template <>
std::span<const std::string_view> setting_names<AnswerAt>() {
  return kAnswerTimes;
}
template <>
std::span<const std::string_view> setting_names<AfterInterrupt>() {
  return kAfterInterrupts;
}
template <>
std::span<const std::string_view> setting_names<DisconnectPolicy>() {
  return kDisconnectPolicies;
}
template <>
std::span<const std::string_view> setting_names<Switch>() {
  return kSwitches;
}
template <>
std::span<const std::string_view> setting_names<YesNo>() {
  return kYesNo;
}
template <>
std::span<const std::string_view> setting_names<LogLevel>() {
  return kLogLevels;
}
template <>
std::span<const std::string_view> setting_names<LogFormat>() {
  return kLogFormats;
}
template <>
std::span<const std::string_view> setting_names<Affinity>() {
  return kAffinities;
}

}  // namespace keelback
