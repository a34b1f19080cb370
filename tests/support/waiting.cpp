#include "support/waiting.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace keelback::test {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// A switch that is misspelt must not silently test something else.
[[noreturn]] void unknown(const char* name, std::string_view value, const char* known) {
  std::fprintf(stderr, "%s=%.*s: it is %s\n", name, static_cast<int>(value.size()), value.data(),
               known);
  std::exit(2);
}

}  // namespace

int stretch() {
  const std::string_view value = environment("KEELBACK_TIMEOUTS");
  if (value == "extended") return 4;
  if (value.empty() || value == "normal") return 1;
  unknown("KEELBACK_TIMEOUTS", value, "normal or extended");
}

std::vector<Backend> backends() {
  const std::string_view value = environment("KEELBACK_BACKEND");
  if (value == "sim") return {Backend::kSim};
  if (value == "fake") return {Backend::kFake};
  if (value == "python") return {Backend::kPython};
  if (value.empty()) return {Backend::kSim, Backend::kFake, Backend::kPython};
  unknown("KEELBACK_BACKEND", value, "sim, fake or python");
}

bool eventually(const std::function<bool()>& condition, std::chrono::nanoseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit * stretch();
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace keelback::test
