// Who reads which worker's socket, and what the workers say there.
//
// Reading (Reader in worker_process.h) has two policies. Exclusive: a dispatched call's socket is
// read by its blocked caller. Loop: the loop reads it. A caller gives its reading up when the
// answer or the end has come, or when its deadline has passed and it has heard so: then the loop
// reads on (leave_to_loop). WorkerExited is handed in only when no caller reads. So nobody ever
// takes a socket away from a thread in recv. Who must wake that thread (a death, an outcome before
// the answer) shuts the reading down and lets the thread find the end.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/call_record.h"
#include "host/channel.h"
#include "host/crew.h"
#include "host/engine.h"
#include "host/roster.h"
#include "os/epoll.h"

namespace keelback::host {

class WorkerReading {
 public:
  // The kinds of CrewNews.
  enum class News : std::uint8_t {
    kDrained,  // the socket has been read to its end; the text: how the protocol was broken, if so
    kBlocked,  // its channel holds frames that the socket did not take
    kHello,    // the text: its JSON
    kReady,
    kShares,  // it was given a shared call, and no loop was watched
  };
  struct Handlers {  // on the loop thread
    std::function<void(const WorkerPtr&, const std::string& violation)> ended;
    std::function<void(const WorkerPtr&)> broken;  // its socket takes no bytes
  };

  WorkerReading(Engine& engine, Roster& roster, Handlers handlers)
      : engine_(engine), roster_(roster), handlers_(std::move(handlers)) {}

  // ---- the loop thread
  os::Result<void> start();
  os::Result<void> add(const WorkerProcess& worker);
  void remove(const WorkerProcess& worker) { epoll_.remove(worker.channel.fd()); }
  void flush(const WorkerPtr& worker);
  void leave_loop() { epoll_watch_.reset(); }

  // ---- under the lock
  // All of a reader's packet; `received` says whether the end came with it.
  void take_all(const WorkerPtr& worker, std::vector<WorkerMessage>& messages,
                Channel::Received received, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  void hear_sharing(const WorkerPtr& worker, Effects& effects) REQUIRES(host_state) {
    hear_later(worker, News::kShares, {}, effects);
  }
  // The loop reads what an idle worker has to say.
  void read_between_calls(const WorkerPtr& worker, Effects& effects) REQUIRES(host_state);

  // ---- any thread, without the lock
  void perform(Effects& effects) EXCLUDES(host_state);
  void read_for(CallRecord& record) EXCLUDES(host_state);
  // Watches the worker's socket once. Does nothing if the worker is gone; a worker that is there
  // and cannot be watched is of no use.
  void arm(const WorkerPtr& worker, bool read, bool write);

 private:
  void prepare_asks(const WorkerProcess& worker, std::vector<WorkerMessage>& messages)
      EXCLUDES(host_state);
  bool take_answer(WorkerProcess& worker, WorkerMessage& message, CallRecord* self,
                   Effects& effects) REQUIRES(host_state);
  bool take_ask(WorkerProcess& worker, WorkerMessage& message, CallRecord* self, Effects& effects)
      REQUIRES(host_state);
  bool take_start(const WorkerPtr& worker, WorkerMessage& message, Effects& effects)
      REQUIRES(host_state);
  bool take_snapshot(WorkerProcess& worker, WorkerMessage& message, CallRecord* self,
                     Effects& effects) REQUIRES(host_state);
  bool take_checked(WorkerProcess& worker, const WorkerMessage& message, CallRecord* self,
                    Effects& effects) REQUIRES(host_state);
  void release(WorkerProcess& worker, CallRecord* self) REQUIRES(host_state);
  void end_reading_between_calls(WorkerProcess& worker, CallRecord* self) REQUIRES(host_state);
  // The caller has heard and does not wait for the answer: the loop reads it.
  void leave_to_loop(CallRecord& self, Effects& effects) REQUIRES(host_state);
  void hear_later(const WorkerPtr& worker, News news, std::string text, Effects& effects)
      REQUIRES(host_state);
  bool watch(const WorkerProcess& worker, bool read, bool write);
  void cannot_watch(WorkerPtr worker);
  void sockets_ready();
  void read_as_loop(const WorkerPtr& worker);

  Engine& engine_;
  Roster& roster_;
  Handlers handlers_;
  os::Epoll epoll_;  // of worker sockets; see arm()
  std::unique_ptr<FdWatch> epoll_watch_;
};

}  // namespace keelback::host
