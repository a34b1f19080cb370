#include "base/settings_schema.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/nearest.h"
#include "base/net_names.h"
#include "base/settings_text.h"
#include "base/utf8.h"

namespace keelback {
namespace {

using namespace std::chrono_literals;

// ---- one codec a type: read(), write(), and the number that bounds apply to

template <class T>
struct Codec;
template <std::unsigned_integral T>
struct Codec<T> {
  static constexpr SettingType type = SettingType::kCount;
  static Parsed<T> read(std::string_view text) {
    const auto value = parse_count(text);
    if (!value) return std::unexpected(value.error());
    if (*value > std::numeric_limits<T>::max()) return std::unexpected(std::string("is too large"));
    return static_cast<T>(*value);
  }
  static std::string write(T value) { return std::to_string(value); }
  static long double measure(T value) { return value; }
};
template <>
struct Codec<double> {
  static constexpr SettingType type = SettingType::kNumber;
  static Parsed<double> read(std::string_view text) { return parse_number(text); }
  static std::string write(double value) { return format_number(value); }
  static long double measure(double value) { return value; }
};
template <>
struct Codec<Duration> {
  static constexpr SettingType type = SettingType::kDuration;
  static Parsed<Duration> read(std::string_view text) { return parse_duration(text); }
  static std::string write(Duration value) { return format_duration(value); }
  static long double measure(Duration value) { return value.count(); }
};
template <>
struct Codec<Bytes> {
  static constexpr SettingType type = SettingType::kSize;
  static Parsed<Bytes> read(std::string_view text) { return parse_bytes(text); }
  static std::string write(Bytes value) { return format_bytes(value); }
  static long double measure(Bytes value) { return value.count; }
};
template <>
struct Codec<std::string> {
  static constexpr SettingType type = SettingType::kText;
  static Parsed<std::string> read(std::string_view text) { return std::string(text); }
  static std::string write(const std::string& value) { return value; }
  static long double measure(const std::string& value) { return value.size(); }
};
template <>
struct Codec<std::vector<std::string>> {
  static constexpr SettingType type = SettingType::kList;
  static Parsed<std::vector<std::string>> read(std::string_view text) { return parse_list(text); }
  static std::string write(const std::vector<std::string>& value) { return format_list(value); }
  static long double measure(const std::vector<std::string>& value) { return value.size(); }
};
template <>
struct Codec<TextTable> {
  static constexpr SettingType type = SettingType::kTable;
  static Parsed<TextTable> read(std::string_view text) { return parse_table(text); }
  static std::string write(const TextTable& value) { return format_table(value); }
  static long double measure(const TextTable& value) { return value.size(); }
};
template <class T>
  requires std::is_enum_v<T>
struct Codec<T> {
  static constexpr SettingType type = SettingType::kChoice;
  static Parsed<T> read(std::string_view text) {
    const auto index = parse_choice(text, setting_names<T>());
    if (!index) return std::unexpected(index.error());
    return static_cast<T>(*index);
  }
  static std::string write(T value) { return std::string(setting_name(value)); }
  static long double measure(T) { return 0; }
};

// A bound in the unit that the key is written in.
std::string bound_text(const SettingRow& row, long double bound) {
  switch (row.type) {
    case SettingType::kNumber:
      return format_number(static_cast<double>(bound));
    case SettingType::kDuration:
      return format_duration(Duration(static_cast<std::int64_t>(bound)));
    case SettingType::kSize:
      return format_bytes(Bytes{static_cast<std::uint64_t>(bound)});
    default:
      return std::to_string(static_cast<std::uint64_t>(bound));
  }
}

std::expected<void, std::string> check_bounds(const SettingRow& row, long double measure,
                                              std::string_view written) {
  const bool below = measure < row.min;
  if (!below && measure <= row.max) return {};
  const std::string bound = bound_text(row, below ? row.min : row.max);
  switch (row.type) {
    case SettingType::kText:
      return std::unexpected(row.max > 0 && !below ? "is longer than " + bound + " bytes"
                                                   : std::string("must not be empty"));
    case SettingType::kList:
    case SettingType::kTable:
      return std::unexpected((below ? "needs at least " : "takes at most ") + bound + " elements");
    default:
      return std::unexpected("'" + std::string(written) + "' is " +
                             (below ? "below the least value, " : "above the greatest value, ") +
                             bound);
  }
}

// ---- rules beyond bounds, on the value itself

using Rule = std::expected<void, std::string> (*)(std::string_view canonical);

std::expected<void, std::string> any(std::string_view) { return {}; }

std::expected<void, std::string> store_rule(std::string_view text) {
  if (text == "memory" || (text.starts_with("sqlite:") && text.size() > 7)) return {};
  return std::unexpected(std::string("must be memory or sqlite:PATH"));
}

// No word of the text in the error: it has a password.
std::expected<void, std::string> cluster_store_rule(std::string_view text) {
  if (text.empty()) return {};
  for (const std::string_view scheme : {"postgres://", "postgresql://"}) {
    const bool plain =
        std::all_of(text.begin(), text.end(), [](char c) { return c > 32 && c < 127; });
    if (plain && text.size() > scheme.size() && text.starts_with(scheme)) return {};
  }
  return std::unexpected(
      std::string("must be a URL that begins with postgres:// or postgresql://, without blanks"));
}

std::expected<void, std::string> node_url_rule(std::string_view text) {
  if (text.empty()) return {};
  if (const auto url = parse_node_url(text); !url) return std::unexpected(url.error());
  return {};
}

template <std::expected<void, std::string> (*check)(std::string_view)>
std::expected<void, std::string> each_rule(std::string_view text) {
  const auto list = parse_list(text);
  CHECK(list.has_value());  // canonical text comes from a list
  for (const std::string& element : *list) {
    if (auto ok = check(element); !ok) return ok;
  }
  return {};
}

// What may stand in an Authorization header after "Bearer " (RFC 6750, b64token and more).
std::expected<void, std::string> token_rule(std::string_view text) {
  const bool plain =
      std::all_of(text.begin(), text.end(), [](char c) { return c > 32 && c < 127; });
  if (plain) return {};
  return std::unexpected(std::string("may hold printable ASCII characters without blanks only"));
}

// Permissions of a file as chmod writes them.
std::expected<void, std::string> mode_rule(std::string_view text) {
  const bool octal =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c < '8'; });
  if (octal && text.starts_with('0')) return {};
  return std::unexpected(std::string("must be four octal digits such as 0660"));
}

