#include "base/dtype.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace keelback {
namespace {

constexpr std::uint64_t kItemMax = 0x7FFFFFFF;  // as in NumPy

constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"bool", "b1"},      {"int8", "i1"},      {"int16", "i2"},       {"int32", "i4"},
    {"int64", "i8"},     {"uint8", "u1"},     {"uint16", "u2"},      {"uint32", "u4"},
    {"uint64", "u8"},    {"float16", "f2"},   {"float32", "f4"},     {"float64", "f8"},
    {"float128", "f16"}, {"complex64", "c8"}, {"complex128", "c16"}, {"complex256", "c32"}};
constexpr std::string_view kUnits[] = {"Y",  "M",  "W",  "D",  "h",  "m", "s",
                                       "ms", "us", "ns", "ps", "fs", "as"};

// "[ns]", "[25s]" or nothing.
bool is_unit(std::string_view text) {
  if (text.empty()) return true;
  if (!text.starts_with('[') || !text.ends_with(']')) return false;
  text = text.substr(1, text.size() - 2);
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits > 9 || text.starts_with('0')) return false;
  return std::ranges::find(kUnits, text.substr(digits)) != std::end(kUnits);
}

// "5" of "S5": a whole number above 0 without zeros in front.
std::optional<std::uint64_t> count_of(std::string_view text) {
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (text.starts_with('0') || count > kItemMax) return std::nullopt;
  return count;
}

// Of a dtype without its byte order.
std::optional<std::uint64_t> code_bytes(std::string_view code) {
  if (code.starts_with('S')) return count_of(code.substr(1));
  if (code.starts_with('U')) {
    const auto count = count_of(code.substr(1));
    return count && *count * 4 <= kItemMax ? std::optional(*count * 4) : std::nullopt;
  }
  if (code.starts_with("M8") || code.starts_with("m8")) {
    return is_unit(code.substr(2)) ? std::optional<std::uint64_t>(8) : std::nullopt;
  }
  const bool known =
      std::ranges::find(kNames, code, &std::pair<std::string_view, std::string_view>::second) !=
      std::end(kNames);
  return known ? count_of(code.substr(1)) : std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> dtype_bytes(std::string_view dtype) {
  for (const std::string_view time : {"datetime64", "timedelta64"}) {
    if (dtype.starts_with(time)) {
      return is_unit(dtype.substr(time.size())) ? std::optional<std::uint64_t>(8) : std::nullopt;
    }
  }
  for (const auto& [name, code] : kNames) {
    if (dtype == name) return code_bytes(code);
  }
  const char order = dtype.empty() ? '\0' : dtype.front();
  const bool ordered = order == '<' || order == '>' || order == '=' || order == '|';
  const std::string_view code = dtype.substr(ordered ? 1 : 0);
  const auto bytes = code_bytes(code);
  // '|' says that the order of bytes does not matter.
  if (bytes && order == '|' && *bytes != 1 && !code.starts_with('S')) return std::nullopt;
  return bytes;
}

bool is_whole_array(std::string_view dtype, std::span<const std::uint64_t> shape,
                    std::uint64_t bytes) {
  if (dtype.empty()) return shape.empty();
  const auto item = dtype_bytes(dtype);
  if (!item) return false;
  // An extent of 0 makes any shape empty, however large the others are.
  if (std::ranges::find(shape, 0U) != shape.end()) return bytes == 0;
  std::uint64_t left = bytes / *item;
  if (left * *item != bytes) return false;
  for (const std::uint64_t extent : shape) {
    if (left % extent != 0 || left == 0) return false;
    left /= extent;
  }
  return left == 1;
}

std::string array_fault(std::string_view name, std::string_view dtype,
                        std::span<const std::uint64_t> shape, std::uint64_t bytes) {
  if (is_whole_array(dtype, shape, bytes)) return "";
  const std::string subject = "attachment \"" + std::string(name) + "\"";
  if (dtype.empty()) return subject + " has a shape and no dtype";
  if (!dtype_bytes(dtype)) {
    return subject + " has the dtype \"" + std::string(dtype) +
           "\", which attachments do not carry";
  }
  std::string extents;
  for (const std::uint64_t extent : shape) {
    extents += (extents.empty() ? "" : ", ") + std::to_string(extent);
  }
  return subject + " of " + std::to_string(bytes) + " bytes is no " + std::string(dtype) +
         " array of shape [" + extents + "]";
}

}  // namespace keelback
