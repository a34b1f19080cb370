// How the laboratory's values become JSON and come back: plan.json, events.jsonl and report.json
// are made of it. Durations are whole nanoseconds, outcomes are their names.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/settings.h"
#include "base/settings_text.h"
#include "base/time.h"
#include "keelback/outcome.h"

namespace keelback {

using Json = nlohmann::ordered_json;  // in the order of insertion: what is read first comes first

inline void to_json(Json& json, OutcomeKind kind) { json = std::string(to_string(kind)); }
inline void from_json(const Json& json, OutcomeKind& kind) {
  kind = outcome_kind_from(json.get<std::string>()).value_or(OutcomeKind::kError);
}
inline void to_json(Json& json, Effect effect) { json = std::string(to_string(effect)); }
inline void from_json(const Json& json, Effect& effect) {
  const auto name = json.get<std::string>();
  effect = name == "none" ? Effect::kNone : name == "done" ? Effect::kDone : Effect::kMaybe;
}
inline void to_json(Json& json, const WorkerRef& worker) {
  json = Json::array({worker.slot, worker.generation});
}
inline void from_json(const Json& json, WorkerRef& worker) {
  worker = {json.at(0).get<std::uint32_t>(), json.at(1).get<std::uint32_t>()};
}
inline void to_json(Json& json, Backend backend) { json = std::string(setting_name(backend)); }
inline void from_json(const Json& json, Backend& backend) {
  const auto index = parse_choice(json.get<std::string>(), setting_names<Backend>());
  backend = index ? static_cast<Backend>(*index) : Backend::kSim;
}

}  // namespace keelback

template <>
struct nlohmann::adl_serializer<keelback::Duration> {
  template <class J>
  static void to_json(J& json, const keelback::Duration& value) {
    json = static_cast<std::int64_t>(value.count());
  }
  template <class J>
  static void from_json(const J& json, keelback::Duration& value) {
    value = keelback::Duration(json.template get<std::int64_t>());
  }
};

// The library's macro of the same idea knows plain json only. A missing member keeps its default.
#define KEELBACK_JSON(Type, ...)                                                            \
  inline void to_json(Json& nlohmann_json_j, const Type& nlohmann_json_t) {                 \
    NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(NLOHMANN_JSON_TO, __VA_ARGS__))                \
  }                                                                                         \
  inline void from_json(const Json& nlohmann_json_j, Type& nlohmann_json_t) {               \
    const Type nlohmann_json_default_obj{};                                                 \
    NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(NLOHMANN_JSON_FROM_WITH_DEFAULT, __VA_ARGS__)) \
  }
