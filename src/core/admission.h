// Whether a call comes in. Every check that can refuse stands before the first change of state.
//
// Owns: nothing.
// Asks: everybody who may refuse a call; Waiting takes the calls that come in.
#pragma once

#include <optional>

#include "core/ending.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/function_table.h"
#include "core/quarantine.h"
#include "core/session_table.h"

namespace keelback::core {

class Calls;
class Keys;
class Nesting;
class Readiness;
class Runs;
class Sessions;
class Waiting;
class Workers;

class Admission {
 public:
  Admission(Frame& frame, const Quarantine& quarantine, const Readiness& readiness, Calls& calls,
            Keys& keys, Waiting& waiting, Runs& runs, Sessions& sessions, const Workers& workers,
            const Nesting& nesting)
      : frame_(frame),
        quarantine_(quarantine),
        readiness_(readiness),
        calls_(calls),
        keys_(keys),
        waiting_(waiting),
        runs_(runs),
        sessions_(sessions),
        workers_(workers),
        nesting_(nesting) {}
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  void on(const CallSubmitted& event);

 private:
  std::optional<Ending> check_request(const CallSubmitted& event, Function*& function);
  std::optional<Ending> check_attachments(const CallSubmitted& event);
  std::optional<Ending> check_function(const CallSubmitted& event, Function& function);
  std::optional<Ending> check_session(const CallSubmitted& event, Function& function,
                                      Session*& session);
  std::optional<Ending> check_live_session(const CallSubmitted& event, Function& function,
                                           Session& session);
  std::optional<Ending> check_queue(const CallSubmitted& event, Function& function,
                                    const Session* session);
  void stand_for(Call& probe, const CallSubmitted& event, Function& function,
                 const Session* session) const;
  void refuse(const CallSubmitted& event, Ending&& refusal);
  void accept(const CallSubmitted& event, Function& function, Session* session);

  Frame& frame_;
  const Quarantine& quarantine_;
  const Readiness& readiness_;
  Calls& calls_;
  Keys& keys_;
  Waiting& waiting_;
  Runs& runs_;
  Sessions& sessions_;
  const Workers& workers_;
  const Nesting& nesting_;
};

}  // namespace keelback::core
