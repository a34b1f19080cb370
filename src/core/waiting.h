// The calls that wait: where each stands (in its lane, as a head in a run queue, with others of its
// batch, at its function's bulkhead), which worker a head goes to, and how a waiting call ends.
//
// Owns: the queue, the placement of heads on workers, the functions that have room again, the
// groups of calls that go to a worker together.
// Asks: Runs to dispatch; Sessions for the next head of a lane; Keys who takes over a key; Health
// whether a free worker is to be checked first.
#pragma once

#include <span>
#include <vector>

#include "base/time.h"
#include "core/batcher.h"
#include "core/call_queue.h"
#include "core/ending.h"
#include "core/frame.h"
#include "core/function_table.h"
#include "core/placement.h"
#include "core/quarantine.h"

namespace keelback::core {

class Calls;
class Health;
class Keys;
class Runs;
class Sessions;
class Workers;

class Waiting {
 public:
  Waiting(Frame& frame, const Quarantine& quarantine, Calls& calls, Keys& keys, Runs& runs,
          Sessions& sessions, Workers& workers, Health& health);
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  CallQueue& queue() { return queue_; }
  const CallQueue& queue() const { return queue_; }
  Placement& placement() { return placement_; }
  const Placement& placement() const { return placement_; }
  const Batcher& batcher() const { return batcher_; }
  // When a refused caller should come back.
  Duration retry_after() const;
  void set_limits();  // from the settings

  // Lets go of all records, before the pool goes.
  void clear();

  // ---- in
  // A new call, in its session's lane already.
  void enter(Call& call);
  // Its worker died, and it runs again: at once, or (retry) after a pause.
  void take_back(Call& call, bool retry, Duration pause);
  // The same of calls that run again in a batch of their own, and at once. They are stateless.
  void take_back_together(std::span<Call* const> calls);
  // To a worker, to a queue, or into its function's bulkhead. A head that has to end instead is
  // followed by the next one of its lane.
  void place(Call& head);
  // The worker takes no more calls.
  void withdraw(Worker& worker);
  // A worker may be free: gives it work or makes it idle.
  void offer(Worker& worker);
  // A batch has waited long enough for others.
  void batch_due(BatchGroup& group) { settle(group); }
  // Workers may take more calls, or others, than before. They are offered some at the end of this
  // step, when it is known which of them are emptied.
  void offer_to_all() { order_changed_ = true; }
  // A call of `function` is out of the way: those parked behind it may go, at the end of this step.
  void note_room(Function& function);
  void use_room();
  // The function's terms have changed, or calls like this one have become suspects, while it waits.
  void classify(Call& call);
  // The function takes batches from now on, or does so no more.
  void regroup(Call& call);
  // Whether it would run at once, if it does not have to wait for others of its batch.
  bool would_run(const Call& call) const {
    return placement_.choose(call, queue_.common()) != nullptr;
  }
  // Whether it would run at once.
  bool would_start(const Call& call) const;

  // ---- out
  // A worker takes it.
  void hand_over(Call& head);
  // A worker takes the next batch of its group. Valid until the next one.
  std::span<Call* const> hand_over_batch(BatchGroup& group);
  // The session's first waiting call leaves the queue of `worker`; it is no head any more.
  void release_head(Session& session, Worker& worker);
  // Heads of its sessions that others could have served wait with it from now on.
  void hold_heads(Worker& worker);
  // Ends it; what is next in its lane is placed.
  void end(Call& call, Ending&& ending);
  // Ends it; what is next in its lane is the caller's affair.
  void end_in_lane(Call& call, Ending&& ending);
  // Ends every call that waits for a worker.
  void end_all(const Ending& ending);
  // Its deadline has come, or its pause is over.
  void due(Call& call);

 private:
  // One head; returns the next one of its lane if this one ended.
  Call* place_one(Call& head);
  Call* take_out(Call& call, Ending&& ending);
  // Calls like it killed workers while it waited: it ends instead of running.
  bool quarantined(const Call& head) const;
  Call* end_quarantined(Call& head);
  void leave(Call& call);
  void wait(Call& head);     // in a queue, or at the bulkhead
  void dequeue(Call& head);  // out of that
  void unqueue(Call& head);  // and out of its group
  // It has changed, and stands where it should at the end of this step.
  void note_group(BatchGroup& group);
  // The group's next batches run, or stand in a queue, or wait for others.
  void settle(BatchGroup& group);
  void settle_groups();
  // Calls of its next batch that must not go with it leave it. False: there are none.
  bool sift(BatchGroup& group);
  Call* early_batch(const Worker& worker) const;
  void unpark(Function& function);
  // How many workers are emptied for heads that run alone.
  std::size_t workers_to_empty() const;
  // Workers are emptied for heads that run alone, and others need not be any more.
  void empty_workers();
  // To all that run calls beside each other.
  void offer_to_sharing();

  Frame& frame_;
  const Quarantine& quarantine_;
  Calls& calls_;
  Keys& keys_;
  Runs& runs_;
  Sessions& sessions_;
  Workers& workers_;
  Health& health_;
  CallQueue queue_;
  Placement placement_;
  // A head has left its queue or may have another rank, or workers may take other heads.
  bool order_changed_ = false;
  std::vector<Function*> room_;  // functions that may have room for parked calls; see use_room()
  Batcher batcher_;
  std::vector<BatchGroup*> changed_;  // see use_room()
};

}  // namespace keelback::core
