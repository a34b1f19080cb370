// The standard functions: what every test application of ours offers, whatever runs it. They behave
// as tests/apps/conformance.py does; tests/conformance holds both to it.
#pragma once

#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "fakeworker/answer.h"
#include "fakeworker/running.h"

namespace keelback::fakeworker {

class BatchRun;

struct Parameter {
  const char* name;
  const char* type;  // null: any
  bool required;
  bool checked = false;  // its value is an int, as in Python
};
struct Function {
  const char* name;
  const char* doc;
  bool idempotent;
  bool stream;
  std::span<const Parameter> parameters;
  Answer (*run)(Running&);
  bool interruptible = false;
  std::uint32_t concurrency = 1;
  bool async = false;       // it has the loop's turn while it runs (loop.h)
  std::uint32_t batch = 0;  // it takes up to so many calls at once; 0: one by one
  double batch_wait = 0;    // seconds
  // If it takes batches, in place of `run`: an answer for each call, in their order.
  std::vector<Answer> (*run_together)(BatchRun&) = nullptr;
};

std::span<const Function> standard_functions();
const Function* find_function(std::string_view name);  // null: there is none
Json describe(const Function& function);               // its entry in HELLO

// The payload as arguments in the order of the parameters, or why it does not bind.
std::variant<std::vector<Json>, Raised> bind(const Function& function, std::string_view payload);

}  // namespace keelback::fakeworker
