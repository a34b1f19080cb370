#include "base/application.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json_text.h"

namespace keelback {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kFunctionsMax = 10'000;
constexpr std::uint32_t kConcurrencyMax = 1024;

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// An object as text again; empty: there is none.
std::string object_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_object() ? found->dump() : std::string();
}

bool flag_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

std::uint32_t number_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint32_t>() : 0;
}

// Calls at once, at most; 0: one by one.
std::uint32_t batch_of(const Json& object) {
  const std::uint32_t batch = std::min(number_of(object, "batch"), kConcurrencyMax);
  return batch < 2 ? 0 : batch;
}

// Of a number of seconds; nullopt: there is none above 0.
std::optional<std::chrono::nanoseconds> duration_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const double seconds = found->get<double>();
  constexpr double kMost = 1e9;  // three decades: more would overflow nanoseconds
  if (!std::isfinite(seconds) || seconds <= 0 || seconds > kMost) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(seconds));
}

std::vector<FunctionInfo::Parameter> parameters_of(const Json& object) {
  std::vector<FunctionInfo::Parameter> out;
  const auto list = object.find("params");
  if (list == object.end() || !list->is_array()) return out;
  for (const Json& each : *list) {
    if (!each.is_object()) continue;
    out.push_back({text_of(each, "name"), text_of(each, "kind"), text_of(each, "type"),
                   flag_of(each, "required"), object_of(each, "schema")});
  }
  return out;
}

FunctionInfo function_of(const Json& object) {
  return {.name = text_of(object, "name"),
          .doc = text_of(object, "doc"),
          .idempotent = flag_of(object, "idempotent"),
          .stream = flag_of(object, "stream"),
          .async = flag_of(object, "async"),
          .timeout = duration_of(object, "timeout"),
          .max_workers = number_of(object, "max_workers"),
          .concurrency = std::clamp(number_of(object, "concurrency"), 1U, kConcurrencyMax),
          .batch = batch_of(object),
          .batch_wait = duration_of(object, "batch_wait").value_or(std::chrono::nanoseconds{0}),
          .interruptible = flag_of(object, "interruptible"),
          .parameters = parameters_of(object),
          .result_schema = object_of(object, "result")};
}

}  // namespace

const FunctionInfo* Application::find(std::string_view function) const {
  const auto found = std::ranges::find(functions, function, &FunctionInfo::name);
  return found == functions.end() ? nullptr : &*found;
}

std::optional<Application> parse_application(std::string_view hello) {
  const Json object = parse_json<Json>(hello);
  if (!object.is_object()) return std::nullopt;
  const auto list = object.find("functions");
  if (list == object.end() || !list->is_array() || list->size() > kFunctionsMax) {
    return std::nullopt;
  }
  Application out{.name = text_of(object, "app"),
                  .runtime = text_of(object, "runtime"),
                  .health = flag_of(object, "health"),
                  .functions = {},
                  .definitions = object_of(object, "$defs")};
  for (const Json& each : *list) {
    if (!each.is_object()) return std::nullopt;
    out.functions.push_back(function_of(each));
    if (out.functions.back().name.empty()) return std::nullopt;
  }
  return out;
}

}  // namespace keelback
