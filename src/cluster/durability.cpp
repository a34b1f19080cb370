#include "cluster/durability.h"

namespace keelback::cluster {

std::vector<std::string> weaknesses(const ServerFacts& server) {
  std::vector<std::string> found;
  if (!server.fsync) {
    found.push_back("fsync is off: a crash of its machine may lose or damage what was committed.");
  }
  if (!server.full_page_writes) {
    found.push_back(
        "full_page_writes is off: a crash of its machine may damage what was committed.");
  }
  if (server.synchronous_commit == "off") {
    found.push_back("synchronous_commit is off: a crash may lose the last commits.");
  }
  const bool waits = server.synchronous_commit != "off" && server.synchronous_commit != "local";
  if (server.standbys > 0 && (server.synchronous_standbys == 0 || !waits)) {
    found.push_back("Its replicas are asynchronous: a failover may lose the last commits.");
  }
  return found;
}

}  // namespace keelback::cluster
