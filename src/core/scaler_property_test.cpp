// Whatever load a pool has: its wanted size stays within its limits, grows only for calls that
// wait, and shrinks by one a second, never below what was needed within down_after.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <vector>

#include "core/scaler.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

struct Moment {
  std::uint32_t what = 0;   // 0: the limits change
  std::uint32_t later = 0;  // ms
  std::uint32_t running = 0;
  std::uint32_t waiting = 0;
  std::uint32_t waited = 0;  // ms
};
std::ostream& operator<<(std::ostream& out, const Moment& m) {
  return out << "{" << m.what << ", " << m.later << ", " << m.running << ", " << m.waiting << ", "
             << m.waited << "}";
}

rc::Gen<std::uint32_t> below(std::uint32_t most) {
  return rc::gen::inRange<std::uint32_t>(0, most);
}
rc::Gen<std::vector<Moment>> moments() {
  return rc::gen::scale(
      3.0, rc::gen::container<std::vector<Moment>>(rc::gen::build<Moment>(
               rc::gen::set(&Moment::what, below(20)), rc::gen::set(&Moment::later, below(3000)),
               rc::gen::set(&Moment::running, below(12)), rc::gen::set(&Moment::waiting, below(12)),
               rc::gen::set(&Moment::waited, below(60)))));
}

Scaler::Limits limits_of(std::uint32_t a, std::uint32_t b) {
  return {.least = a % 5,
          .most = a % 5 + 1 + b % 12,
          .up_delay = (b % 4) * 10ms,
          .down_after = (a % 3) * 2s};
}

// A constant load is needed from when it began until it ends.
struct Need {
  Time since{};
  Time until{};
  std::uint32_t workers = 0;
};

RC_GTEST_PROP(ScalerProperty, TheSizeKeepsItsPromises, ()) {
  const auto plan = *moments();
  Scaler::Limits limits = limits_of(*below(100), *below(100));
  Time now{};
  Scaler scaler(now, limits);
  std::vector<Need> needs;
  Time shrunk = now - 1h;
  std::uint32_t running = 0;
  const auto look = [&](const Scaler::Load& load) {
    const std::uint32_t before = scaler.wanted();
    scaler.look(now, load);
    const std::uint32_t after = scaler.wanted();
    RC_ASSERT(limits.least <= after);
    RC_ASSERT(after <= limits.most);
    if (after > before) RC_ASSERT(load.waiting > 0);
    if (after > before) RC_ASSERT(after <= load.up + load.waiting);
    if (after >= before) return;
    RC_ASSERT(after + 1 == before);
    RC_ASSERT(now - shrunk >= Scaler::kLeaveEvery);
    shrunk = now;
    for (const Need& need : needs) {
      // A whole window of up_delay, wherever it begins.
      const bool long_enough =
          need.until - need.since >= 2 * std::max<Duration>(limits.up_delay, 1ms);
      const bool lately =
          now - need.until <
          limits.down_after -
              std::min<Duration>(limits.down_after, 2 * std::max<Duration>(limits.up_delay, 1ms));
      RC_ASSERT(!(long_enough && lately && need.workers >= before));
    }
  };
  for (const Moment& m : plan) {
    if (m.what == 0) {
      limits = limits_of(m.running, m.waiting);
      scaler.set_limits(now, limits);
      RC_ASSERT(limits.least <= scaler.wanted());
      RC_ASSERT(scaler.wanted() <= limits.most);
      needs.clear();  // the windows begin anew
      continue;
    }
    Scaler::Load load;
    load.up = std::min(scaler.wanted(), running + m.running % 3);
    running = std::min(load.up, m.running);
    load.waiting = load.up > running ? 0 : m.waiting;
    load.waited = load.waiting > 0 ? Duration(m.waited * 1ms) : 0s;
    load.backlog = load.waiting * Scaler::kWorker;
    load.known = m.what % 2 == 0 ? load.backlog : 0;
    load.filled = (running + load.waiting) * Scaler::kWorker;
    look(load);
    needs.push_back({now, now, static_cast<std::uint32_t>(running + load.waiting)});
    // Time passes as a driver lets it: with a look whenever the scaler asks for one.
    const Time until = now + m.later * 1ms;
    for (int i = 0; i < 100'000; ++i) {
      const auto next = scaler.next();
      if (!next || *next > until) break;
      RC_ASSERT(*next > now || i < 50);
      load.waited += std::max(*next, now) - now;
      now = std::max(now, *next);
      needs.back().until = now;
      look(load);
    }
    now = until;
    needs.back().until = now;
  }
  // Left alone it comes down to its least, and asks for nothing more.
  for (int i = 0; i < 200; ++i) {
    look({});
    needs.clear();
    const auto next = scaler.next();
    if (!next) break;
    now = std::max(now, *next);
  }
  RC_ASSERT(scaler.wanted() == limits.least);
}

}  // namespace
}  // namespace keelback::core
