#include "base/check.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include "base/fault_lines.h"

namespace keelback {
namespace {
std::atomic<std::uint64_t> g_unexpected{0};
std::atomic<bool> g_fatal{false};
std::atomic<bool> g_json{false};

// Escapes for JSON. The text of a condition may have quotes and backslashes, no control characters.
std::string quoted(const char* text) {
  std::string out;
  for (; *text != '\0'; ++text) {
    if (*text == '"' || *text == '\\') out += '\\';
    out += *text;
  }
  return out;
}

void say(const char* level, const char* what, const char* condition, const char* file, int line) {
  if (!g_json.load(std::memory_order_relaxed)) {
    std::fprintf(stderr, "keelback: %s: %s at %s:%d\n", what, condition, file, line);
    return;
  }
  char time[32] = "";
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  if (::gmtime_r(&now, &parts) != nullptr) {
    std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S.000Z", &parts);
  }
  std::fprintf(stderr, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"%s: %s at %s:%d\"}\n", time,
               level, what, quoted(condition).c_str(), quoted(file).c_str(), line);
}
}  // namespace

void write_faults_as_json(bool json) { g_json.store(json, std::memory_order_relaxed); }

void check_failed(const char* condition, const char* file, int line) {
  say("critical", "CHECK failed", condition, file, line);
  std::abort();
}

std::uint64_t unexpected_count() { return g_unexpected.load(std::memory_order_relaxed); }
void set_unexpected_fatal(bool fatal) { g_fatal.store(fatal, std::memory_order_relaxed); }

bool unexpected(const char* condition, const char* file, int line) {
  g_unexpected.fetch_add(1, std::memory_order_relaxed);
  say("error", "unexpected", condition, file, line);
  if (g_fatal.load(std::memory_order_relaxed)) std::abort();
  return true;
}

}  // namespace keelback
