#include "fakeworker/chaos.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace keelback::fakeworker {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

Chaos::Chaos()
    : control_(environment("KEELBACK_CHAOS_CONTROL")), worker_(environment("KEELBACK_WORKER")) {
  const std::string ledger = environment("KEELBACK_CHAOS_LEDGER");
  if (!ledger.empty()) {
    ledger_ = ::open(ledger.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  }
}

// One write to a file that only grows: whole lines, whatever the other workers do.
void Chaos::write(const std::string& line) {
  if (ledger_ < 0) return;
  if (::write(ledger_, line.data(), line.size()) < 0)
    return;  // the laboratory misses it and says so
}

void Chaos::note(const std::string& fault) { write("O " + fault + " " + worker_ + "\n"); }

void Chaos::obey(Script& script) {
  if (control_.empty()) return;
  std::ifstream in(control_);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string fault, word, rest;
    words >> fault >> word >> rest;
    note(fault);
    const int number = std::atoi(rest.c_str());
    if (word == "fail") script.fail = Step::kSetup;
    if (word == "exit") script.exit_at = Script::Exit{Step::kSetup, number};
    if (word == "hang") script.hang_at = Step::kSetup;
    if (word == "stay") script.ignore_shutdown = script.term_immune = true;
    if (word == "sleep" && number > 0) script.setup_ms += static_cast<std::uint32_t>(number);
  }
}

void Chaos::note_effect(std::uint64_t call, std::uint64_t birth, std::uint32_t epoch,
                        std::string_view session) {
  if (ledger_ < 0) return;
  write("E " + std::to_string(call) + " " + worker_ + " " + std::to_string(birth) + " " +
        std::to_string(epoch) + " " + (session.empty() ? "-" : std::string(session)) + "\n");
}

}  // namespace keelback::fakeworker