std::expected<void, std::string> path_rule(std::string_view text) {
  if (text.find('\0') == std::string_view::npos) return {};
  return std::unexpected(std::string("may not contain a NUL byte"));
}

// Variables of a worker's environment.
std::expected<void, std::string> env_rule(std::string_view text) {
  constexpr std::size_t kBytesMax = 64 * 1024;
  constexpr std::string_view kOurs[] = {"KEELBACK_DEVICE", "KEELBACK_OWNER", "KEELBACK_SHARED_FD",
                                        "KEELBACK_WORKER"};
  const auto table = parse_table(text);
  CHECK(table.has_value());  // canonical text comes from a table
  if (text.size() > kBytesMax) return std::unexpected(std::string("is larger than 64KiB"));
  for (const auto& [name, value] : *table) {
    const auto wrong = [&name](std::string_view why) {
      return std::unexpected("'" + name.substr(0, 100) + "' " + std::string(why));
    };
    const auto no_letter = [](unsigned char c) { return c <= ' ' || c == '='; };
    if (!is_utf8(name) || std::ranges::any_of(name, no_letter)) {
      return wrong("is no name of a variable");
    }
    // Values travel to a zygote as JSON.
    const auto control = [](unsigned char c) { return c < ' ' && c != '\t' && c != '\n'; };
    if (std::ranges::any_of(value, control)) return wrong("has a control character in its value");
    if (!is_utf8(value)) return wrong("has a value that is not UTF-8");
    if (std::ranges::find(kOurs, name) != std::end(kOurs)) return wrong("is set by Keelback");
  }
  return {};
}

// ---- rows

template <auto Section, auto Field>
struct Access {
  static auto& of(Settings& settings) { return (settings.*Section).*Field; }
  static const auto& of(const Settings& settings) { return (settings.*Section).*Field; }
  using Type = std::remove_cvref_t<decltype(of(std::declval<Settings&>()))>;
  using Code = Codec<Type>;

  static std::string get(const Settings& settings) { return Code::write(of(settings)); }
  template <Rule rule>
  static std::expected<void, std::string> set(const SettingRow& row, Settings& settings,
                                              std::string_view text) {
    auto value = Code::read(text);
    if (!value) return std::unexpected(value.error());
    if constexpr (!std::is_enum_v<Type>) {
      if (auto ok = check_bounds(row, Code::measure(*value), text); !ok) return ok;
    }
    if (auto ok = rule(Code::write(*value)); !ok) return ok;
    of(settings) = std::move(*value);
    return {};
  }
};

struct Bounds {
  long double min = 0;
  long double max = 0;
};
constexpr Bounds between(Duration min, Duration max) {
  return {static_cast<long double>(min.count()), static_cast<long double>(max.count())};
}
constexpr Bounds between(Bytes min, Bytes max) {
  return {static_cast<long double>(min.count), static_cast<long double>(max.count)};
}

