// What a call's user code comes to, and the frames that say so.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "fakeworker/channel.h"
#include "wire/messages.h"

namespace keelback::fakeworker {

using Json = nlohmann::ordered_json;

// Beside the JSON of a result:
struct Attached {
  std::string name;
  std::string bytes;
  std::string dtype = {};
  std::vector<std::uint64_t> shape = {};
  std::string filename = {};
  std::string content_type = {};
};
struct Returned {
  std::string json;
  std::vector<Attached> attached = {};
};
struct Raised {
  wire::ErrorKind kind = wire::ErrorKind::kError;
  std::string type;
  std::string message;
  Json errors{};  // kBadRequest: where arguments do not fit; null: they do not bind
};
struct Streamed {};  // its items are sent
using Answer = std::variant<Returned, Raised, Streamed>;

Raised cancelled(std::string message = "the call was cancelled");
Raised cancelled_before_start();
Raised too_large(std::uint64_t bytes, std::uint64_t most);
// Of the attachments of a result: too many, or more than `most` bytes together.
std::optional<Raised> refuse_attached(const std::vector<Attached>& attached, std::uint64_t most);

// A session's state, or why there is none.
struct State {
  wire::StateFormat format = wire::StateFormat::kNone;
  std::string bytes;
};

// ATTACHED with the bytes in it, or where they lie in the slab.
Out attached_frame(std::uint64_t call, const Attached& attached, std::uint32_t slab);
// RESULT, ERROR or END.
Out answer_frame(std::uint64_t call, Answer answer, std::uint8_t flags);
// The same, as SAVED.
Out saved_frame(std::uint64_t call, Answer answer, std::uint8_t flags, const State& state);

}  // namespace keelback::fakeworker
