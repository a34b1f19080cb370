// The library that counts allocations, by itself: loaded here, not in front of anything.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/sanitizer.h"

namespace keelback::bench {
namespace {

class AllocationCounter : public testing::Test {
 protected:
  void SetUp() override {
    if (!kSanitizer.empty()) GTEST_SKIP() << "a sanitizer has a malloc of its own";
    library_ = ::dlopen(KEELBACK_ALLOCATIONS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << ::dlerror();
    count_ = function<std::uint64_t()>("keelback_allocations");
  }
  template <class Signature>
  Signature* function(const char* name) {
    auto* found = reinterpret_cast<Signature*>(::dlsym(library_, name));
    EXPECT_NE(found, nullptr) << name;
    return found;
  }
  std::uint64_t count() const { return count_(); }

 private:
  void* library_ = nullptr;
  std::uint64_t (*count_)() = nullptr;
};

// Goal: exact, whichever way memory is asked for; and it is memory that libc takes back.
TEST_F(AllocationCounter, CountsEveryWayToAllocateOnce) {
  const std::uint64_t before = count();
  void* memory = function<void*(std::size_t)>("malloc")(100);
  EXPECT_EQ(count() - before, 1u);
  memory = function<void*(void*, std::size_t)>("realloc")(memory, 5000);
  EXPECT_EQ(count() - before, 2u);
  std::memset(memory, 1, 5000);
  std::free(memory);
  memory = function<void*(std::size_t, std::size_t)>("calloc")(10, 10);
  EXPECT_EQ(count() - before, 3u);
  EXPECT_EQ(static_cast<char*>(memory)[99], 0);
  std::free(memory);
  for (const char* name : {"aligned_alloc", "memalign"}) {
    memory = function<void*(std::size_t, std::size_t)>(name)(256, 512);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 256, 0u) << name;
    std::free(memory);
  }
  EXPECT_EQ(count() - before, 5u);
  auto* aligned = function<int(void**, std::size_t, std::size_t)>("posix_memalign");
  EXPECT_EQ(aligned(&memory, 128, 100), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 128, 0u);
  std::free(memory);
  EXPECT_EQ(aligned(&memory, 3, 100), EINVAL);
  EXPECT_EQ(count() - before, 7u);
}

// Goal: only the process that is told to count does; what it starts finds no trace of it.
TEST_F(AllocationCounter, IsNotHandedOn) {
  const std::string path = KEELBACK_ALLOCATIONS_LIBRARY;
  if (path.contains(' ')) GTEST_SKIP() << "LD_PRELOAD takes no path with a blank";
  const std::string command =
      std::string("LD_PRELOAD='") + KEELBACK_ALLOCATIONS_LIBRARY + "' MARK=here /usr/bin/env";
  FILE* environment = ::popen(command.c_str(), "r");
  ASSERT_NE(environment, nullptr);
  std::string text(100'000, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), environment));
  EXPECT_EQ(::pclose(environment), 0);
  EXPECT_NE(text.find("MARK=here"), std::string::npos);
  EXPECT_EQ(text.find("LD_PRELOAD"), std::string::npos);
}

}  // namespace
}  // namespace keelback::bench