template <auto Section, auto Field, Rule rule = any>
SettingRow row(std::string_view key, SettingScope scope, Bounds bounds, std::string_view zero,
               std::string_view doc, bool secret = false) {
  using A = Access<Section, Field>;
  std::span<const std::string_view> choices;
  if constexpr (std::is_enum_v<typename A::Type>) choices = setting_names<typename A::Type>();
  return {key,     A::Code::type,         scope, bounds.min, bounds.max, zero, doc, secret, choices,
          &A::get, &A::template set<rule>};
}

using S = Settings;
using enum SettingScope;
constexpr Duration kTick = 1ms;           // the shortest limit that makes sense
constexpr Duration kMonth = 24h * 30;     // of one call
constexpr Duration kDecade = 24h * 3650;  // of sessions and workers; far from overflowing Time
constexpr Bounds kChoiceBounds = {};

// The documentation shows these rows, in this order.
const auto kRows = std::to_array<SettingRow>({
    row<&S::pool, &S::PoolSection::workers>(
        "pool.workers", kExisting, {0, 1024}, "start workers for calls only",
        "How many worker processes the pool keeps, or with pool.workers_max the least; a change "
        "resizes the running pool."),
    row<&S::pool, &S::PoolSection::workers_max>(
        "pool.workers_max", kExisting, {0, 1024}, "the size is fixed",
        "Up to how many worker processes the pool grows while calls wait "
        "(docs/operate.md, *A pool that grows and shrinks*)."),
    row<&S::pool, &S::PoolSection::scale_up_delay>(
        "pool.scale_up_delay", kExisting, between(0s, 1h), "at once",
        "How long calls that any worker could serve may wait before the pool grows."),
    row<&S::pool, &S::PoolSection::scale_down_after>(
        "pool.scale_down_after", kExisting, between(0s, 24h), "at once",
        "How long a worker must have been unneeded before it leaves a pool that grows; one leaves "
        "a second."),
    row<&S::pool, &S::PoolSection::min_ready>(
        "pool.min_ready", kExisting, {0, 1024}, "once the application is loaded",
        "From how many workers that can take calls on the pool says that it is ready."),
    row<&S::pool, &S::PoolSection::backend>(
        "pool.backend", kRestart, kChoiceBounds, "",
        "What runs the calls: python (real workers), fake (keelback-fakeworker, for tests) or sim "
        "(the pool on virtual time)."),
    row<&S::pool, &S::PoolSection::queue_max>(
        "pool.queue_max", kExisting, {1, 1'000'000}, "",
        "How many calls may wait in the whole pool; one more is overloaded."),
    row<&S::pool, &S::PoolSection::queue_delay_max>(
        "pool.queue_delay_max", kExisting, between(0s, 1h), "off",
        "Refuse calls that any worker could serve while they would wait longer than this (low "
        "priority "
        "half as long, high twice)."),

    row<&S::calls, &S::CallsSection::deadline>(
        "calls.deadline", kNewCalls, between(kTick, kMonth), "",
        "The whole time a call may take, queue included, where neither the caller nor the function "
        "says."),
    row<&S::calls, &S::CallsSection::deadline_max>(
        "calls.deadline_max", kNewCalls, between(kTick, kMonth), "",
        "The longest deadline that a caller or a function may ask for."),
    row<&S::calls, &S::CallsSection::grace>(
        "calls.grace", kExisting, between(0s, 10min), "kill at once",
        "How long after its deadline a call may hold its worker before the worker is killed: "
        "cancel, interrupt, dump and kill share it."),
    row<&S::calls, &S::CallsSection::answer_at>(
        "calls.answer_at", kExisting, kChoiceBounds, "",
        "When the caller of a running call hears that its deadline has passed: at the deadline, or "
        "at the end of the call, at the latest calls.grace later."),
    row<&S::calls, &S::CallsSection::after_interrupt>(
        "calls.after_interrupt", kExisting, kChoiceBounds, "",
        "What becomes of a worker whose function was interrupted: replace starts another one and "
        "moves the sessions, keep lets it serve on, replace_cancelled replaces it also if a "
        "coroutine "
        "ended because it was cancelled. A function with interruptible=True keeps its "
        "worker."),
    row<&S::calls, &S::CallsSection::retries>(
        "calls.retries", kNewCalls, {0, 100},
        "off",
        "How often a call is tried again after a worker died, if it has not started or is "
        "idempotent."),
    row<&S::calls, &S::CallsSection::retry_budget>(
        "calls.retry_budget", kExisting, {0, 1}, "three a second only",
        "Retries as a share of the traffic; three a second are always allowed."),
    row<&S::calls, &S::CallsSection::payload_max>(
        "calls.payload_max", kExisting, between(1_KiB, 1024_MiB), "",
        "The largest arguments and the largest result of a call."),
    row<&S::calls, &S::CallsSection::idempotency_ttl>(
        "calls.idempotency_ttl", kExisting, between(0s, kMonth), "off",
        "How long the same Idempotency-Key gives the same answer."),
    row<&S::calls, &S::CallsSection::stream_idle>(
        "calls.stream_idle", kExisting, between(0s, kMonth), "off",
        "The longest time between two items of a stream for which its reader has room; a stream "
        "that stays silent longer ends as if its deadline had passed."),

    row<&S::attachments, &S::AttachmentsSection::max>(
        "attachments.max", kExisting, between(1_KiB, 1024_MiB), "",
        "How many bytes the attachments of one call may have together, and those of one result; "
        "more is too_large, and an error as a result."),
    row<&S::attachments, &S::AttachmentsSection::budget>(
        "attachments.budget", kExisting, between(0_KiB, {1ULL << 40}), "none",
        "How many bytes of attachments all unfinished calls may carry together; one more is "
        "overloaded. The workers' shared memory together has no more either: what does not fit "
        "travels through the socket."),
    row<&S::attachments, &S::AttachmentsSection::keep>(
        "attachments.keep", kExisting, between(0s, 24h), "at the next look",
        "How long shared memory that no attachment has used is kept for the next one."),

    row<&S::sessions, &S::SessionsSection::mode>(
        "sessions.mode", kNewCalls, kChoiceBounds, "",
        "What ties a new session to its worker: strict_queue waits for it, strict_fail_fast "
        "refuses "
        "while it is busy, hint prefers it."),
    row<&S::sessions, &S::SessionsSection::idle_ttl>(
        "sessions.idle_ttl", kExisting, between(kTick, kDecade), "",
        "A session ends when it has had no call for this long."),
    row<&S::sessions, &S::SessionsSection::max_age>(
        "sessions.max_age", kExisting, between(kTick, kDecade), "",
        "A session ends when it is this old, however busy."),
    row<&S::sessions, &S::SessionsSection::max>(
        "sessions.max", kExisting, {1, 10'000'000}, "",
        "How many sessions may live at once; one more is refused with session_limit, and nobody is "
        "evicted."),
    row<&S::sessions, &S::SessionsSection::queue_max>(
        "sessions.queue_max", kExisting, {1, 1'000'000}, "",
        "How many calls may wait in one session; one more is overloaded. A session never takes "
        "more of "
        "pool.queue_max than it leaves to others."),
    row<&S::sessions, &S::SessionsSection::tombstone_ttl>(
        "sessions.tombstone_ttl", kExisting, between(0s, kDecade), "forget at once",
        "How long a lost or expired session is remembered, so that its next call is told."),
    row<&S::sessions, &S::SessionsSection::snapshot>(
        "sessions.snapshot", kExisting, kChoiceBounds, "",
        "When a session's state is saved so that another worker can restore it."),
    row<&S::sessions, &S::SessionsSection::store, store_rule>(
        "sessions.store", kRestart, {1, 4096}, "",
        "Where snapshots are kept: memory, or sqlite:PATH, which survives a restart."),
    row<&S::sessions, &S::SessionsSection::snapshot_max>(
        "sessions.snapshot_max", kExisting, between(Bytes{1}, 256_MiB), "",
        "How large one session's snapshot may be; a session with more state goes on without one."),
    row<&S::sessions, &S::SessionsSection::store_max>(
        "sessions.store_max", kExisting, between(Bytes{1}, Bytes{1ULL << 40}), "",
        "How much all snapshots together may take; beyond it sessions go on without one."),
    row<&S::sessions, &S::SessionsSection::restore_other_digest>(
        "sessions.restore_other_digest", kExisting, kChoiceBounds, "",
        "Whether a session goes on with a state that other code of the application has written: "
        "no lets it end as lost."),

    row<&S::workers, &S::WorkersSection::python, path_rule>(
        "workers.python", kRestart, {1, 4096}, "",
        "The Python interpreter, as a path or a name on PATH; a virtual environment's python "
        "brings "
        "its packages."),
    row<&S::workers, &S::WorkersSection::user>(
        "workers.user", kRestart, {0, 256}, "the daemon's",
        "The user, by name or number, that the application runs as, its import included. Only a "
        "daemon that root has started can have another one (docs/security.md)."),
    row<&S::workers, &S::WorkersSection::zygote>(
        "workers.zygote", kNextGeneration, kChoiceBounds, "",
        "Whether workers are forked from a process that has imported the application: auto falls "
        "back to exec where forking is unsafe, force does not, off always starts afresh."),
    row<&S::workers, &S::WorkersSection::blas_threads>(
        "workers.blas_threads", kRestart, {0, 1024}, "leave the environment alone",
        "How many threads the numeric libraries of a worker may use: OMP_NUM_THREADS, "
        "OPENBLAS_NUM_THREADS, MKL_NUM_THREADS and NUMEXPR_NUM_THREADS are set to it before the "
        "application is imported, each unless it is set already. With more than 1 most of them "
        "start threads at import, and workers cannot be forked."),
    row<&S::workers, &S::WorkersSection::env, env_rule>(
        "workers.env", kNextGeneration, {0, 256}, "",
        "Variables for the workers' environment, over what they inherit; `{slot}` in a value is "
        "the number of the worker's slot. The import of the application sees the values without "
        "it, after a change once it is reloaded. Not for secrets: the values are shown."),
    row<&S::workers, &S::WorkersSection::devices, each_rule<path_rule>>(
        "workers.devices", kNextGeneration, {0, 1024}, "",
        "What the workers compute on: slot n gets the device (n - 1) modulo their count, as "
        "CUDA_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES, and as keelback.device()."),
    row<&S::workers, &S::WorkersSection::start_timeout>(
        "workers.start_timeout", kExisting, between(kTick, 24h), "",
        "How long a worker may take from its start until it is ready."),
    row<&S::workers, &S::WorkersSection::concurrency>(
        "workers.concurrency", kExisting, {0, 1024}, "as its functions say",
        "How many calls of shared functions (`concurrency` above 1) one worker may run at once."),
    row<&S::workers, &S::WorkersSection::loop_lag_warn>(
        "workers.loop_lag_warn", kExisting, between(0s, 1h), "no notice",
        "How long the event loop of a worker may not turn, while shared calls run there, before a "
        "notice names the function that blocks it. Time in which the worker got no processor does "
        "not count."),
    row<&S::workers, &S::WorkersSection::max_calls>("workers.max_calls", kNextGeneration,
                                                    {0, 1e15L}, "never",
                                                    "Replace a worker after so many calls."),
    row<&S::workers, &S::WorkersSection::max_age>("workers.max_age", kNextGeneration,
                                                  between(0s, kDecade), "never",
                                                  "Replace a worker that is this old."),
    row<&S::workers, &S::WorkersSection::max_rss>(
        "workers.max_rss", kNextGeneration, between(0_KiB, {1ULL << 50}), "never",
        "Replace a worker whose private memory has grown by this much since it was ready."),
    row<&S::workers, &S::WorkersSection::memory_limit>(
        "workers.memory_limit", kNextGeneration, between(0_KiB, {1ULL << 50}), "none",
        "How much a worker may allocate (heap and private mappings, what it inherits from the "
        "zygote included, RLIMIT_DATA); beyond it Python raises MemoryError, and the call that "
        "asked for too much fails."),
    row<&S::workers, &S::WorkersSection::cgroup>(
        "workers.cgroup", kRestart, kChoiceBounds, "",
        "Whether each worker lives in a control group (version 2) of its own, with which all that "
        "it has started dies: off, auto (where one can be had), or require (without one nothing is "
        "started). The first call of a new worker may wait some milliseconds longer."),
    row<&S::workers, &S::WorkersSection::memory_max>(
        "workers.memory_max", kNextGeneration, between(0_KiB, {1ULL << 50}), "none",
        "How much memory a worker and all that it starts may use together (memory.max of its "
        "control group); beyond it the kernel kills one of them. Set it before the start: the "
        "daemon then asks for the controller."),
    row<&S::workers, &S::WorkersSection::processes_max>(
        "workers.processes_max", kNextGeneration, {0, 4'000'000}, "none",
        "How many processes and threads a worker and all that it starts may be together (pids.max "
        "of its control group); beyond it they can start no more. As workers.memory_max."),
    row<&S::workers, &S::WorkersSection::drain_timeout>(
        "workers.drain_timeout", kExisting, between(0s, 24h), "do not wait",
        "How long a worker that is being replaced may finish what it runs."),
    row<&S::workers, &S::WorkersSection::kill_timeout>(
        "workers.kill_timeout", kExisting, between(1s, 1h), "",
        "How long a killed worker process may take to die before it is given up and its slot is "
        "filled again."),
    row<&S::workers, &S::WorkersSection::health_every>(
        "workers.health_every", kExisting, between(0s, 24h), "never",
        "How often a worker that is free runs the application's `@keelback.health` functions."),
    row<&S::workers, &S::WorkersSection::health_timeout>(
        "workers.health_timeout", kExisting, between(kTick, 1h), "",
        "How long the health functions of a worker may take. Time in which the worker got no "
        "processor does not count."),

    row<&S::breaker, &S::BreakerSection::failures>(
        "breaker.failures", kExisting, {0, 1'000'000}, "off",
        "A function's circuit opens when at least so many of its latest calls ended by a worker's "
        "death or a running timeout, and breaker.ratio is reached too."),
    row<&S::breaker, &S::BreakerSection::ratio>(
        "breaker.ratio", kExisting, {0, 1}, "breaker.failures alone decides",
        "The share of a function's latest calls that must have failed before its circuit opens."),
    row<&S::breaker, &S::BreakerSection::window>(
        "breaker.window", kExisting, between(kTick, 24h), "",
        "The latest calls of a function are those that ended in this time, but at least the last "
        "20."),
    row<&S::breaker, &S::BreakerSection::open_for>(
        "breaker.open_for", kExisting, between(kTick, 24h), "",
        "How long an open circuit refuses calls before it lets one try."),

    row<&S::quarantine, &S::QuarantineSection::deaths>(
        "quarantine.deaths", kExisting, {0, 1000}, "off",
        "A request (function, session and payload) that killed so many workers in a row is "
        "refused."),
    row<&S::quarantine, &S::QuarantineSection::ttl>("quarantine.ttl", kExisting,
                                                    between(kTick, kDecade), "",
                                                    "How long such a request stays refused."),

    row<&S::server, &S::ServerSection::listen, each_rule<check_listen>>(
        "server.listen", kRestart, {1, 64}, "",
        "Where the daemon listens: host:port (port 0 picks a free one) or unix:/path; other hosts "
        "than this one need server.token."),
    row<&S::server, &S::ServerSection::admin_listen, each_rule<check_listen>>(
        "server.admin_listen", kRestart, {0, 64}, "",
        "The only addresses that offer the operating routes (docs/security.md); the daemon listens "
        "there, too. Without any, all of server.listen offer them."),
    row<&S::server, &S::ServerSection::unix_mode, mode_rule>(
        "server.unix_mode", kRestart, {4, 4}, "",
        "The permissions of unix sockets that the daemon makes, as chmod writes them."),
    row<&S::server, &S::ServerSection::unix_token>(
        "server.unix_token", kExisting, kChoiceBounds, "",
        "Whether requests through a unix socket need server.token, too. Off: the socket's "
        "permissions decide alone."),
    row<&S::server, &S::ServerSection::token, token_rule>(
        "server.token", kExisting, {0, 4096}, "none is asked for",
        "The bearer token that HTTP requests must carry.", true),
    row<&S::server, &S::ServerSection::allowed_hosts, each_rule<check_host_pattern>>(
        "server.allowed_hosts", kExisting, {0, 64}, "",
        "Further names that the Host header of a request without a token may have, such as "
        "api.example.com, api.example.com:8443 or *.example.com."),
    row<&S::server, &S::ServerSection::trusted_proxies, each_rule<check_proxy>>(
        "server.trusted_proxies", kExisting, {0, 64}, "",
        "Addresses of proxies (192.0.2.1, 10.0.0.0/8, ::1), or `unix`, whose Forwarded and "
        "X-Forwarded-For headers name the "
        "client in logs."),
    row<&S::server, &S::ServerSection::cancel_on_disconnect>(
        "server.cancel_on_disconnect", kExisting, kChoiceBounds, "",
        "Which running calls are cancelled when their client has gone: stateless ones, always, or "
        "never."),
    row<&S::server, &S::ServerSection::drain_timeout>(
        "server.drain_timeout", kExisting, between(0s, 24h), "do not wait",
        "How long accepted calls may finish after the first SIGTERM or `keelback drain`."),

    row<&S::cluster, &S::ClusterSection::store, cluster_store_rule>(
        "cluster.store", kRestart, {0, 4096}, "this daemon is alone",
        "The PostgreSQL database that the nodes of a cluster share, as postgres://USER@HOST/NAME.",
        true),
    row<&S::cluster, &S::ClusterSection::node, token_rule>(
        "cluster.node", kRestart, {0, 128}, "the host name",
        "What this node is called; no other node of the cluster has the name. Every reply of HTTP "
        "says it in Keelback-Node."),
    row<&S::cluster, &S::ClusterSection::advertise, node_url_rule>(
        "cluster.advertise", kRestart, {0, 1024}, "",
        "Where the other nodes reach this one: http://HOST:PORT."),
    row<&S::cluster, &S::ClusterSection::token, token_rule>(
        "cluster.token", kRestart, {0, 4096}, "no other node is believed",
        "What the nodes of the cluster sign their requests to each other with; the same on all.",
        true),
    row<&S::cluster, &S::ClusterSection::lease>(
        "cluster.lease", kRestart, between(100ms, 1h), "",
        "After how long without a beat of a node the others take over its sessions; the same on "
        "all nodes."),

    row<&S::log, &S::LogSection::level>("log.level", kExisting, kChoiceBounds, "",
                                        "The least severe messages that are logged."),
    row<&S::log, &S::LogSection::format>(
        "log.format", kExisting, kChoiceBounds, "",
        "How log lines look: text for people, json for programs (one object a line)."),
});

