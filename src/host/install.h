// Where our own programs and Python files are.
#pragma once

#include <string>
#include <string_view>

namespace keelback::host {

// A program of ours ("keelback-guard"), or a library that is loaded by its path: in
// $KEELBACK_LIBEXEC_DIR, beside the running executable, in
// ../libexec/keelback from there, or where it was built or installed. Empty: nowhere.
std::string find_program(std::string_view name);
// The directory that holds the Python package "keelback": $KEELBACK_PYTHON_DIR,
// ../share/keelback/python from the running executable, or where it was built from or installed.
// Empty: nowhere.
std::string find_python_directory();

}  // namespace keelback::host
