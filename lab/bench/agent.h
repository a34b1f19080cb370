// One side of a comparison: a process that starts a pool, measures what it is told to, and answers
// in JSON, one line an order. The coordinator runs two of them, each from its own binary, so that
// "base against head" compares what would ship. `keelback bench agent` is this loop on stdin and
// stdout.
//
// Orders. Every answer has "ok"; where it is false, "error" says why in one sentence.
//   hello                       protocol, executable, compiler, sanitizer
//   start {workers, app, expose, env, settings, cpu, function, payload, calls}
//                               the stages, in ms from nothing; how many of the first calls were
//                               ok; the concurrency, batch and batch_wait_ms of the function
//   window {function, payload, callers, threads, ms, sessions, zipf}
//                               the figures of a closed loop: callers that block, each a thread
//                               or, with threads = false, so many calls in flight without threads
//   open {shape, rate, burst_factor, function, payload, ms, deadline_ms, sessions, zipf, seed,
//         points, saturated}
//                               the figures of an open loop
//   wave {function, payload, calls, sessions, drain_ms}
//                               so many calls at once, or one in each of so many sessions: all_ms,
//                               and first_ms, the first answer
//   settle {workers}            until so many workers are there
//   affinity {sessions, zipf, calls}
//                               hit_ratio, fairness, the first and the next call of a session
//   neighbour {ms}              a session's calls while another session holds another worker
//   attachment {function, bytes, calls, here, there}
//                               p50 of a call with so many bytes beside it
//   pile {waiting}              leaves so many calls of 5 ms in the pool
//   queue {waiting, function, payload}
//                               what a call costs while so many wait
//   recover {rate, ms}          SIGKILL of a busy worker: detected, replaced, lost
//   kill_all {ms, calls}        SIGKILL of every worker under load: the share of calls ok after it
//   recycle                     a planned replacement
//   memory                      pss_kb of everything and by kind
//   growth {rounds, calls}      the slope of memory over calls
//   counters {function, payload, calls}
//                               exact counters a call
//   calls {function, payload, calls, sessions}
//                               makes so many, one after another, and counts nothing; one in each
//                               of so many sessions, the same ones as those of a wave
//   idle {ms, sessions}         processor time and wake-ups with nothing to do
//   stop                        stop_ms, what is left
//
// Times are milliseconds or microseconds as the name says, by CLOCK_MONOTONIC.
#pragma once

namespace keelback::bench {

inline constexpr int kAgentProtocol = 2;

// Reads orders from stdin and writes answers to stdout, until end of file. Returns an exit code.
int serve_agent();

}  // namespace keelback::bench
