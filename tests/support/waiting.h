// How long tests wait, and for what: always for a condition that is observed, never for a time.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "base/settings.h"

namespace keelback::test {

// What every bound is multiplied by: 4 with KEELBACK_TIMEOUTS=extended, for slow machines.
int stretch();

// All, or the one that KEELBACK_BACKEND names.
std::vector<Backend> backends();

// True as soon as `condition` holds; false if it does not within `limit`, stretched.
bool eventually(const std::function<bool()>& condition,
                std::chrono::nanoseconds limit = std::chrono::seconds(20));

}  // namespace keelback::test
