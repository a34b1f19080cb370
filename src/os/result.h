// The result of a system call: a value, or the errno. Each system call of the host goes through a
// thin function of os/ that begins with fault::next(). So a test can make the 1st, 2nd, … call fail
// until a run has no more of them.
#pragma once

#include <cerrno>
#include <expected>
#include <source_location>
#include <string>
#include <system_error>

namespace keelback::os {

template <typename T>
using Result = std::expected<T, std::error_code>;

// The error `number`, an errno value.
inline std::unexpected<std::error_code> failure(int number) {
  return std::unexpected(std::error_code(number, std::system_category()));
}
// The error of the system call that has just failed.
inline std::unexpected<std::error_code> last_failure() { return failure(errno); }

namespace fault {
// The nth system call from now (1 = the next) fails with `error`; 0 disarms. Process wide, for
// tests; costs one relaxed load where it is not armed.
void fail_nth(long nth, int error);
// How many calls have passed since fail_nth.
long passed();
// The wrapper that was made to fail; empty: none was.
std::string where();
// 0, or the errno with which the calling wrapper must fail.
int next(std::source_location wrapper = std::source_location::current());
}  // namespace fault

}  // namespace keelback::os
