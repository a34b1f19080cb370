// The program's log: on stderr, never blocking whoever logs, level and format live.
#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/settings.h"

namespace keelback::cli {

// Lines go through a bounded queue to a thread that writes them: a reader that stops reading
// stderr costs log lines (the oldest), never a call. Shared with the driver.
std::shared_ptr<spdlog::logger> make_logger(const Settings::LogSection& settings);
void apply(spdlog::logger& logger, const Settings::LogSection& settings);
// Writes what is queued, for at most a second; the last holder gives its logger. Call once, at the
// end of the program. False: stderr takes nothing any more; leave by _Exit, or wait for ever.
bool finish_logging(std::shared_ptr<spdlog::logger> logger);

// The log of a one-shot run: what workers print, as they print it, and warnings; on stderr.
std::shared_ptr<spdlog::logger> make_run_logger(const Settings::LogSection& settings,
                                                bool level_is_default);

// Lines that stderr did not take, or not in time.
std::uint64_t lost_log_lines();

// One line as log.format = json and = text write it, without its line end.
std::string json_log_line(const spdlog::details::log_msg& message);
std::string json_log_line(spdlog::level::level_enum level, std::string_view text);
std::string text_log_line(const spdlog::details::log_msg& message);

}  // namespace keelback::cli