// ---- a field without a row does not compile: the fields are counted by the initialisers that fit

struct Anything {
  template <class T>
  operator T() const;  // never defined: only asked about
};
template <class T, class... Given>
consteval std::size_t fields_of() {
  if constexpr (requires { T{Given{}..., Anything{}}; }) {
    return fields_of<T, Given..., Anything>();
  } else {
    return sizeof...(Given);
  }
}
static_assert(fields_of<Settings>() == 10, "a new section needs its term below");
static_assert(fields_of<S::PoolSection>() + fields_of<S::CallsSection>() +
                      fields_of<S::AttachmentsSection>() + fields_of<S::SessionsSection>() +
                      fields_of<S::WorkersSection>() + fields_of<S::BreakerSection>() +
                      fields_of<S::QuarantineSection>() + fields_of<S::ServerSection>() +
                      fields_of<S::ClusterSection>() + fields_of<S::LogSection>() ==
                  std::tuple_size_v<decltype(kRows)>,
              "every field of Settings has exactly one row");

bool all_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string_view to_string(SettingType type) {
  static constexpr std::array<std::string_view, 8> kNames = {
      "count", "number", "duration", "size", "text", "list", "table", "choice"};
  return kNames[static_cast<std::size_t>(type)];
}

std::string_view to_string(SettingScope scope) {
  static constexpr std::array<std::string_view, 4> kNames = {"existing", "new calls",
                                                             "next generation", "restart"};
  return kNames[static_cast<std::size_t>(scope)];
}

