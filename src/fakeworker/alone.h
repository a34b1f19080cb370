// A call that runs while no other does. It runs on the main thread, where SIGINT interrupts it.
#pragma once

#include "fakeworker/running.h"

namespace keelback::fakeworker {

class AloneCall : public Running {
 public:
  using Running::Running;

 private:
  bool told_to_cancel() override;
  bool told_to_interrupt() override;
  void rest_until(Clock::time_point end) override;
  std::uint64_t await_credit() override;
  std::optional<Heard> await_outcome(std::uint64_t request) override;
  bool await_frames();
};

}  // namespace keelback::fakeworker
