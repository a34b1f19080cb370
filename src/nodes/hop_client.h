// Sends calls to the nodes that own their sessions. To each node it keeps some connections, and
// uses them again.
//
// A call is sent once. Only if not a byte of it was taken (the node had closed a connection that
// had been idle) it goes out again, on a new connection.
//
// Everything happens on the thread of the loop: its methods are called there, and its callbacks
// run there, never from within send(). The loop must outlive it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/time.h"
#include "keelback/call.h"
#include "keelback/outcome.h"
#include "nodes/hop_text.h"
#include "nodes/reply_reader.h"

namespace keelback::nodes {

struct HopResult {
  enum class End : std::uint8_t {
    kOutcome,       // `outcome` is the call's. A node that refused the request (another
                    // cluster.token) makes it kNotReady, effect none
    kNotOwner,      // the node does not own the session. Effect none
    kNotConnected,  // the node cannot have read the whole request. Effect none
    kBroken,        // the request is out, and no whole answer came. Effect maybe
  };
  End end = End::kBroken;
  Outcome outcome;  // of kOutcome
  std::string why;  // of all others: what happened, as a part of a sentence
};

class HopClient {
 public:
  struct Options {
    std::size_t connections_max = 64;  // to one node; each carries one call
    std::size_t waiting_max = 1024;    // calls that wait for a connection to one node
    Duration connect_timeout = std::chrono::seconds(1);  // finding its address included
    // Shorter than the server's, so that it seldom closes what we are about to use.
    Duration idle_timeout = std::chrono::seconds(30);
    Duration cancel_again = std::chrono::milliseconds(100);
    ReplyReader::Limits reply;
  };
  using HopId = std::uint64_t;  // never 0, never used again
  using OnItem = std::move_only_function<void(std::string&& item)>;
  using OnResult = std::move_only_function<void(HopResult&& result)>;

  HopClient(boost::asio::io_context& loop, Sender sender, Options options);
  HopClient(boost::asio::io_context& loop, Sender sender);
  // Closes all connections. Calls that are under way hear nothing.
  ~HopClient();
  HopClient(const HopClient&) = delete;
  HopClient& operator=(const HopClient&) = delete;

  // url: cluster.advertise of the node. call.deadline is what is left of it now; without one the
  // owner takes its own. `limit`: when to give up (kBroken, or kNotConnected before it was sent);
  // it should be later than the deadline, because the owner answers at it. on_item: a stream; the
  // first 16 items come unasked, grant() allows more. `done` is called exactly once.
  HopId send(const std::string& url, Call call, std::optional<Duration> limit, OnItem on_item,
             OnResult done);
  // Asks the node to end the session, once.
  HopId end_session(const std::string& url, std::string session, Duration limit, OnResult done);
  void grant(HopId hop, std::uint32_t items);
  // Asks the owner to cancel the call, which then ends as it ends. One that was not sent yet ends
  // as kCancelled, effect none. Unknown: nothing happens.
  void cancel(HopId hop);
  // The hop ends as kBroken, or as kNotConnected if it was not sent. `why`: a part of a sentence.
  void give_up(HopId hop, std::string why);
  // The node is gone for good (it was retired): all calls to it end as kNotConnected or kBroken.
  void forget(const std::string& url);

  // For status and tests.
  struct Use {
    std::size_t connections = 0;  // those being made and idle ones included
    std::size_t idle = 0;
    std::size_t waiting = 0;
  };
  Use use(const std::string& url) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with what waits in the loop
};

}  // namespace keelback::nodes
