// The Python files of the laboratories.
#pragma once

#include <string>
#include <string_view>

namespace keelback::load {

// lab/python beside python/ of the package keelback, in the source tree as where it is installed.
// Empty: the package keelback was not found.
std::string lab_python_directory();
// The file of an application that comes with the laboratories, "chaos_probe" or "bench_probe".
std::string lab_application(std::string_view name);

}  // namespace keelback::load
