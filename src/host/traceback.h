// Where in the user's own code a traceback of Python ends.
#pragma once

#include <string>
#include <string_view>

namespace keelback::host {

// "/srv/app.py, line 3": the last place in `text` that is neither Python's own, nor of an installed
// package, nor under `runtime`, the directory of our Python package. Empty: there is none.
std::string place_of_error(std::string_view text, std::string_view runtime);

// The message with that place behind it, unless it names a line already.
std::string with_place(std::string message, std::string_view text, std::string_view runtime);

}  // namespace keelback::host
