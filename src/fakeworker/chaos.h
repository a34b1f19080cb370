// What the chaos laboratory asks of a worker, the same as of lab/python/apps/chaos_probe.py: a line
// in an append-only ledger whenever a function begins, and obedience, at the start, to a control
// file.
//
// KEELBACK_CHAOS_LEDGER   lines "E CALL SLOT.GENERATION BIRTH EPOCH SESSION" and "O FAULT WORKER"
// KEELBACK_CHAOS_CONTROL  lines "FAULT fail|exit N|sleep MS|hang|stay"
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fakeworker/script.h"

namespace keelback::fakeworker {

class Chaos {
 public:
  Chaos();  // reads the environment; without it nothing here does anything

  // Adds the orders in force to what the script says.
  void obey(Script& script);
  void note_effect(std::uint64_t call, std::uint64_t birth, std::uint32_t epoch,
                   std::string_view session);

 private:
  void write(const std::string& line);
  void note(const std::string& fault);
  int ledger_ = -1;
  std::string control_;
  std::string worker_;
};

}  // namespace keelback::fakeworker
