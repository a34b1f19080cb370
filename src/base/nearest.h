// "Did you mean …": the known word nearest to one that is not known.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace keelback {

// How many single letters must be put in, left out, changed, or swapped with a neighbour to make
// one word of the other (optimal string alignment). O(|a| * |b|); words are cut at 128 bytes.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The nearest of `known`; the first of equals; empty if `known` is.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known);

// The same, but empty if even the nearest is so far off that naming it would only confuse.
std::string_view plausible(std::string_view word, std::span<const std::string_view> known);

// "; did you mean serve?", the end of a sentence about `word`; empty if no known word is plausible.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> known);

}  // namespace keelback
