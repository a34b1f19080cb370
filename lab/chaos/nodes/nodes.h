// The nodes of a cluster under test, and the database that they share: what faults do to them.
//
// Threads: all methods from any thread; one caller at a time for each node. What blocks says so.
#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"
#include "chaos/evidence.h"

namespace keelback::chaos {

// What a node speaks over; both ends live on while it is cut, and hear nothing.
enum class NodeLink : std::uint8_t {
  kDatabase,  // between this node and the database
  kPeers,     // to this node, from the others
};

class Nodes {
 public:
  virtual ~Nodes() = default;

  virtual std::string name_of(std::uint32_t node) const = 0;  // "a", "b", …
  // Whether it serves sessions, as it said last.
  virtual bool serves(std::uint32_t node) const = 0;

  virtual Evidence kill(std::uint32_t node) = 0;  // SIGKILL to the daemon, not to its workers
  // SIGTERM. Blocks until it has ended.
  virtual Evidence drain(std::uint32_t node) = 0;
  // A new daemon of this name. Blocks until it serves sessions.
  virtual Evidence start_again(std::uint32_t node) = 0;
  // SIGSTOP to the daemon; the warden resumes it a little after `at_most`.
  virtual Evidence pause(std::uint32_t node, Duration at_most) = 0;
  virtual Evidence resume(std::uint32_t node) = 0;
  virtual Evidence cut(std::uint32_t node, NodeLink link) = 0;
  virtual Evidence mend(std::uint32_t node, NodeLink link) = 0;
  // Bytes that have waited at it since the run began.
  virtual std::uint64_t held(std::uint32_t node, NodeLink link) = 0;

  virtual Evidence stop_database() = 0;   // Blocks until it has ended and all connections broke
  virtual Evidence start_database() = 0;  // Blocks until it takes connections
};

}  // namespace keelback::chaos
