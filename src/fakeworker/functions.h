// The standard functions: what every test application of ours offers, whatever runs it. They behave
// as tests/apps/conformance.py does; tests/conformance holds both to it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fakeworker/attachments.h"
#include "fakeworker/marks.h"
#include "wire/messages.h"

namespace keelback::fakeworker {

using Json = nlohmann::ordered_json;

// What a call's user code came to. Beside the JSON of a result:
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
};
struct Streamed {};  // its items are sent
using Answer = std::variant<Returned, Raised, Streamed>;

Raised keyboard_interrupt();
bool ended_by_interrupt(const Answer& answer);
Raised cancelled();
Raised too_large(std::uint64_t bytes, std::uint64_t most);

struct Session {
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t counter = 0;
  bool opened = false;                 // a call of it has started here
  bool spoilt = false;                 // its state cannot be saved
  std::optional<std::uint64_t> given;  // the count that it is still to be restored from
};

// What a running function may use.
struct Running {
  std::uint64_t call = 0;
  bool stream = false;
  Session* session = nullptr;  // null: the call has none
  Marks* marks = nullptr;
  Attachments* attachments = nullptr;
  std::vector<Json> arguments;  // in the order of the parameters; null: not given
  // Sends one item, waiting for credit. Something in the answer: the stream is over with that.
  std::function<std::optional<Raised>(std::string_view json)> put_item;
  bool unclean = false;  // a function sets it: something of it is left
  // Sessions that ended in this worker, [id, reason] each; the latest ones.
  const std::vector<std::pair<std::string, std::string>>* ended = nullptr;
};

struct Parameter {
  const char* name;
  const char* type;  // null: any
  bool required;
};
struct Function {
  const char* name;
  const char* doc;
  bool idempotent;
  bool stream;
  std::span<const Parameter> parameters;
  Answer (*run)(Running&);
  bool interruptible = false;
};

std::span<const Function> standard_functions();
const Function* find_function(std::string_view name);  // null: there is none
Json describe(const Function& function);               // its entry in HELLO

// The payload as arguments in the order of the parameters, or why it does not bind.
std::variant<std::vector<Json>, Raised> bind(const Function& function, std::string_view payload);

// Waits `ms`, less if the call is interrupted or, where `heeds_cancel`, cancelled.
std::optional<Raised> wait(const Running& running, std::int64_t ms, bool heeds_cancel);

}  // namespace keelback::fakeworker
