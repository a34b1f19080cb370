// What a test may not leave behind in its own process: a descriptor, a child, a thread, a mapping
// of shared memory, a name in /dev/shm. Made before the pool and asked after its end.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace keelback::test {

class Leaks {
 public:
  Leaks();
  // What is there now and was not when this was made, one line each. A thread or a child that is
  // about to end is waited for, that long.
  std::vector<std::string> found(std::chrono::nanoseconds patience) const;
  // Fails the test for each of them.
  void expect_none() const;

 private:
  std::vector<std::string> before_;  // sorted
};

}  // namespace keelback::test
