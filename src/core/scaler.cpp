#include "core/scaler.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

constexpr Duration kWindowMin = 1ms;
constexpr Duration kWindowMax = 1s;

std::uint64_t micros(Duration duration) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
}

std::uint64_t divided_up(std::uint64_t value, std::uint64_t by) { return (value + by - 1) / by; }

}  // namespace

std::uint32_t Scaler::level(std::uint64_t filled) {
  constexpr std::uint64_t kMost = UINT32_MAX;
  return static_cast<std::uint32_t>(std::min(divided_up(filled, kWorker), kMost));
}

// A peak shorter than up_delay is no need: fewer workers serve it without anybody waiting longer.
Duration Scaler::window() const {
  return std::clamp<Duration>(std::min(limits_.up_delay, limits_.down_after / 4), kWindowMin,
                              kWindowMax);
}

std::uint32_t Scaler::floor() const {
  return std::min(std::max(limits_.least, load_.failing ? 1U : 0U), limits_.most);
}

void Scaler::set_limits(Time now, Limits limits) {
  CHECK(limits.least <= limits.most);
  remember(now);
  window_since_ = now;  // windows may have another length from now on
  integral_ = 0;
  limits_ = limits;
  needed_.resize(limits.most + 1, now);
  wanted_ = std::min(wanted_, limits.most);
  want(now, limits.least);
}

void Scaler::adopt(Time now, std::uint32_t workers) { want(now, std::min(workers, limits_.most)); }

void Scaler::want(Time now, std::uint32_t workers) {
  for (; wanted_ < workers; ++wanted_) needed_[wanted_ + 1] = now;
}

void Scaler::look(Time now, const Load& load) {
  remember(now);
  load_ = load;
  grow(now, load);
  shrink(now);
}

// Takes the means of the windows that have ended. The load was constant since load_since_.
void Scaler::remember(Time now) {
  const Duration length = window();
  const Time end = window_since_ + length;
  if (now >= end) {
    integral_ += load_.filled * micros(end - load_since_);
    note_needed(end, level(integral_ / micros(length)));
    const Time last_end = end + (now - end) / length * length;
    if (last_end > end) note_needed(last_end, level(load_.filled));
    window_since_ = last_end;
    load_since_ = last_end;
    integral_ = 0;
  }
  integral_ += load_.filled * micros(now - load_since_);
  load_since_ = now;
}

void Scaler::note_needed(Time at, std::uint32_t level) {
  const std::size_t most = std::min<std::size_t>(level + std::size_t{1}, needed_.size());
  for (std::size_t n = 1; n < most; ++n) needed_[n] = std::max(needed_[n], at);
}

void Scaler::grow(Time now, const Load& load) {
  if (wanted_ < floor()) {
    change_ = {Cause::kFailing, now};
    return want(now, floor());
  }
  if (load.backlog == 0 || wanted_ == limits_.most) return;
  const bool late = load.waited >= limits_.up_delay;
  const std::uint64_t backlog = late ? load.backlog : load.known;
  const std::uint64_t beyond = backlog - std::min(backlog, load.begun);
  const bool at_once = late || load.up == 0;
  const std::uint64_t extra =
      std::min(std::max(divided_up(beyond, load.begun_by_new), std::uint64_t{at_once}),
               divided_up(load.backlog, kWorker));
  const std::uint64_t target = std::min<std::uint64_t>(load.up + extra, limits_.most);
  if (extra == 0 || target <= wanted_) return;
  const Cause cause = load.up == 0 && wanted_ == 0 ? Cause::kNobody
                      : late                       ? Cause::kWait
                                                   : Cause::kForecast;
  change_ = {cause, now, load.waiting, load.waited};
  want(now, static_cast<std::uint32_t>(target));
}

void Scaler::shrink(Time now) {
  if (wanted_ <= floor() || level(load_.filled) >= wanted_) return;
  if (now < leave_at_ || now < needed_[wanted_] + limits_.down_after) return;
  --wanted_;
  leave_at_ = now + kLeaveEvery;
  change_ = {Cause::kUnneeded, now};
}

std::optional<Time> Scaler::next() const {
  std::optional<Time> next;
  if (load_.backlog > 0 && wanted_ < limits_.most && load_.waited < limits_.up_delay) {
    next = load_since_ + (limits_.up_delay - load_.waited);
  }
  if (wanted_ > floor() && level(load_.filled) < wanted_) {
    const Time leave = std::max(leave_at_, needed_[wanted_] + limits_.down_after);
    next = next ? std::min(*next, leave) : leave;
  }
  return next;
}

std::string Scaler::why(Time now) const {
  std::string text;
  const std::string ago = describe(std::max(now - change_.at, Duration{0}));
  switch (change_.cause) {
    case Cause::kNone:
      text = wanted_ > limits_.least ? "the pool had so many before" : "pool.workers are enough";
      break;
    case Cause::kNobody:
      text = fmt::format("a call waited and no worker was up; the pool grew {} ago", ago);
      break;
    case Cause::kWait:
      text = fmt::format("{} calls waited, the first one {}; the pool grew {} ago", change_.waiting,
                         describe(change_.waited), ago);
      break;
    case Cause::kForecast:
      text = fmt::format("{} calls would have waited longer than {}; the pool grew {} ago",
                         change_.waiting, describe(limits_.up_delay), ago);
      break;
    case Cause::kFailing:
      text = "a start has failed, and one worker is tried until it succeeds";
      break;
    case Cause::kUnneeded:
      text = fmt::format("no more were needed within {}; one left {} ago",
                         describe(limits_.down_after), ago);
      break;
  }
  if (wanted_ == limits_.most) text += "; pool.workers_max is reached";
  return text;
}

}  // namespace keelback::core
