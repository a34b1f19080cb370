// A daemon of the laboratory's own, beside the pool under test: the same application behind
// `keelback serve`, there to be killed, or to be pestered by clients that behave badly.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/settings.h"
#include "chaos/undo.h"

namespace keelback::chaos {

struct DaemonSetup {
  Settings settings;  // of the run: backend, workers, interpreter are taken
  std::string app;    // the user's; empty: the laboratory's functions alone
  // Called with the record that kills each daemon, before anything else happens to it.
  std::function<bool(const Undo&)> arm;
};
struct DaemonSeen {
  std::string proof;              // what was seen, in words
  std::string failure;            // why it proves nothing; empty: it does
  std::vector<std::string> left;  // processes that outlived it by five seconds
};
// Starts a daemon, keeps each of its workers busy in C code that holds the interpreter, SIGKILLs
// it, watches every process of its go, starts another one, and asks that one. Blocks for as long as
// that takes: seconds, at most about two minutes. Ends whatever it started.
DaemonSeen kill_a_daemon(const DaemonSetup& what);
// Starts a daemon and sends it `clients` of each kind: those that send half a request and stop,
// those that never read their large answer, those that hang up while their call runs. Meanwhile
// ordinary calls must be answered, no worker may die, and SIGTERM must end the daemon. Blocks for
// seconds.
DaemonSeen pester_a_daemon(const DaemonSetup& what, std::uint32_t clients);

}  // namespace keelback::chaos
