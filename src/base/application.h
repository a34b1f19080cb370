// What an application says of itself in the HELLO object of its first worker (docs/protocol.md).
// The object is parsed once; all other code reads this type.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keelback/function.h"

namespace keelback {

struct Application {
  std::string name;     // as it was asked for: "examples/counter.py"; HELLO calls it "app"
  std::string runtime;  // what runs it: "python 3.11.2"
  bool health = false;  // it has a health check
  std::vector<FunctionInfo> functions;
  std::string definitions{};  // JSON object: what "#/$defs/…" in the schemas refers to; empty: none

  const FunctionInfo* find(std::string_view function) const;  // nullptr: it has none of that name
};

// nullopt: the text is not a HELLO object, has over 10,000 functions, or has one without a name.
// The text is foreign: a member of another type counts as absent, an unknown one is ignored.
std::optional<Application> parse_application(std::string_view hello);

}  // namespace keelback
