// The one lock of a host. What it guards lies in several objects: the core and the call table, the
// records of calls, the records of workers. All of them are annotated with one word, `host_state`:
// clang checks that whoever touches them holds the lock of a host. A process may have several hosts
// (each has a lock), but they share no object, so one word is enough.
#pragma once

#include <mutex>

#include "os/mutex.h"

namespace keelback::host {

// Stands for everything that a host's lock guards, in annotations only.
class KEELBACK_TS(capability("the state of a host")) HostState {};
inline HostState host_state;

class HostLock {
 private:
  friend class Locked;
  std::mutex mutex_;
};

class KEELBACK_TS(scoped_lockable) Locked {
 public:
  explicit Locked(HostLock& lock) KEELBACK_TS(acquire_capability(host_state)) : lock_(lock) {
    lock_.mutex_.lock();
  }
  ~Locked() KEELBACK_TS(release_capability()) { lock_.mutex_.unlock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  HostLock& lock_;
};

}  // namespace keelback::host
