// The physical floor: one blocking round trip over a socket pair to a bare Python loop that decodes
// and encodes JSON with the standard library. Frozen: history is kept as ratios to it, so that
// another machine or a slow day divides out.
#pragma once

#include <sys/types.h>

#include <expected>
#include <string>
#include <vector>

#include "base/time.h"
#include "os/fd.h"

namespace keelback::bench {

class ReferenceEcho {
 public:
  static std::expected<ReferenceEcho, std::string> start(const std::string& python);
  ReferenceEcho(ReferenceEcho&& other) noexcept;
  ~ReferenceEcho();
  ReferenceEcho& operator=(ReferenceEcho&&) = delete;

  // Round trips for `length`; each one's time, ascending. Blocks.
  std::vector<Duration> run(Duration length);

 private:
  ReferenceEcho() = default;
  os::Fd socket_;
  pid_t pid_ = -1;
};

}  // namespace keelback::bench
