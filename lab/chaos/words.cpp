#include "chaos/words.h"

#include <fmt/format.h>

#include <algorithm>

namespace keelback::chaos {

const std::vector<Word>& words() {
  using enum Word::Takes;
  static const std::vector<Word> all = {
      {.name = "echo", .sim = "echo", .fake = "echo", .takes = kText, .in_mix = true},
      {.name = "chain", .sim = "counter", .fake = "counter", .takes = kToken, .in_mix = true},
      {.name = "sleep", .sim = "sleep", .fake = "sleep", .takes = kMilliseconds, .in_mix = true},
      {.name = "spin", .sim = "spin", .fake = "spin", .takes = kMilliseconds, .in_mix = true},
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
