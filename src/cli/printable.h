// Text that others wrote, made harmless for a terminal and for a reader of logs.
#pragma once

#include <string>
#include <string_view>

namespace keelback::cli {

// Control characters (C0 but tab, DEL, C1), characters that turn the direction of text, separators
// of lines other than \n, and bytes that are not UTF-8 come as \x1b or \u202e. After each line end
// comes `margin`: what a message quotes cannot look like a line of its own.
std::string printable(std::string_view text, std::string_view margin = {});

}  // namespace keelback::cli
