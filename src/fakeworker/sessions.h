// The sessions of a worker: their state stays here until the supervisor ends them.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fakeworker/answer.h"
#include "wire/messages.h"

namespace keelback::fakeworker {

// Belongs to the call of it that runs, else to the main thread.
struct Session {
  std::string id;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t counter = 0;
  bool opened = false;                 // a call of it has started here
  bool spoilt = false;                 // its state cannot be saved
  std::optional<std::uint64_t> given;  // the count that it is still to be restored from

  // A call of it starts.
  void open();
  // Its state as @keelback.snapshot would write it, or why it cannot; at most `most` bytes.
  State state(std::uint64_t most) const;
};

// Shared by the table and by the call that runs.
using SessionPtr = std::shared_ptr<Session>;

// Main thread only, but for ended().
class Sessions {
 public:
  // The session of the call; null: it has none. An error: the call ends with that.
  std::expected<SessionPtr, Raised> of(const wire::CallMessage& message);
  // RESTORE: what the call that follows is restored from.
  void give(std::uint64_t call, const wire::RestoreMessage& message);
  void end(const wire::SessionEndMessage& message);
  // The one with this name, and of this birth; null: there is none.
  SessionPtr find(std::string_view id, std::uint64_t birth) const;

  // Those that ended in this worker, and why; the latest ones. Any thread.
  std::vector<std::pair<std::string, std::string>> ended() const;

 private:
  void note_end(const std::string& id, const Session& session, std::string_view reason);

  std::map<std::string, SessionPtr, std::less<>> sessions_;
  std::optional<std::pair<std::uint64_t, std::uint64_t>> given_;  // the last RESTORE: call, count
  mutable std::mutex ended_mutex_;
  std::vector<std::pair<std::string, std::string>> ended_;  // bounded
};

}  // namespace keelback::fakeworker
