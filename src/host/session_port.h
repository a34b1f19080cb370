// How an engine shares its sessions with other pools: what comes from them, what goes to them, and
// when a session is over here. All of it on the thread of the engine's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/action.h"
#include "host/provider.h"
#include "keelback/outcome.h"
#include "store/store.h"

namespace keelback::host {

class SessionPort {
 public:
  using OnGone = std::move_only_function<void(const core::SessionGone& gone)>;

  virtual ~SessionPort() = default;
  // Once, before the first call. `gone` hears of sessions that were adopted or expected, each after
  // the last outcome of its calls. It must not block.
  virtual void watch(OnGone gone) = 0;
  // The session goes on here, in epoch record.epoch + 1: the store has its state under
  // record.number when it is asked for it. False: the table is full, or a session of that name is
  // open.
  [[nodiscard]] virtual bool adopt(store::Record record) = 0;
  // The call that opens this session gives it this birth.
  virtual void expect(const std::string& session, std::uint64_t birth) = 0;
  // True: no call has opened it so far, and none will do so with that birth.
  [[nodiscard]] virtual bool stop_expecting(const std::string& session) = 0;
  // From now on nested calls that name a session go to this provider, which finds out whose session
  // it is. They end with their parents as requests for host functions do. Shared with the engine.
  virtual void route_nested(std::shared_ptr<Provider> provider) = 0;
  // Another pool has the session: see core::SessionTaken. Not open: nothing happens.
  virtual void take(const std::string& session, std::uint64_t birth, const std::string& detail,
                    bool may_be_kept) = 0;
};

}  // namespace keelback::host
