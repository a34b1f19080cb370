// ctest starts this with what a machine might export (CMakeLists.txt here): nothing of it is left,
// and what a test starts is given the interpreter that the tests were configured with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

namespace keelback::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string told_by(const char* command) {
  std::string out;
  FILE* pipe = ::popen(command, "r");
  char part[4096];
  while (const std::size_t n = std::fread(part, 1, sizeof part, pipe)) out.append(part, n);
  ::pclose(pipe);
  return out;
}

TEST(Environment, OfWhatATestStartsIsTheTests) {
  const std::string all = told_by("env");
  for (const char* name : {"PYTHONPATH", "PYTHONUNBUFFERED", "KEELBACK_POOL_WORKERS", "LC_ALL"}) {
    EXPECT_THAT(all, Not(HasSubstr(std::string(name) + "=")));
  }
  EXPECT_THAT(all, HasSubstr("LANG=C.UTF-8\n"));
  EXPECT_EQ(told_by("command -v python3"), std::string(KEELBACK_TEST_PYTHON_LINK) + "\n");
}

}  // namespace
}  // namespace keelback::test
