// Where our own programs and Python files are. No path of the build tree or of an installed prefix
// is compiled in: both may be moved, and an installed tree must not lean on the build tree.
#pragma once

#include <string>
#include <string_view>

namespace keelback::host {

// A program of ours ("keelback-guard"), or a library that is loaded by its path: in
// $KEELBACK_LIBEXEC_DIR; else in a directory that this code's program was linked with (-rpath,
// which our CMake package and keelback.pc add); else beside the running executable, as in the build
// tree; else where an installed tree has it: beside a command ../libexec/keelback, beside a program
// of libexec/keelback the commands. Empty: nowhere.
std::string find_program(std::string_view name);
// The program of ours that `program`, a path to another of ours, finds beside it or in the tree
// where it is installed. Empty: nowhere.
std::string find_program_of(const std::string& program, std::string_view name);
// The directory that holds the Python package "keelback": $KEELBACK_PYTHON_DIR; else that of the
// prefix whose programs find_program() finds by -rpath; else keelback-python beside the running
// executable, as in the build tree, or where the tree has it in which that is installed, in bin/ or
// in libexec/keelback/. Empty: nowhere.
std::string find_python_directory();

}  // namespace keelback::host
