// A session. Calls with the same id run in order and share one Python state. The session opens with
// its first call. It ends by end(), after sessions.idle_ttl without a call, or when its worker
// dies; the next call then says so. A Session object holds only the id: two objects with the same
// id are the same session, and the destructor ends nothing.
//
// Any thread may use it. It must not outlive its Pool (moving the Pool is fine).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "keelback/call.h"
#include "keelback/result.h"
#include "keelback/stream.h"

namespace keelback {

struct CallHandle;
struct Submission;
struct PoolImpl;

class Session {
 public:
  const std::string& id() const { return id_; }

  // What ties the session to its worker. Only its first call counts. Default: sessions.mode.
  Session& affinity(Affinity mode);
  // From now on a call ends as stale_epoch if the session's birth or epoch is another one (Reply).
  Session& expect(Fence fence);

  // As in Pool, with this session.
  Result call(Call call);
  Result call(std::string function, std::string payload = "[]");
  Submission submit(Call call);
  CallHandle submit(Call call, std::move_only_function<void(Result)> done);
  Stream stream(Call call);
  // False: there was no such session.
  bool end();

  Session(PoolImpl& pool, std::string id);  // for Pool

 private:
  Call mine(Call call) const;

  PoolImpl* pool_;  // borrowed
  std::string id_;
  std::optional<Affinity> affinity_;
  std::optional<Fence> fence_;
};

}  // namespace keelback
