#include "chaos/memory_file.h"

#include <gtest/gtest.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "chaos/lab.h"

namespace keelback::chaos {
namespace {

namespace fs = std::filesystem;

// Goal: workers append to it by its path, no disk is involved, and in the end it is a file.
TEST(MemoryFile, OthersAppendToItByItsPathAndItIsKept) {
  std::string pattern = (fs::temp_directory_path() / "keelback-memory-XXXXXX").string();
  const std::string directory = ::mkdtemp(pattern.data());
  const std::string path = directory + "/effects.log";
  std::ofstream(path) << "of an earlier run\n";
  auto file = MemoryFile::create(path);
  ASSERT_TRUE(file) << file.error();
  struct statfs where{};
  ASSERT_EQ(::statfs(path.c_str(), &where), 0);
  EXPECT_EQ(where.f_type, TMPFS_MAGIC);
  for (const char* line : {"one\n", "two\n"}) {
    const pid_t worker = ::fork();
    if (worker == 0) {
      ::execl("/bin/sh", "sh", "-c", "printf %s \"$1\" >> \"$2\"", "sh", line, path.c_str(),
              nullptr);
      ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(worker, &status, 0), worker);
    ASSERT_EQ(status, 0);
  }
  EXPECT_EQ(read_file(path).value_or(""), "one\ntwo\n");
  file->keep();
  EXPECT_FALSE(fs::is_symlink(path));
  EXPECT_EQ(read_file(path).value_or(""), "one\ntwo\n");
  fs::remove_all(directory);
}

}  // namespace
}  // namespace keelback::chaos
