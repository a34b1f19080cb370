// "Did you mean …": finds the known word that is most like an unknown one.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace keelback {

// How many steps turn one word into the other; a step adds, removes or changes a letter or swaps
// two neighbours (optimal string alignment). Capital and small ASCII letters are equal. O(|a| *
// |b|); only the first 128 bytes of a word count.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The nearest of `known`, the first one of several. Empty if `known` is empty.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known);

// The same, but empty if the nearest word is so different that it would only confuse.
std::string_view plausible(std::string_view word, std::span<const std::string_view> known);

// "; did you mean serve?", the end of a sentence about `word`; empty if no known word is plausible.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> known);

}  // namespace keelback
