// The application's functions and what the pool knows of each: its breaker and its bulkhead. Before
// the first announcement every name is taken on trust, for as long as a call of it waits.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/batch_pace.h"
#include "core/breaker.h"
#include "core/call_queue.h"
#include "core/event.h"
#include "core/name_index.h"
#include "core/notice_pace.h"
#include "core/slab.h"
#include "keelback/status.h"

namespace keelback::core {

struct Function {
  FunctionSpec spec;
  bool known = false;           // announced
  std::uint32_t in_flight = 0;  // calls that point here
  std::uint32_t workers = 0;    // that run it
  std::uint32_t suspects = 0;   // that run
  std::uint32_t queued = 0;     // heads in the queue that any worker serves
  bool room_noted = false;
  Duration service{0};    // what a call of it takes: a moving mean; 0: none has ended yet
  Duration batch_run{0};  // what a batch of it takes: likewise
  BatchPace pace;
  BatchSizes batch_sizes;
  Breaker breaker;
  NoticePace blocks;  // of the event loop, by calls of it
  RunQueue parked;    // heads that wait for the bulkhead; they would otherwise be in a run queue
  boost::intrusive::list_member_hook<> hook;

  std::string_view name() const { return spec.name; }
  // Its calls run beside others in one worker.
  bool shared() const { return spec.concurrency > 1 && !batches(); }
  // It takes several calls at once.
  bool batches() const { return spec.batch > 1; }
  void observe_service(Duration ran) {
    service = service == Duration{0} ? ran : service + (ran - service) / 8;
  }
  void observe_batch(Duration ran) {
    batch_run = batch_run == Duration{0} ? ran : batch_run + (ran - batch_run) / 8;
  }
  // The bulkhead: may one more worker run it?
  bool has_room() const { return spec.max_workers == 0 || workers < spec.max_workers; }
  // May one more worker run this call? Of a function one suspect runs at a time.
  bool has_room(const Call& call) const { return has_room() && !(call.suspect && suspects > 0); }
};

class FunctionTable {
 public:
  explicit FunctionTable(std::uint64_t seed) : index_(seed) {}
  ~FunctionTable();
  FunctionTable(const FunctionTable&) = delete;
  FunctionTable& operator=(const FunctionTable&) = delete;

  bool announced() const { return announced_; }
  Function* find(std::string_view name) const { return index_.find(name); }
  // Before the announcement: the record of a name taken on trust.
  Function& trust(std::string_view name);
  void acquire(Function& function) { ++function.in_flight; }
  // The last call of a function that nobody knows takes its record along.
  void release(Function& function);
  // What is not in `functions` becomes unknown; its calls in flight keep the record.
  void announce(const std::vector<FunctionSpec>& functions);
  template <class Visit>
  void each(Visit visit) {
    for (Function& function : all_) visit(function);
  }
  template <class Visit>
  void each(Visit visit) const {
    for (const Function& function : all_) visit(function);
  }

 private:
  Function& make(std::string_view name);
  void drop(Function& function);
  bool announced_ = false;
  NameIndex<Function> index_;
  boost::intrusive::list<
      Function, boost::intrusive::member_hook<Function, boost::intrusive::list_member_hook<>,
                                              &Function::hook>>
      all_;  // in order of appearance
  Slab<Function> slab_;
};

}  // namespace keelback::core
