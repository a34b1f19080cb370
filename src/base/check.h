// Two ways to say that a condition never occurs. CHECK: we have a proof. If the proof is wrong, the
// process stops before more is damaged, in release builds too. UNEXPECTED: we believe it. If the
// condition occurs, it is counted and reported, and the code takes the safe path. Use neither for
// something that a peer, a worker, a user or a file can cause.
#pragma once

#include <cstdint>

namespace keelback {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

// How often UNEXPECTED conditions were met in this process.
std::uint64_t unexpected_count();
// Tests and the simulator turn this on: an UNEXPECTED condition then aborts like a CHECK.
void set_unexpected_fatal(bool fatal);
// Counts and reports; returns true so that the macro reads as a condition.
bool unexpected(const char* condition, const char* file, int line);

}  // namespace keelback

#define CHECK(condition) \
  (static_cast<bool>(condition) ? void() : ::keelback::check_failed(#condition, __FILE__, __LINE__))
// if (UNEXPECTED(x)) return safe_path();
#define UNEXPECTED(condition) \
  (static_cast<bool>(condition) && ::keelback::unexpected(#condition, __FILE__, __LINE__))
