#include "host/roster.h"

#include <algorithm>

#include "host/environment.h"

namespace keelback::host {

Roster::Roster(const Settings& first)
    : slab_budget(std::make_shared<SlabBudget>(first.attachments.budget.count)), settings(first) {}

void Roster::limit(const Settings& now) {
  payload_max = now.calls.payload_max.count;
  snapshot_max = now.sessions.snapshot_max.count;
  attached_max = now.attachments.max.count;
  // SAVED carries an answer and a state; attachments have frames of their own.
  frame_bytes_max = frame_bytes_for(std::max(payload_max + snapshot_max, attached_max));
  slab_budget->set_limit(now.attachments.budget.count);
  for (const auto& [id, worker] : workers) {
    limit(*worker);
    worker->channel.set_frame_max(frame_bytes_max);
  }
}

void Roster::limit(WorkerProcess& worker) {
  worker.marks.set_result_max(payload_max);
  worker.marks.set_snapshot_max(snapshot_max);
  worker.marks.set_attached_max(attached_max);
  worker.channel.set_attached_max(attached_max);
}

std::vector<WorkerPtr> Roster::all() {
  std::vector<WorkerPtr> list;
  for (const auto& [id, worker] : workers) list.push_back(worker);
  return list;
}

}  // namespace keelback::host
