// The program's log. It goes to stderr and never blocks the thread that logs. Level and format can
// change while the program runs.
#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/settings.h"

namespace keelback::cli {

// Lines go through a queue of limited length to a thread that writes them. If nobody reads stderr,
// the oldest lines are lost, but calls go on. Shared with the driver.
std::shared_ptr<spdlog::logger> make_logger(const Settings::LogSection& settings);
void apply(spdlog::logger& logger, const Settings::LogSection& settings);
// Writes the queued lines, for at most a second. Pass the last copy of the logger. Call it once, at
// the end of the program. False: stderr takes nothing; end with _Exit, because the destructor of
// the thread would wait for ever.
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
