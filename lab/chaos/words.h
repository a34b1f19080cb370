// The words of the laboratory: the functions that it calls, under the names that scenarios and
// plans use. Each backend offers them under names of its own: lab/python/apps/chaos_probe.py as
// chaos_WORD, the simulator and keelback-fakeworker among the functions that they have built in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"

namespace keelback::chaos {

struct Word {
  enum class Takes : std::uint8_t {
    kOther,         // whoever plans the call gives its arguments
    kText,          // the call's token as a text, which is the answer
    kToken,         // the call's token: one more step of its session's chain
    kMilliseconds,  // how long it lasts
  };
  std::string_view name;
  std::string_view sim, fake;  // the function there
  std::string_view python;     // empty: chaos_WORD
  Takes takes = Takes::kOther;
  bool in_mix = false;  // a scenario may mix it into its load

  bool is_text() const { return takes == Takes::kText; }
  bool is_chain() const { return takes == Takes::kToken; }
};

// Those that a scenario may mix into its load, and those whose function has another name. Every
// other word is the name of its function.
const std::vector<Word>& words();
const Word* find_word(std::string_view name);  // null: it is none of those
// The function that offers the word on this backend.
std::string function_of(std::string_view word, Backend backend);

}  // namespace keelback::chaos
