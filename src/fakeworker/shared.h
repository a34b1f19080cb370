// Calls that run beside others, each in a thread of its own (docs/protocol.md, Shared calls).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "fakeworker/running.h"

namespace keelback::fakeworker {

class SharedCall final : public Running {
 public:
  using Running::Running;

  // ---- any thread
  void cancel();     // CANCEL came
  void interrupt();  // INTERRUPT came
  void give(std::uint64_t credit);
  void tell(Heard outcome);
  bool told();  // either came

 private:
  bool told_to_cancel() override;
  bool told_to_interrupt() override;
  void rest_until(Clock::time_point end) override;
  std::uint64_t await_credit() override;
  std::optional<Heard> await_outcome(std::uint64_t request) override;
  void ring(std::unique_lock<std::mutex> lock);

  std::mutex mutex_;
  std::condition_variable rung_;
  bool news_ = false;  // since it has last waited
  bool cancel_ = false;
  bool interrupt_ = false;
  std::uint64_t given_ = 0;     // given and not yet taken
  std::optional<Heard> heard_;  // the last one
};

// Shared by its thread and by the table, through which it is told things.
using SharedPtr = std::shared_ptr<SharedCall>;

// Those that run. Any thread.
class SharedCalls {
 public:
  // False: its supervisor breaks the protocol. Its id, its row or its session is in use, or there
  // are as many calls of its function as can be.
  [[nodiscard]] bool add(const SharedPtr& call);
  // Before its answer is sent: with that, its row and its id are free.
  void remove(const SharedCall& call);
  bool none() const;
  bool uses(const SessionPtr& session) const;

  // Of a call that does not run: nothing happens.
  void cancel(std::uint64_t call);
  void interrupt(std::uint64_t call);
  void give(std::uint64_t call, std::uint64_t credit);
  void tell(std::uint64_t call, Heard outcome);

 private:
  SharedPtr find(std::uint64_t call) const;

  mutable std::mutex mutex_;
  std::map<std::uint64_t, SharedPtr> calls_;
};

}  // namespace keelback::fakeworker
