// JSON as it is answered: fields in the order in which they are written.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

namespace keelback::server {

using Json = nlohmann::ordered_json;

// What Python wrote may be any bytes; JSON must be UTF-8.
inline std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// A text that is JSON already, inside of other JSON.
inline Json parsed(const std::string& text) {
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

inline double milliseconds(std::chrono::nanoseconds duration) {
  return static_cast<double>(duration.count()) / 1e6;
}
inline double seconds(std::chrono::nanoseconds duration) {
  return static_cast<double>(duration.count()) / 1e9;
}

}  // namespace keelback::server