std::span<const SettingRow> settings_schema() { return kRows; }

const SettingRow* find_setting(std::string_view key) {
  const auto found =
      std::find_if(kRows.begin(), kRows.end(), [&](const SettingRow& r) { return r.key == key; });
  return found == kRows.end() ? nullptr : &*found;
}

std::string unknown_setting(std::string_view key) {
  // A key without its section is found by its last part.
  const bool whole = key.find('.') != key.npos;
  const auto shown = [whole](std::string_view known) {
    return whole ? known : known.substr(known.rfind('.') + 1);
  };
  std::vector<std::string_view> words;
  for (const SettingRow& r : kRows) words.push_back(shown(r.key));
  std::string text = "unknown key '" + std::string(key.substr(0, 100)) + "'";
  const std::string_view near = plausible(key, words);
  if (near.empty()) return text;
  const auto row =
      std::find_if(kRows.begin(), kRows.end(), [&](const auto& r) { return shown(r.key) == near; });
  return text + "; did you mean " + std::string(row->key) + "?";
}

std::expected<void, std::string> set_setting(Settings& settings, std::string_view key,
                                             std::string_view text) {
  const SettingRow* found = find_setting(key);
  if (found == nullptr) return std::unexpected(unknown_setting(key));
  auto ok = found->set(*found, settings, text);
  if (!ok) return std::unexpected(std::string(key) + ": " + ok.error());
  return {};
}

