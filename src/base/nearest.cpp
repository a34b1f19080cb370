#include "base/nearest.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace keelback {

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 32) : c; }
bool same(char a, char b) { return lower(a) == lower(b); }

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  constexpr std::size_t kMax = 128;
  a = a.substr(0, kMax);
  b = b.substr(0, kMax);
  std::array<std::size_t, kMax + 1> two_back{}, back{}, row{};
  std::iota(back.begin(), back.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = back[j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1);
      row[j] = std::min({back[j] + 1, row[j - 1] + 1, change});
      const bool swapped = i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]);
      if (swapped) row[j] = std::min(row[j], two_back[j - 2] + 1);
    }
    two_back = back;
    back = row;
  }
  return back[b.size()];
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t best_distance = static_cast<std::size_t>(-1);
  for (const std::string_view candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string_view plausible(std::string_view word, std::span<const std::string_view> known) {
  const std::string_view best = nearest(word, known);
  const std::size_t tolerated = std::max<std::size_t>(1, std::max(word.size(), best.size()) / 3);
  return edit_distance(word, best) <= tolerated ? best : std::string_view();
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> known) {
  const std::string_view near = plausible(word, known);
  return near.empty() ? std::string() : "; did you mean " + std::string(near) + "?";
}

}  // namespace keelback
