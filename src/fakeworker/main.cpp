// keelback-fakeworker --app SCRIPT --worker SLOT.GENERATION: a worker without Python.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "fakeworker/worker.h"
#include "wire/process.h"

namespace keelback::fakeworker {
namespace {

[[noreturn]] void refuse(const char* what) {
  std::fprintf(stderr, "keelback-fakeworker: %s\n", what);
  ::_exit(2);
}

// Ties this process and its group to the pipe: when its last write end closes, the kernel kills,
// whatever runs. Owner and signal belong to an open file description, so each needs its own.
void arm_lifeline() {
  if (::getpgrp() != ::getpid() && ::setpgid(0, 0) != 0) refuse("cannot lead a process group");
  const std::string path = "/proc/self/fd/" + std::to_string(wire::kLifelineFd);
  int last = -1;
  for (const pid_t owner : {::getpid(), -::getpgrp()}) {
    last = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (last < 0 || ::fcntl(last, F_SETOWN, owner) != 0 || ::fcntl(last, F_SETSIG, SIGKILL) != 0 ||
        ::fcntl(last, F_SETFL, O_NONBLOCK | O_ASYNC) != 0) {
      refuse("descriptor 6 is no lifeline");
    }
  }
  char byte = 0;
  if (::read(last, &byte, 1) == 0) ::_exit(1);  // it closed before we listened
}

int run(int argc, char** argv) {
  std::string app;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    if (i + 1 >= argc) refuse("every option has a value");
    if (option == "--app") {
      app = argv[i + 1];
    } else if (option == "--worker") {
      ::setenv("KEELBACK_WORKER", argv[i + 1], 1);
    } else if (option != "--expose") {
      refuse("usage: keelback-fakeworker --app SCRIPT --worker SLOT.GENERATION (by a supervisor)");
    }
  }
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);  // it crashes on purpose
  arm_lifeline();
  for (const int fd : {wire::kDataFd, wire::kControlFd, wire::kLifelineFd}) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  Worker worker(std::move(app), wire::kDataFd, wire::kControlFd, wire::kMarksFd);
  worker.run();
}

}  // namespace
}  // namespace keelback::fakeworker

int main(int argc, char** argv) { return keelback::fakeworker::run(argc, argv); }
