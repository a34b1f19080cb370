#include "fakeworker/sessions.h"

#include <cstddef>

#include "base/json_text.h"

namespace keelback::fakeworker {
namespace {

constexpr std::size_t kEndedMax = 1000;
constexpr std::string_view kReasons[] = {"expired", "ended", "lost", "evicted", "drained", "moved"};

Raised not_here(std::string message) {
  return {wire::ErrorKind::kError, "keelback.SessionNotHere", std::move(message)};
}

}  // namespace

void Session::open() {
  opened = true;
  if (given) counter = *std::exchange(given, std::nullopt);
}

State Session::state(std::uint64_t most) const {
  if (!opened && !given) return {wire::StateFormat::kNone, "the session did not open"};
  if (spoilt) return {wire::StateFormat::kNone, "its state is of type object"};
  std::string json = Json({{"calls", given ? *given : counter}}).dump();
  if (json.size() > most) {
    return {wire::StateFormat::kNone, "it has " + std::to_string(json.size()) +
                                          " bytes; sessions.snapshot_max is " +
                                          std::to_string(most)};
  }
  return {wire::StateFormat::kJson, std::move(json)};
}

std::expected<SessionPtr, Raised> Sessions::of(const wire::CallMessage& message) {
  if (message.session.empty()) return nullptr;
  if (!message.opens && !message.restores) {
    SessionPtr found = find(message.session, message.birth);
    if (found != nullptr && found->epoch == message.epoch) return found;
    return std::unexpected(
        not_here("session '" + std::string(message.session) + "' is not open here in this epoch"));
  }
  std::optional<std::uint64_t> given;
  if (message.restores) {
    if (!given_ || given_->first != message.call) {
      return std::unexpected(not_here("the call came without the state that it is to restore"));
    }
    given = std::exchange(given_, std::nullopt)->second;
  }
  const auto [place, added] = sessions_.try_emplace(std::string(message.session));
  if (!added) note_end(place->first, *place->second, "lost");  // it was in the way
  place->second = std::make_shared<Session>(
      Session{.id = place->first, .birth = message.birth, .epoch = message.epoch, .given = given});
  return place->second;
}

void Sessions::give(std::uint64_t call, const wire::RestoreMessage& message) {
  const Json state = parse_json<Json>(message.state);
  const bool ours = state.is_object() && state.contains("calls") && state["calls"].is_number();
  given_ = {call, ours ? state["calls"].get<std::uint64_t>() : 0};
}

void Sessions::end(const wire::SessionEndMessage& message) {
  const auto found = sessions_.find(message.session);
  if (found == sessions_.end() || found->second->birth != message.birth) return;
  note_end(found->first, *found->second, kReasons[static_cast<std::size_t>(message.reason)]);
  sessions_.erase(found);
}

SessionPtr Sessions::find(std::string_view id, std::uint64_t birth) const {
  const auto found = sessions_.find(id);
  return found == sessions_.end() || found->second->birth != birth ? nullptr : found->second;
}

std::vector<std::pair<std::string, std::string>> Sessions::ended() const {
  const std::lock_guard lock(ended_mutex_);
  return ended_;
}

// What an end hook would be told: a session whose opening no call got to is not ended either.
void Sessions::note_end(const std::string& id, const Session& session, std::string_view reason) {
  if (!session.opened) return;
  const std::lock_guard lock(ended_mutex_);
  if (ended_.size() >= kEndedMax) ended_.erase(ended_.begin());
  ended_.emplace_back(id, reason);
}

}  // namespace keelback::fakeworker
