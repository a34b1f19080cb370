// What an application says of one of its functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace keelback {

struct FunctionInfo {
  std::string name;
  std::string doc;
  bool idempotent = false;
  bool stream = false;
  bool async = false;
  std::optional<std::chrono::nanoseconds> timeout;
  std::uint32_t max_workers = 0;           // 0: no limit
  std::uint32_t concurrency = 1;           // calls of it that one worker may run at once
  std::uint32_t batch = 0;                 // calls that it takes at once, at most; 0: one by one
  std::chrono::nanoseconds batch_wait{0};  // how long the first of them waits for others
  bool interruptible = false;              // its worker may be kept after an interrupt
  struct Parameter {
    std::string name;
    std::string kind;  // as Python's inspect names it
    std::string type;  // as it is annotated; empty: not
    bool required = false;
    std::string schema{};  // JSON Schema of the values that it takes; empty: it takes all
  };
  std::vector<Parameter> parameters;
  std::string result_schema{};  // JSON Schema of the result, of an item of a stream; empty: unknown
};

}  // namespace keelback
