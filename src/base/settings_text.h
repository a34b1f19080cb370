// Setting values as people write them: `200ms`, `64KiB`, `strict_queue`. What format_* writes,
// parse_* reads back unchanged. Errors are what follows "KEY: " in a sentence.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"
#include "base/time.h"

namespace keelback {

template <class T>
using Parsed = std::expected<T, std::string>;

// ns us ms s m h d; a fraction is allowed ("1.5s") if it comes out in whole nanoseconds; no unit
// only for 0. Not negative.
Parsed<Duration> parse_duration(std::string_view text);
// In the largest unit that divides it: "90s", not "1.5m".
std::string format_duration(Duration duration);

// B, KiB MiB GiB TiB (powers of 1024), kB KB MB GB TB (powers of 1000); no unit only for 0.
Parsed<Bytes> parse_bytes(std::string_view text);
std::string format_bytes(Bytes bytes);

Parsed<std::uint64_t> parse_count(std::string_view text);
Parsed<double> parse_number(std::string_view text);  // finite
std::string format_number(double number);            // the shortest that reads back the same
Parsed<bool> parse_bool(std::string_view text);      // true or false

// "a, b,c"; surrounding blanks go; no empty element.
Parsed<std::vector<std::string>> parse_list(std::string_view text);
std::string format_list(const std::vector<std::string>& list);

// "A=1, B=x\,y": a backslash takes the character after it as it is, which a comma and a backslash
// need, and "=" in a name. Blanks before a name go; all others stay. No empty name, none twice.
Parsed<TextTable> parse_table(std::string_view text);
std::string format_table(const TextTable& table);

// The enumerators' names, in the order of their values.
template <class E>
std::span<const std::string_view> setting_names();
template <>
std::span<const std::string_view> setting_names<Backend>();
template <>
std::span<const std::string_view> setting_names<ZygoteMode>();
template <>
std::span<const std::string_view> setting_names<CgroupMode>();
template <>
std::span<const std::string_view> setting_names<SnapshotMode>();
template <>
std::span<const std::string_view> setting_names<AnswerAt>();
template <>
std::span<const std::string_view> setting_names<AfterInterrupt>();
template <>
std::span<const std::string_view> setting_names<DisconnectPolicy>();
template <>
std::span<const std::string_view> setting_names<Switch>();
template <>
std::span<const std::string_view> setting_names<YesNo>();
template <>
std::span<const std::string_view> setting_names<LogLevel>();
template <>
std::span<const std::string_view> setting_names<LogFormat>();
template <>
std::span<const std::string_view> setting_names<Affinity>();

// The name of an enumerator of a setting: setting_name(Backend::kSim) is "sim".
template <class E>
std::string_view setting_name(E value) {
  return setting_names<E>()[static_cast<std::size_t>(value)];
}
// The index of `text` in `names`; the error names the nearest and lists all.
Parsed<std::size_t> parse_choice(std::string_view text, std::span<const std::string_view> names);

}  // namespace keelback
