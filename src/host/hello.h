// What the Python side says: of the application, and of failures. The host reads no other JSON; it
// never looks into payloads. Foreign text: nothing in it can do more than be refused.
#pragma once

#include <string>
#include <string_view>

#include "base/application.h"
#include "core/event.h"
#include "keelback/outcome.h"

namespace keelback::host {

// What the core decides by. It has no use for the rest: texts and parameters.
core::FunctionsAnnounced functions_of(const Application& application);

// {type, message, traceback, errors} of ERROR and START_FAILED; what is missing stays empty.
PythonError python_error_of(std::string_view json);
// {step} of START_FAILED.
std::string step_of(std::string_view json);

}  // namespace keelback::host
