// Calls that running calls make (nested calls): which of them may come in, and what becomes of them
// when their parent ends.
//
// Owns: the calls that are to be cancelled at the end of the present step.
// Asks: Runs to cancel; Waiting to end those that nothing can serve any more.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/id.h"
#include "core/call.h"
#include "core/ending.h"
#include "core/event.h"
#include "core/frame.h"

namespace keelback::core {

class Calls;
class Runs;
class Waiting;
class Workers;

class Nesting {
 public:
  Nesting(Frame& frame, Calls& calls, Waiting& waiting, Runs& runs, const Workers& workers)
      : frame_(frame), calls_(calls), waiting_(waiting), runs_(runs), workers_(workers) {}
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

  // ---- in
  // Whether the newcomer names a parent that may make it: why not.
  std::optional<Ending> check(const CallSubmitted& event) const;
  // The newcomer, for which `probe` stands, would not start at once. It is refused if it never
  // would, because everything that could serve it is held by calls that wait for such calls.
  std::optional<Ending> check_wait(const CallSubmitted& event, const Call& probe) const;

  // ---- out
  // The parent's attempt is over: nobody waits for its children any more.
  void abandon(const Call& parent);
  // The parent is to stop, and its children with it.
  void cancel_children(const Call& parent);
  // Workers, their terms or the homes of sessions have changed: nested calls that could be served
  // may not be so any more.
  void note_change() { changed_ = true; }
  // A call of the session goes to a worker, where the session stays.
  void note_home(const Session& session);
  // The end of a step: performs the cancels, and ends the nested calls that nothing can serve.
  void settle();
  bool settled() const { return to_cancel_.empty() && !changed_; }

 private:
  void recheck();

  Frame& frame_;
  Calls& calls_;
  Waiting& waiting_;
  Runs& runs_;
  const Workers& workers_;
  std::vector<CallId> to_cancel_;
  bool changed_ = false;
};

}  // namespace keelback::core
