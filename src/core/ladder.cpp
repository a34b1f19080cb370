#include "core/ladder.h"

#include <algorithm>

#include "base/check.h"

namespace keelback::core {
namespace {

constexpr int percent(Rung rung) {
  switch (rung) {
    case Rung::kNone:
    case Rung::kCancel:
      return 0;
    case Rung::kInterrupt:
      return 60;
    case Rung::kDump:
      return 80;
    case Rung::kKill:
      return 90;
    case Rung::kGiveUp:
      return 100;
  }
  return 100;
}

}  // namespace

Rung next_rung(Rung rung) {
  CHECK(rung != Rung::kGiveUp);
  return static_cast<Rung>(static_cast<std::uint8_t>(rung) + 1);
}

Time rung_due(Rung rung, Time deadline, Duration grace) {
  return deadline + grace / 100 * percent(rung);
}

Time paced_rung_due(Rung rung, Time deadline, Duration grace, Time climbed) {
  return std::max(rung_due(rung, deadline, grace), climbed + grace / 20);
}

}  // namespace keelback::core
