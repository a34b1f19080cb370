// One side of a comparison: a process that starts a pool, measures what it is told to, and answers
// in JSON, one line an order. The coordinator runs two of them, each from its own binary, so that
// "base against head" compares what would ship. `keelback bench agent` is this loop on stdin and
// stdout.
//
// Orders (all answers carry "ok"; on failure "error" says why in one sentence):
//   hello                                  protocol version, commit, compiler
//   start   {workers, app, env, settings, cpu, function, payload} -> all_ready_ms, first_call_ms
//   window  {function, payload, callers, ms, sessions}  -> a closed loop's figures
//   open    {function, payload, rate, ms, sessions, seed} -> an open loop's figures
//   memory  {}                             -> pss_kb of everything, rss_kb per process
//   recover {}                             -> SIGKILL of a busy worker: detected_ms, ready_ms, lost
//   counters {function, payload, calls}    -> exact per-call counters
//   stop    {}                             -> stop_ms, leftovers
//
// Times are milliseconds or microseconds as the name says, by CLOCK_MONOTONIC.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

namespace keelback::bench {

inline constexpr int kAgentProtocol = 1;

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