namespace {

void check_without_token(const Settings::ServerSection& server,
                         std::vector<SettingConflict>& conflicts) {
  const auto remote = [&](const char* key, const std::vector<std::string>& addresses) {
    const auto found = std::ranges::find_if_not(addresses, is_local_listen);
    if (found == addresses.end()) return false;
    conflicts.push_back({"server.token", std::string(key) + " (" + *found +
                                             ") lets other machines in: set server.token, or "
                                             "listen on 127.0.0.1 or unix:/path"});
    return true;
  };
  if (!remote("server.listen", server.listen)) remote("server.admin_listen", server.admin_listen);
  if (server.unix_token == Switch::kOn) {
    conflicts.push_back(
        {"server.unix_token", "server.unix_token is on, and there is no server.token"});
  }
}

// What a node of a cluster cannot be without, and cannot have.
void check_cluster(const Settings& settings, std::vector<SettingConflict>& conflicts) {
  const auto& cluster = settings.cluster;
  if (cluster.store.empty()) return;
  if (cluster.advertise.empty()) {
    conflicts.push_back({"cluster.advertise",
                         "cluster.store is set, and cluster.advertise is not: other nodes would "
                         "not know where to reach this one"});
  }
  if (cluster.token.empty()) {
    conflicts.push_back({"cluster.token",
                         "cluster.store is set, and cluster.token is not: no node would believe "
                         "another"});
  }
  if (settings.sessions.store != "memory") {
    conflicts.push_back({"sessions.store",
                         "cluster.store is set, so the states of sessions are kept there, and "
                         "sessions.store would not be read: leave it at memory"});
  }
}

void check_size(const Settings& settings, std::vector<SettingConflict>& conflicts) {
  const auto& pool = settings.pool;
  const auto shown = [](const char* key, std::uint32_t value) {
    return std::string(key) + " (" + std::to_string(value) + ")";
  };
  if (pool.workers_max > 0 && pool.workers_max < pool.workers) {
    conflicts.push_back({"pool.workers_max", shown("pool.workers_max", pool.workers_max) +
                                                 " is less than " +
                                                 shown("pool.workers", pool.workers)});
  }
  if (pool.workers_max == 0 && std::min(pool.workers, pool.min_ready) == 0) {
    const char* key = pool.workers == 0 ? "pool.workers" : "pool.min_ready";
    conflicts.push_back(
        {key, std::string(key) + " may be 0 only in a pool that grows: set pool.workers_max"});
    return;
  }
  // A pool that keeps no worker need not say 0 twice.
  if (pool.min_ready > std::max(pool.workers, 1U)) {
    conflicts.push_back({"pool.min_ready", shown("pool.min_ready", pool.min_ready) +
                                               " is more than " +
                                               shown("pool.workers", pool.workers)});
  }
  const bool zygote =
      pool.backend == Backend::kSim ||
      (pool.backend == Backend::kPython && settings.workers.zygote != ZygoteMode::kOff);
  if (pool.ready_from() > 0 || zygote) return;
  const char* key = pool.workers == 0 ? "pool.workers" : "pool.min_ready";
  conflicts.push_back(
      {key,
       std::string(key) +
           " is 0, so the pool is ready when the application is loaded, but workers are "
           "started by exec (" +
           (pool.backend == Backend::kFake ? "pool.backend is fake" : "workers.zygote is off") +
           "), and then nobody loads it before the first worker"});
}

}  // namespace

