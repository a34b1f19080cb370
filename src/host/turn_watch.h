// How long the event loop of a worker has not turned, and which call keeps it from turning: what
// the marks and /proc have shown, look by look. Pure.
#pragma once

#include "base/id.h"
#include "base/time.h"
#include "os/process.h"

namespace keelback::host {

class TurnWatch {
 public:
  struct Look {
    Time now;
    Duration planned{0};   // after so long this look was to come; much later: we were held up
    Time turn;             // when the present one began; the epoch: the loop waits for events
    CallId call;           // whose code the loop's thread runs; 0: nobody's, or it is unknown
    os::ProcessorUse use;  // of that thread
    char state = '?';      // of that thread, as in /proc
  };
  struct Seen {
    // Since the present turn began, without time in which the thread was ready and had no
    // processor, was stopped, or nobody looked.
    Duration lag{0};
    Duration steady{0};  // for so long every look at this turn has shown the same call
    bool runs = false;   // half of the time since the look before, the thread has had a processor
  };

  Seen look(const Look& look);

 private:
  Look last_;            // now is the epoch: there was none
  Duration excused_{0};  // of the present turn
  Time same_since_;      // the first look that has shown this turn and this call
};

}  // namespace keelback::host
