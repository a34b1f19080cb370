// A session by name: calls with the same id meet the same Python state, in order. The session opens
// with its first call and ends by end(), by sessions.idle_ttl or by its worker's death; each call
// that it meets then says so. The handle holds nothing but the id: two of the same id are the same
// session, and dropping one ends nothing.
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

  // The mode of its first call; default: sessions.mode.
  Session& affinity(Affinity mode);
  // From now on a call is stale_epoch unless the session still is this one (Reply::birth, epoch).
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
