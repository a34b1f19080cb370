#include "core/blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "core/calls.h"
#include "core/function_table.h"
#include "core/wording.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

// What the block, which lasts until `until` at least, adds to what the call has been held up.
HeldUp with_block(const Call& call, const Worker& worker, Time until) {
  HeldUp held = call.held_up;
  if (!worker.block || !worker.block->by || worker.block->by == call.id || call.alone) return held;
  const Time from = std::max(worker.block->since, call.dispatched);
  const Time to = std::min(until, call.deadline);
  if (from < to) held.time += to - from;
  held.at_deadline |= from <= call.deadline && call.deadline <= until;
  return held;
}

}  // namespace

HeldUp Blocks::held_up(const Call& call, Time now) {
  const auto* run = call.in<Call::Running>();
  return run && run->worker ? with_block(call, *run->worker, now) : call.held_up;
}

void Blocks::end(Worker& worker, Time at) {
  for (Call& call : worker.running) call.held_up = with_block(call, worker, at);
  worker.block.reset();
}

void Blocks::note_end(Worker& worker, Call& call, Time now) {
  if (worker.block->by == call.id) return end(worker, now);
  call.held_up = with_block(call, worker, now);
}

void Blocks::on(const LoopTurned& event) {
  Worker* worker = workers_.table().find(event.worker);
  if (!worker) return;
  worker->turned = frame_.now;
  if (worker->block) end(*worker, frame_.now);
}

void Blocks::on(const LoopBlocked& event) {
  Worker* worker = workers_.table().find(event.worker);
  if (!worker || worker->running.empty() || worker->taken()) return;
  const bool new_turn = !worker->block || worker->block->since != event.since;
  if (new_turn) {
    if (worker->block) end(*worker, event.since);
    ++frame_.counters.loop_blocks;
  }
  const Call* by = calls_.find(event.by);
  const auto* run = by ? by->in<Call::Running>() : nullptr;
  const bool known = run && run->worker == worker;
  worker->block = Worker::Block{known ? by->id : CallId{}, event.since};
  const Duration limit = frame_.settings.workers.loop_lag_warn;
  if (limit > Duration{0} && event.lag >= limit) warn(*worker, event.lag);
}

void Blocks::warn(const Worker& worker, Duration lag) {
  const Call* by = calls_.find(worker.block->by);
  const auto left_out = (by ? by->function->blocks : unknown_).take(frame_.now);
  if (!left_out) return;
  const std::string name = fmt::format("{}.{}", worker.id.slot, worker.id.generation);
  const std::string time = describe(std::chrono::floor<std::chrono::milliseconds>(lag));
  std::string text =
      by ? fmt::format(
               "Function \"{}\" blocks the event loop of worker {}: it has not turned for "
               "{}, and the other calls there wait (docs/concurrency.md).",
               by->function->spec.name, name, time)
         : fmt::format(
               "The event loop of worker {} has not turned for {}, and the shared calls "
               "there wait; which of them blocks it is not known (docs/concurrency.md).",
               name, time);
  if (*left_out > 0) text += fmt::format(" Since the last such notice: {} more.", *left_out);
  frame_.emit(Notice{Notice::Level::kWarn, std::move(text), worker.id});
}

}  // namespace keelback::core
