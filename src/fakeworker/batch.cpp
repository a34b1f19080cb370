#include "fakeworker/batch.h"

#include <algorithm>

namespace keelback::fakeworker {

BatchRun::BatchRun(Place has, std::uint64_t batch, std::vector<Asked> of)
    : AloneCall(has, Asked{.call = batch, .function = of.front().function}), calls(std::move(of)) {}

bool BatchRun::told_to_cancel() {
  return std::ranges::all_of(
      calls, [this](const Asked& each) { return place.marks.cancelled(each.row, each.call); });
}

}  // namespace keelback::fakeworker
