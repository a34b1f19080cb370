// The calls of a batch while their function runs once for all of them (docs/protocol.md, Batches).
// It runs on the main thread, as a call that runs alone, and has the words of page 0.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "fakeworker/alone.h"

namespace keelback::fakeworker {

class BatchRun final : public AloneCall {
 public:
  // `batch` names it. Requires: calls is not empty, all are of one function, and all have begun.
  BatchRun(Place has, std::uint64_t batch, std::vector<Asked> calls);

  std::vector<Asked> calls;

 private:
  bool told_to_cancel() override;  // nobody waits for any of its calls any more
};

}  // namespace keelback::fakeworker
