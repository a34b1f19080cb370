// Text that others wrote, made harmless for a terminal and for a reader of logs.
#pragma once

#include <string>
#include <string_view>

namespace keelback::cli {

// Escapes, as \x1b or \u202e: control characters (C0 but tab, DEL, C1), characters that change the
// direction of text, line separators other than \n, and bytes that are not UTF-8. Puts `margin`
// after each line end, so that quoted text cannot look like a line of the program.
std::string printable(std::string_view text, std::string_view margin = {});

}  // namespace keelback::cli
