// One side of a comparison: a process that starts a pool, measures what it is told to, and answers
// in JSON, one line an order. The coordinator runs two of them, each from its own binary, so that
// "base against head" compares what would ship. `keelback bench agent` is this loop on stdin and
// stdout.
//
// Orders (all answers carry "ok"; on failure "error" says why in one sentence):
//   hello                                  protocol, executable, compiler, sanitizer
//   start    {workers, app, env, settings, cpu, function, payload} -> the stages, in ms from
//   nothing window   {function, payload, callers, ms, sessions, zipf}      -> a closed loop's
//   figures open     {shape, rate, rate_from, steps, burst_factor, function, payload, ms,
//   deadline_ms,
//             sessions, zipf, seed, points}                        -> an open loop's figures
//   affinity {sessions, zipf, calls}       -> hit_ratio, fairness, first and next call of a session
//   neighbour {ms}                         -> a session's calls beside one that holds another
//   worker pile     {waiting}                     -> leaves so many calls of 5 ms in the pool queue
//   {waiting, function, payload}  -> what a call costs with so many waiting recover  {rate, ms} ->
//   SIGKILL of a busy worker: detected, replaced, lost recycle                                -> a
//   planned replacement memory                                 -> pss_kb of everything and by kind
//   growth   {rounds, calls}               -> the slope of memory over calls
//   counters {function, payload, calls}    -> exact per-call counters
//   calls    {function, payload, calls}    -> makes so many, one after another, and counts nothing
//   idle     {ms, sessions}                -> processor time and wake-ups with nothing to do
//   stop                                   -> stop_ms, what is left
//
// Times are milliseconds or microseconds as the name says, by CLOCK_MONOTONIC.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

namespace keelback::bench {

inline constexpr int kAgentProtocol = 2;

class Agent {
 public:
  Agent();
  ~Agent();
  // Performs one order. Never throws; an order that cannot be done answers {"ok": false}.
  nlohmann::json perform(const nlohmann::json& order);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Reads orders from `in`, writes answers to `out`, until end of file. Returns an exit code.
int serve_agent(int in, int out);

}  // namespace keelback::bench
