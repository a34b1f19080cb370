// Callers of a cluster, behind a load balancer: a call goes to one node after another, in the order
// that is given, until one takes it. A node that does not take connections, or that says that it
// ends, has not taken it. A connection that breaks later is the end of the call: nobody sends it a
// second time.
//
// Threads: all methods from any thread; `done` on the thread of `loop`, exactly once unless the
// loop ends before.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/time.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::chaos {

class Clients {
 public:
  Clients(boost::asio::io_context& loop, std::vector<std::uint16_t> ports)
      : loop_(loop), ports_(std::move(ports)) {}

  struct Answer {
    std::uint32_t node = 0;  // that took it; of a call that nobody took, the last that was asked
    bool broke = false;      // the connection broke before the answer
    Outcome outcome;         // its worker is the node's own word
  };
  // `nodes` is not empty. `limit`: without an answer for so long the call counts as broken.
  void call(Call call, std::vector<std::uint32_t> nodes, Duration limit,
            std::move_only_function<void(Answer&&)> done);

  // GET. status 0: there was no answer in time.
  struct Reply {
    int status = 0;
    std::string body;
  };
  void get(std::uint32_t node, std::string path, Duration limit,
           std::move_only_function<void(Reply&&)> done);

 private:
  boost::asio::io_context& loop_;
  const std::vector<std::uint16_t> ports_;
};

}  // namespace keelback::chaos
