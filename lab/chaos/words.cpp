#include "chaos/words.h"

#include <fmt/format.h>

#include <algorithm>

#include "chaos/history.h"

namespace keelback::chaos {

const std::vector<Word>& words() {
  using enum Word::Takes;
  static const std::vector<Word> all = {
      {.name = "echo", .sim = "echo", .fake = "echo", .takes = kText, .in_mix = true},
      {.name = "chain", .sim = "counter", .fake = "counter", .takes = kToken, .in_mix = true},
      {.name = "sleep", .sim = "sleep", .fake = "sleep", .takes = kMilliseconds, .in_mix = true},
      {.name = "spin", .sim = "spin", .fake = "spin", .takes = kMilliseconds, .in_mix = true},
      {.name = "together",
       .sim = "together",
       .fake = "together",
       .takes = kMilliseconds,
       .in_mix = true,
       .shared = true},
      {.name = "threads",
       .sim = "threads",
       .fake = "threads",
       .takes = kMilliseconds,
       .in_mix = true,
       .shared = true},
      {.name = "together_chain",
       .sim = "count_together",
       .fake = "count_together",
       .takes = kToken,
       .in_mix = true,
       .shared = true},
      {.name = "together_stream",
       .sim = "together_stream",
       .fake = "together_stream",
       .takes = kItems,
       .in_mix = true,
       .shared = true},
      {.name = "threads_late",  // heeds no cancel
       .sim = "threads",
       .fake = "threads_late",
       .python = "chaos_threads",
       .takes = kMilliseconds,
       .shared = true},
      {.name = "together_block",
       .sim = "together_block",
       .fake = "together_block",
       .takes = kMilliseconds,
       .shared = true},
      {.name = "threads_hold",  // where there is no GIL, the loop stands for it
       .sim = "together_block",
       .fake = "together_block",
       .takes = kMilliseconds,
       .shared = true},
      {.name = "together_crash",
       .sim = "together_crash",
       .fake = "together_crash",
       .takes = kMilliseconds,
       .shared = true,
       .leads = true},
      {.name = "together_die",  // nobody can know that it was this one
       .sim = "together_die",
       .fake = "together_die",
       .takes = kMilliseconds,
       .shared = true},
      {.name = "together_stuck",
       .sim = "together_stuck",
       .fake = "together_stuck",
       .takes = kMilliseconds,
       .shared = true},
      {.name = "threads_stuck",
       .sim = "threads_stuck",
       .fake = "threads_stuck",
       .takes = kMilliseconds,
       .shared = true},
      {.name = "gather",
       .sim = "gather",
       .fake = "gather",
       .takes = kMilliseconds,
       .in_mix = true,
       .batched = true},
      {.name = "gather_raise",
       .sim = "gather",
       .fake = "gather",
       .python = "chaos_gather",
       .takes = kMilliseconds,
       .batched = true,
       .act = "raise"},
      {.name = "gather_die",
       .sim = "gather",
       .fake = "gather",
       .python = "chaos_gather",
       .takes = kMilliseconds,
       .batched = true,
       .act = "die"},
      {.name = "hold", .sim = "hold", .fake = "hold", .takes = kMilliseconds},
      {.name = "echo-malformed", .sim = "echo", .fake = "echo", .python = "chaos_echo"},
      {.name = "no-such-function",
       .sim = "no-such-function",
       .fake = "no-such-function",
       .python = "no-such-function"}};
  return all;
}

const Word* find_word(std::string_view name) {
  const auto found = std::ranges::find(words(), name, &Word::name);
  return found == words().end() ? nullptr : &*found;
}

const Word* word_of(const CallEvent& call) { return call.own ? nullptr : find_word(call.function); }

std::string function_of(std::string_view word, Backend backend) {
  const Word* known = find_word(word);
  if (backend == Backend::kPython) {
    return known != nullptr && !known->python.empty() ? std::string(known->python)
                                                      : fmt::format("chaos_{}", word);
  }
  if (known == nullptr) return std::string(word);
  return std::string(backend == Backend::kFake ? known->fake : known->sim);
}

}  // namespace keelback::chaos
