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

struct CallEvent;  // history.h

struct Word {
  enum class Takes : std::uint8_t {
    kOther,         // whoever plans the call gives its arguments
    kText,          // the call's token as a text, which is the answer
    kToken,         // the call's token: one more step of its session's chain
    kMilliseconds,  // how long it lasts
    kItems,         // how many items its stream has, and how long each takes
  };
  std::string_view name;
  std::string_view sim, fake;  // the function there; empty: the backend has none
  std::string_view python;     // empty: chaos_WORD
  Takes takes = Takes::kOther;
  bool in_mix = false;   // a scenario may mix it into its load
  bool shared = false;   // its calls run beside each other
  bool batched = false;  // its calls run in batches
  bool leads = false;    // it ends its worker, and the dying thread leads to it
  std::string_view act;  // of a batch's call: what it does, its second argument; empty: nothing

  bool is_text() const { return takes == Takes::kText; }
  bool is_chain() const { return takes == Takes::kToken; }
  bool is_stream() const { return takes == Takes::kItems; }
  bool runs_alone() const { return !shared && !batched; }
  bool kills_its_batch() const { return act == "die"; }
  bool on(Backend backend) const {
    return backend == Backend::kPython || !(backend == Backend::kSim ? sim : fake).empty();
  }
};

// Those that a scenario may mix into its load, and those whose function has another name. Every
// other word is the name of its function.
const std::vector<Word>& words();
const Word* find_word(std::string_view name);  // null: it is none of those
// Of a call of the laboratory's own functions; null also for one of the application's.
const Word* word_of(const CallEvent& call);
// The function that offers the word on this backend.
std::string function_of(std::string_view word, Backend backend);

}  // namespace keelback::chaos
