#include "host/hello.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json_text.h"

namespace keelback::host {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kFunctionsMax = 10'000;

template <typename T>
T member(const Json& object, const char* name, T otherwise) {
  const auto found = object.find(name);
  if (found == object.end()) return otherwise;
  if constexpr (std::is_same_v<T, bool>) {
    return found->is_boolean() ? found->template get<bool>() : otherwise;
  } else if constexpr (std::is_same_v<T, std::string>) {
    return found->is_string() ? found->template get_ref<const std::string&>() : otherwise;
  } else {
    return found->is_number_unsigned() ? found->template get<T>() : otherwise;
  }
}

std::optional<Duration> timeout_of(const Json& object) {
  const auto found = object.find("timeout");
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const double seconds = found->get<double>();
  constexpr double kMost = 1e9;  // three decades: more would overflow nanoseconds
  if (!std::isfinite(seconds) || seconds <= 0 || seconds > kMost) return std::nullopt;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

std::optional<core::FunctionsAnnounced> application_of_hello(std::string_view json) {
  const Json hello = parse_json<Json>(json);
  if (!hello.is_object()) return std::nullopt;
  const auto list = hello.find("functions");
  if (list == hello.end() || !list->is_array() || list->size() > kFunctionsMax) return std::nullopt;
  core::FunctionsAnnounced application;
  application.health = member(hello, "health", false);
  for (const Json& item : *list) {
    if (!item.is_object()) return std::nullopt;
    core::FunctionSpec spec;
    spec.name = member<std::string>(item, "name", "");
    if (spec.name.empty()) return std::nullopt;
    spec.idempotent = member(item, "idempotent", false);
    spec.stream = member(item, "stream", false);
    spec.timeout = timeout_of(item);
    spec.max_workers = member<std::uint32_t>(item, "max_workers", 0);
    spec.interruptible = member(item, "interruptible", false);
    application.functions.push_back(std::move(spec));
  }
  return application;
}

PythonError python_error_of(std::string_view json) {
  const Json object = parse_json<Json>(json);
  if (!object.is_object()) return {.message = std::string(json.substr(0, 4096))};
  return {member<std::string>(object, "type", ""), member<std::string>(object, "message", ""),
          member<std::string>(object, "traceback", "")};
}

std::string step_of(std::string_view json) {
  const Json object = parse_json<Json>(json);
  return object.is_object() ? member<std::string>(object, "step", "") : "";
}

}  // namespace keelback::host
