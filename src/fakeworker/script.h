// What a fake worker does beside its work: how long it takes to start, and how it goes wrong.
//
// Written as a comma-separated list, `--app import_ms=50,setup_ms=2000`; empty or `standard` is a
// worker that does everything right at once.
//
//   import_ms=N           N ms between CONNECT and HELLO
//   setup_ms=N            N ms between HELLO and READY
//   fail=STEP             START_FAILED at hello or setup, then exit 1
//   exit_at=STEP:CODE     exit CODE instead of sending the step: CONNECT, HELLO or READY
//                         (connect, hello or setup)
//   hang_at=STEP          never send it
//   bad_version           CONNECT speaks of version 99
//   slow_ms=N             N ms in every call, before its function; heeds cancel and interrupt
//   crash_after_calls=N   SIGSEGV inside the call that follows N answered ones
//   garbage_after=N       after N answers, bytes that are no frame instead of an answer
//   half_frame_after=N    after N answers, the first half of an answer, then exit 0
//   duplicate_reply       every answer twice
//   zombie_nested         before every answer, a NESTED of the call before it
//   zombie_reply          before every answer, a RESULT of the call before it
//   unclean_every=N       every Nth answer says UNCLEAN, but of shared calls
//   unhealthy_after=N     has a health function, which fails once N calls were answered
//   ignore_shutdown       SHUTDOWN does nothing
//   term_immune           stays when its sockets close: only SIGKILL ends it
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace keelback::fakeworker {

enum class Step : std::uint8_t { kConnect, kHello, kSetup };

struct Script {
  struct Exit {
    Step step = Step::kConnect;
    int code = 0;
    friend bool operator==(const Exit&, const Exit&) = default;
  };
  std::uint32_t import_ms = 0;
  std::uint32_t setup_ms = 0;
  std::uint32_t slow_ms = 0;
  std::optional<Step> fail;
  std::optional<Exit> exit_at;
  std::optional<Step> hang_at;
  std::optional<std::uint32_t> crash_after_calls;
  std::optional<std::uint32_t> garbage_after;
  std::optional<std::uint32_t> half_frame_after;
  std::uint32_t unclean_every = 0;  // 0: never
  std::optional<std::uint32_t> unhealthy_after;
  bool bad_version = false;
  bool duplicate_reply = false;
  bool zombie_nested = false;
  bool zombie_reply = false;
  bool ignore_shutdown = false;
  bool term_immune = false;
  friend bool operator==(const Script&, const Script&) = default;
};

// The error is one sentence that names the word.
std::expected<Script, std::string> parse_script(std::string_view text);

}  // namespace keelback::fakeworker
