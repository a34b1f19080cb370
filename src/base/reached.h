// REACHED("words"): a mark on a rare path. All marks are known before main(), so that a program
// that has run many seeds can list the paths that no seed has taken. A mark costs one relaxed
// increment each time the path is taken.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace keelback {

class ReachedMark {
 public:
  explicit ReachedMark(const char* name) : name_(name), next_(head_) { head_ = this; }
  ReachedMark(const ReachedMark&) = delete;
  ReachedMark& operator=(const ReachedMark&) = delete;
  void hit() { count_.fetch_add(1, std::memory_order_relaxed); }

  struct Count {
    std::string_view name;
    std::uint64_t times = 0;
  };
  // Of every mark in the program, by name. Thread-safe once main() runs.
  static std::vector<Count> all() {
    std::vector<Count> out;
    for (const ReachedMark* mark = head_; mark != nullptr; mark = mark->next_) {
      out.push_back({mark->name_, mark->count_.load(std::memory_order_relaxed)});
    }
    std::ranges::sort(out, {}, &Count::name);
    return out;
  }

 private:
  static inline constinit ReachedMark* head_ = nullptr;
  const char* name_;
  ReachedMark* next_;  // the list is complete when main() begins
  std::atomic<std::uint64_t> count_{0};
};

template <std::size_t N>
struct MarkName {
  constexpr MarkName(const char (&from)[N]) { std::copy_n(from, N, text); }  // NOLINT: implicit
  char text[N];
};
template <MarkName name>
inline ReachedMark reached_mark{name.text};

}  // namespace keelback

#define REACHED(name) ::keelback::reached_mark<name>.hit()