SettingConflict device_conflict(std::string_view where, std::string_view variable) {
  return {"workers.devices", std::string(where) + " sets " + std::string(variable) +
                                 " already, and workers.devices would overwrite it: unset one of "
                                 "the two"};
}

std::vector<SettingConflict> check_settings(const Settings& settings) {
  std::vector<SettingConflict> conflicts;
  check_size(settings, conflicts);
  if (settings.calls.deadline > settings.calls.deadline_max) {
    conflicts.push_back({"calls.deadline", "calls.deadline (" +
                                               format_duration(settings.calls.deadline) +
                                               ") is longer than calls.deadline_max (" +
                                               format_duration(settings.calls.deadline_max) + ")"});
  }
  if (!settings.workers.devices.empty()) {
    for (const std::string_view name : kDeviceVariables) {
      if (settings.workers.env.contains(std::string(name))) {
        conflicts.push_back(device_conflict("workers.env", name));
      }
    }
  }
  if (settings.server.token.empty()) check_without_token(settings.server, conflicts);
  check_cluster(settings, conflicts);
  return conflicts;
}

std::expected<void, std::string> check_listen(std::string_view address) {
  const std::string shown = "'" + std::string(address.substr(0, 120)) + "'";
  if (address.starts_with("unix:")) {
    // The kernel's limit on the path of a unix socket, its final NUL included, is 108 bytes.
    if (address.size() > 6 && address[5] == '/' && address.size() - 5 < 108) return {};
    return std::unexpected(shown + " needs an absolute path of at most 107 bytes after unix:");
  }
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || colon == 0) {
    return std::unexpected(shown + " is neither host:port nor unix:/path");
  }
  const std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed && host.find_first_of(":[]/ ") != std::string_view::npos) {
    return std::unexpected(shown + " is not host:port (IPv6 goes in brackets: [::1]:8080)");
  }
  if (!all_digits(port) || port.size() > 5 || *parse_count(port) > 65535) {
    return std::unexpected(shown + " has no port from 0 to 65535 after its last colon");
  }
  return {};
}

bool is_local_listen(std::string_view address) {
  if (address.starts_with("unix:")) return true;
  const std::string_view host = address.substr(0, address.rfind(':'));
  if (host == "localhost" || host == "[::1]") return true;
  // 127.x.y.z in digits only: "127.example.org" is a name like any other.
  return host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

}  // namespace keelback
