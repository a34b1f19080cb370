#include "core/wording.h"

#include <fmt/format.h>

namespace keelback::core {

std::string describe(const Death& death) {
  std::string text;
  if (death.cause == "start_failed") {
    text =
        death.step.empty() ? "a failed start" : fmt::format("a failed start (at {})", death.step);
    if (death.detail.empty() && death.signal) text += fmt::format(": signal {}", *death.signal);
    if (death.detail.empty() && death.exit_code) {
      text += fmt::format(": exit code {}", *death.exit_code);
    }
  } else if (death.cause == "oom") {
    text = "out of memory (killed by the kernel)";
  } else if (death.signal) {
    text = fmt::format("signal {}{}", *death.signal,
                       death.oom_suspected ? ", perhaps out of memory" : "");
  } else if (death.exit_code) {
    text = fmt::format("exit code {}", *death.exit_code);
  } else {
    text = death.cause.empty() ? "an unknown cause" : death.cause;
  }
  if (!death.detail.empty()) text += fmt::format(": {}", death.detail);
  return text;
}

std::string describe(Duration duration) {
  const double ns = static_cast<double>(duration.count());
  if (ns < 1e3) return fmt::format("{}ns", duration.count());
  if (ns < 1e6) return fmt::format("{:.4g}us", ns / 1e3);
  if (ns < 1e9) return fmt::format("{:.4g}ms", ns / 1e6);
  return fmt::format("{:.6g}s", ns / 1e9);
}

std::string no_session_of_batch(std::string_view function) {
  return fmt::format("Function \"{}\" takes calls in batches, and those have no session.",
                     function);
}

std::string held_back(std::uint32_t deaths, Duration remaining) {
  return fmt::format(
      "This very request killed {} workers in a row and is quarantined for another {}; release it "
      "or change it.",
      deaths, describe(remaining));
}

std::string session_over(SessionOver why, std::string_view id, Duration limit, const Death* death) {
  switch (why) {
    case SessionOver::kIdle:
      return fmt::format(
          "Session \"{}\" was idle for sessions.idle_ttl ({}) and has expired; the next call that "
          "may open it begins it anew.",
          id, describe(limit));
    case SessionOver::kAge:
      return fmt::format(
          "Session \"{}\" reached sessions.max_age ({}) and has expired; the next call that may "
          "open it begins it anew.",
          id, describe(limit));
    case SessionOver::kLost:
      break;
  }
  return fmt::format(
      "Session \"{}\" and its state are lost ({}); the next call that may open it begins it anew, "
      "with empty state.",
      id, death ? "its worker ended: " + describe(*death) : "nothing usable is stored of it");
}

}  // namespace keelback::core
