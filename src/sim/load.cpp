#include "sim/load.h"

#include <memory>
#include <utility>

#include "base/check.h"

namespace keelback::sim {

OpenLoad::OpenLoad(Simulation& simulation, LoadSettings settings, std::uint64_t seed)
    : simulation_(simulation), settings_(std::move(settings)), prng_(seed) {
  CHECK(!settings_.mix.empty() && settings_.rate > 0);
  for (const auto& kind : settings_.mix) weight_total_ += kind.weight;
}

void OpenLoad::on_outcome(std::function<void(CallId, const Call&, const Outcome&)> hear) {
  hear_ = std::move(hear);
}

void OpenLoad::start() {
  end_ = simulation_.now() + settings_.length;
  simulation_.at(simulation_.now(), [this] { arrive(); });
}

Call OpenLoad::draw(bool& stream) {
  std::uint64_t at = prng_.below(weight_total_);
  for (const auto& kind : settings_.mix) {
    if (at >= kind.weight) {
      at -= kind.weight;
      continue;
    }
    Call call = kind.call;
    if (kind.in_session && settings_.sessions > 0) {
      call.session = "s" + std::to_string(prng_.below(settings_.sessions));
    }
    stream = kind.stream;
    return call;
  }
  return settings_.mix.front().call;
}

void OpenLoad::arrive() {
  if (simulation_.now() >= end_) return;
  bool stream = false;
  Call call = draw(stream);
  ++submitted_;
  // Only who listens pays for the copy; the id is known after submit, before any delivery.
  struct Ticket {
    CallId id;
    Call call;
  };
  auto ticket = std::make_unique<Ticket>();
  Ticket* filled = ticket.get();
  if (hear_) ticket->call = call;
  auto done = [this, ticket = std::move(ticket)](Outcome&& outcome) {
    ++ended_;
    ++outcomes_[static_cast<int>(outcome.kind)];
    if (hear_) hear_(ticket->id, ticket->call, outcome);
  };
  const CallId id = stream ? simulation_.stream(
                                 std::move(call), [](std::string&&) {}, std::move(done))
                           : simulation_.submit(std::move(call), std::move(done));
  filled->id = id;
  if (settings_.cancel > 0 && prng_.chance(settings_.cancel)) {
    const auto within = static_cast<std::uint64_t>(settings_.cancel_within.count()) + 1;
    simulation_.at(simulation_.now() + Duration(static_cast<Duration::rep>(prng_.below(within))),
                   [this, id] { simulation_.cancel(id); });
  }
  // Uniform gaps with the mean 1 / rate: integers, so that a seed means the same everywhere.
  const auto gap = static_cast<std::uint64_t>(2e9 / settings_.rate) + 1;
  simulation_.at(simulation_.now() + Duration(static_cast<Duration::rep>(prng_.below(gap))),
                 [this] { arrive(); });
}

}  // namespace keelback::sim
