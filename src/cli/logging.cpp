#include "cli/logging.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <future>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <utility>

#include "base/fault_lines.h"
#include "cli/printable.h"

namespace keelback::cli {
namespace {

constexpr std::size_t kQueueMax = 8192;       // lines
constexpr std::string_view kMargin = "    ";  // of what follows a line end in a message

std::string time_text(spdlog::log_clock::time_point time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch());
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::chrono::duration_cast<std::chrono::seconds>(ms).count()),
                     ms.count() % 1000);
}

std::string_view level_text(spdlog::level::level_enum level) {
  const auto name = spdlog::level::to_string_view(level);
  return level == spdlog::level::warn ? "warn" : std::string_view(name.data(), name.size());
}

std::string_view text_of(const spdlog::details::log_msg& message) {
  return {message.payload.data(), message.payload.size()};
}

// What a worker wrote begins with its name: "[0.1] …", "[zygote] …". Empty: our own message.
std::string_view worker_in(std::string_view text) {
  if (!text.starts_with('[')) return {};
  const std::size_t end = text.find("] ");
  return end == std::string_view::npos ? std::string_view() : text.substr(1, end - 1);
}

class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string line = json_log_line(message) + "\n";
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

class TextFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string line = text_log_line(message) + "\n";
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<TextFormatter>();
  }
};

// Writes to stderr. Says before the next line how many lines the queue had no room for.
class MarkingSink final : public spdlog::sinks::sink {
 public:
  // `pool`: whose only thread calls log(); it outlives that thread.
  explicit MarkingSink(spdlog::details::thread_pool* pool) : pool_(pool) {}
  void log(const spdlog::details::log_msg& message) override {
    const std::uint64_t lost = pool_->overrun_counter();
    if (lost != marked_) {
      const std::string text = fmt::format("Nobody read the log in time: {} lines are not in it.",
                                           lost - std::exchange(marked_, lost));
      inner_.log(spdlog::details::log_msg(message.time, {}, message.logger_name,
                                          spdlog::level::warn, text));
    }
    inner_.log(message);
  }
  void flush() override { inner_.flush(); }
  void set_pattern(const std::string& pattern) override { inner_.set_pattern(pattern); }
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override {
    inner_.set_formatter(std::move(formatter));
  }

 private:
  spdlog::details::thread_pool* const pool_;
  std::uint64_t marked_ = 0;
  spdlog::sinks::stderr_sink_mt inner_;
};

// Lines that could not be written: a full disk, a closed pipe.
std::atomic<std::uint64_t> g_unwritten{0};

// Warnings, and the bare lines of workers.
class RunFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string_view text = text_of(message);
    const std::string_view worker = worker_in(text);
    std::string line;
    if (!worker.empty()) {
      line = text.substr(worker.size() + 3);
    } else if (message.level >= spdlog::level::warn) {
      line = fmt::format("keelback: {}", printable(text, kMargin));
    } else {
      return;
    }
    line += '\n';
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<RunFormatter>();
  }
};

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

std::shared_ptr<spdlog::logger> make_async() {
  spdlog::init_thread_pool(kQueueMax, 1);
  auto logger = std::make_shared<spdlog::async_logger>(
      "keelback", std::make_shared<MarkingSink>(spdlog::thread_pool().get()), spdlog::thread_pool(),
      spdlog::async_overflow_policy::overrun_oldest);
  // spdlog would print its errors on stderr, in another form.
  logger->set_error_handler([](const std::string&) { ++g_unwritten; });
  return logger;
}

}  // namespace

std::uint64_t lost_log_lines() {
  const auto pool = spdlog::thread_pool();
  return g_unwritten + (pool ? pool->overrun_counter() : 0);
}

std::string text_log_line(const spdlog::details::log_msg& message) {
  const auto name = spdlog::level::to_string_view(message.level);
  return fmt::format("{} {} {}", time_text(message.time),
                     std::string_view(name.data(), name.size()),
                     printable(text_of(message), kMargin));
}

std::string json_log_line(spdlog::level::level_enum level, std::string_view text) {
  return json_log_line(spdlog::details::log_msg("keelback", level, {text.data(), text.size()}));
}

std::string json_log_line(const spdlog::details::log_msg& message) {
  std::string_view text = text_of(message);
  nlohmann::ordered_json line = {{"time", time_text(message.time)},
                                 {"level", level_text(message.level)}};
  if (const std::string_view worker = worker_in(text); !worker.empty()) {
    line["worker"] = worker;
    text.remove_prefix(worker.size() + 3);
  }
  line["message"] = text;
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::shared_ptr<spdlog::logger> make_logger(const Settings::LogSection& settings) {
  auto logger = make_async();
  apply(*logger, settings);
  return logger;
}

void apply(spdlog::logger& logger, const Settings::LogSection& settings) {
  logger.set_level(spdlog_level(settings.level));
  const bool json = settings.format == LogFormat::kJson;
  write_faults_as_json(json);
  if (json) {
    logger.set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger.set_formatter(std::make_unique<TextFormatter>());
  }
}

std::shared_ptr<spdlog::logger> make_run_logger(const Settings::LogSection& settings,
                                                bool level_is_default) {
  auto logger = make_async();
  apply(*logger, settings);
  if (level_is_default) logger->set_formatter(std::make_unique<RunFormatter>());
  return logger;
}

bool finish_logging(std::shared_ptr<spdlog::logger> logger) {
  logger.reset();
  // The writing thread may block on stderr if nobody reads it.
  std::packaged_task<void()> close([] { spdlog::shutdown(); });
  const std::future<void> closed = close.get_future();
  std::thread(std::move(close)).detach();
  return closed.wait_for(std::chrono::seconds(1)) == std::future_status::ready;
}

}  // namespace keelback::cli
