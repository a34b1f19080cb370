// What the Python side says in JSON: HELLO, and how something failed. The only JSON that the host
// reads; payloads are never looked into. Foreign text: nothing in it can do more than be refused.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/event.h"
#include "keelback/outcome.h"

namespace keelback::host {

// What a HELLO object says of its application; nullopt: it is not one.
std::optional<core::FunctionsAnnounced> application_of_hello(std::string_view json);

// {type, message, traceback} of ERROR and START_FAILED; what is missing stays empty.
PythonError python_error_of(std::string_view json);
// {step} of START_FAILED.
std::string step_of(std::string_view json);

}  // namespace keelback::host
