#include "host/event_loop.h"

#include <sys/prctl.h>

#include "base/check.h"

namespace keelback::host {

EventLoop::EventLoop()
    : thread_([this] {
        ::prctl(PR_SET_NAME, "keelback-loop");
        context_.run();
      }) {}

EventLoop::~EventLoop() {
  CHECK(!on_its_thread());
  context_.stop();
  thread_.join();
}

}  // namespace keelback::host
