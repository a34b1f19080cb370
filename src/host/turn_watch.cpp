#include "host/turn_watch.h"

#include <algorithm>
#include <chrono>

namespace keelback::host {
namespace {

// A look that comes so much later than planned says that this process was held up.
constexpr Duration kHeldUp = std::chrono::milliseconds(50);

bool is_stopped(char state) { return state == 'T' || state == 't'; }

}  // namespace

TurnWatch::Seen TurnWatch::look(const Look& look) {
  const bool first = last_.now == Time{};
  const Duration since = look.now - last_.now;
  const Duration waited = look.use.waited - last_.use.waited;
  const bool new_turn = first || look.turn != last_.turn;
  const Duration ran = look.use.ran - last_.use.ran;
  Seen seen;
  seen.runs = !first && ran * 2 >= since;
  if (new_turn) excused_ = Duration{0};
  if (new_turn || look.call != last_.call) same_since_ = look.now;
  if (first) {
    excused_ = look.now - look.turn;  // nobody has seen how it came to that
  } else if (is_stopped(look.state) || is_stopped(last_.state)) {
    excused_ += since;
  } else if (since > look.planned + kHeldUp) {
    excused_ += std::max(since - look.planned, waited);
  } else {
    excused_ += waited;
  }
  // The kernel counts a wait for a processor when it is over.
  const bool waits = look.state == 'R' && ran == Duration{0} && waited == Duration{0};
  last_ = look;
  if (look.turn == Time{}) return seen;
  const Duration excused = std::min(excused_, look.now - look.turn);
  excused_ = excused;
  const Duration waiting = waits && !first ? since : Duration{0};
  seen.lag = std::max(look.now - look.turn - excused - waiting, Duration{0});
  seen.steady = look.now - same_since_;
  return seen;
}

}  // namespace keelback::host
