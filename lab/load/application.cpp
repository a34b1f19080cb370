#include "load/application.h"

#include <fmt/format.h>

#include <filesystem>

#include "host/install.h"

namespace keelback::load {

std::string lab_python_directory() {
  std::filesystem::path python = host::find_python_directory();
  if (python.empty()) return "";
  if (!python.has_filename()) python = python.parent_path();  // it ended in a slash
  return (python.parent_path() / "lab" / "python").string();
}

std::string lab_application(std::string_view name) {
  return fmt::format("{}/apps/{}.py", lab_python_directory(), name);
}

}  // namespace keelback::load
