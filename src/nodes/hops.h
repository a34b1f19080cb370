// How a call gets to the node that owns its session, and its outcome back. The HTTP client does it
// (hop_client.h); tests have others.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/time.h"
#include "cluster/event.h"
#include "host/driver.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::nodes {

// Thread: that of the loop, for everything.
class Hops {
 public:
  struct Ended {
    std::optional<Outcome> outcome;  // nullopt: `end` and `reason`
    cluster::HopEnd end = cluster::HopEnd::kBroken;
    std::string reason;  // one sentence
  };
  using OnEnded = std::move_only_function<void(Ended ended)>;

  virtual ~Hops() = default;
  // Sends the call once. `call.deadline` is what is left of it. With `item` the caller takes a
  // stream. `ended` is called exactly once, not from within send(). The result names the hop.
  virtual std::uint64_t send(const std::string& url, const Call& call, host::OnItem item,
                             OnEnded ended) = 0;
  // Asks the node to end the session, once. `limit`: when to give up.
  virtual std::uint64_t end_session(const std::string& url, const std::string& session,
                                    Duration limit, OnEnded ended) = 0;
  virtual void grant(std::uint64_t hop, std::uint32_t items) = 0;
  // The node was retired: nobody is told, and `ended` follows.
  virtual void give_up(std::uint64_t hop) = 0;
  // The caller has left or cancelled: the other node is told, and `ended` follows.
  virtual void cancel(std::uint64_t hop) = 0;
};

}  // namespace keelback::nodes
