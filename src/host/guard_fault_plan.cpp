// Linked into the guard that the tests use: fails the guard's nth system call, as the environment
// says. Only the first guard of a test fails; whoever replaces it finds the mark file and does not.
//   KEELBACK_FAULT_NTH=n  KEELBACK_FAULT_MARK=path: made by the guard that fails, holds the number
//   of system calls that it has made when it ends; without a path every guard fails
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "os/result.h"

namespace {

class Plan {
 public:
  Plan() {
    const char* nth = std::getenv("KEELBACK_FAULT_NTH");
    const char* mark = std::getenv("KEELBACK_FAULT_MARK");
    if (nth == nullptr) return;
    if (mark != nullptr) {
      const int made = ::open(mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
      if (made < 0) return;
      ::close(made);
      mark_ = mark;
    }
    keelback::os::fault::fail_nth(std::strtol(nth, nullptr, 10), EAGAIN);
  }
  ~Plan() {
    if (mark_.empty()) return;
    const std::string passed = std::to_string(keelback::os::fault::passed());
    const int mark = ::open(mark_.c_str(), O_WRONLY | O_CLOEXEC);
    [[maybe_unused]] const auto put = ::write(mark, passed.data(), passed.size());
    ::close(mark);
  }

 private:
  std::string mark_;
};
Plan plan;

}  // namespace
