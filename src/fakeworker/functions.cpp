#include "fakeworker/functions.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <expected>
#include <optional>
#include <set>
#include <thread>

#include "base/json_text.h"
#include "fakeworker/batch.h"

namespace keelback::fakeworker {
namespace {

using Clock = Running::Clock;

Raised type_error(std::string message) {
  return {wire::ErrorKind::kError, "TypeError", std::move(message)};
}

std::optional<std::int64_t> integer(const Json& argument) {
  if (argument.is_number_integer()) return argument.get<std::int64_t>();
  if (argument.is_number_float()) {
    return static_cast<std::int64_t>(std::clamp(argument.get<double>(), -1e15, 1e15));
  }
  return std::nullopt;
}

Raised not_a_number(const Running& running) {
  return type_error(std::string("an integer is required, not ") +
                    running.asked.arguments[0].type_name());
}

Clock::time_point after(std::int64_t ms) {
  constexpr std::int64_t kDay = 24 * 3600 * 1000;
  return Clock::now() + std::chrono::milliseconds(std::clamp<std::int64_t>(ms, 0, kDay));
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written <= 0) return;  // a log that cannot be written is no reason to fail
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

// ---- the functions

Answer echo(Running& running) {
  return Returned{running.asked.arguments[0].dump(-1, ' ', false, Json::error_handler_t::replace)};
}

Raised no_session() {
  return {wire::ErrorKind::kError, "RuntimeError", "this call has no session"};
}

Answer count_in_session(Running& running, bool increment) {
  if (running.asked.session == nullptr) return no_session();
  if (increment) ++running.asked.session->counter;
  return Returned{std::to_string(running.asked.session->counter)};
}
Answer counter(Running& running) { return count_in_session(running, true); }
Answer peek(Running& running) { return count_in_session(running, false); }

Answer sleep(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, true)) return *std::move(stopped);
  return Returned{running.asked.arguments[0].dump()};
}

// Notices the interrupt only, and leaves everything whole.
Answer nap(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, false)) return *std::move(stopped);
  return Returned{running.asked.arguments[0].dump()};
}

// The interpreter is free (a ping is answered) and only an interrupt is noticed.
Answer spin(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  const auto end = after(*ms);
  while (Clock::now() < end) {
    if (auto stopped = running.stopped(false)) return *std::move(stopped);
  }
  return Returned{running.asked.arguments[0].dump()};
}

// A C call that holds the interpreter: nothing is noticed before it is over.
Answer hold(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  {
    const std::lock_guard lock(running.place.marks.interpreter());
    const auto end = after(*ms);
    while (Clock::now() < end) {
    }
  }
  if (auto stopped = running.stopped(false)) return *std::move(stopped);
  return Returned{running.asked.arguments[0].dump()};
}

Answer fail(Running& running) {
  const Json& message = running.asked.arguments[0];
  return Raised{wire::ErrorKind::kError, "ValueError",
                message.is_string() ? message.get<std::string>() : message.dump()};
}

Answer crash(Running& running) {
  const auto number = running.asked.arguments[0].is_null() ? std::optional<std::int64_t>(SIGSEGV)
                                                           : integer(running.asked.arguments[0]);
  if (!number) return not_a_number(running);
  // A sanitizer's handler would turn the signal into an exit.
  ::signal(static_cast<int>(*number), SIG_DFL);
  ::kill(::getpid(), static_cast<int>(*number));
  running.wait(60'000, true);  // another thread takes it, in a moment
  return Returned{"null"};
}

Answer exit_now(Running& running) {
  const auto code = running.asked.arguments[0].is_null() ? std::optional<std::int64_t>(0)
                                                         : integer(running.asked.arguments[0]);
  if (!code) return not_a_number(running);
  ::_exit(static_cast<int>(*code & 0xff));
}

// 0 to count-1, as items or in a list, and so many milliseconds before each.
Answer count_up(Running& running, std::int64_t count, std::optional<std::int64_t> ms) {
  std::string list = "[";
  const std::uint64_t most = running.place.marks.result_max();
  for (std::int64_t i = 0; i < count; ++i) {
    if (ms) {
      if (auto stopped = running.wait(*ms, true)) return *std::move(stopped);
    }
    if (running.asked.stream) {
      if (auto stopped = running.put_item(std::to_string(i))) return *std::move(stopped);
    } else {
      if (auto stopped = running.stopped(true)) return *std::move(stopped);
      if (i > 0) list += ',';
      list += std::to_string(i);
      if (list.size() > most) break;  // it is too large already
    }
  }
  if (running.asked.stream) return Streamed{};
  return Returned{list + "]"};
}

Answer items(Running& running) {
  const auto count = integer(running.asked.arguments[0]);
  if (!count) return not_a_number(running);
  return count_up(running, *count, std::nullopt);
}

Answer pause(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (running.asked.stream) {
    if (auto stopped = running.put_item("0")) return *std::move(stopped);
  }
  if (auto stopped = running.wait(*ms, true)) return *std::move(stopped);
  if (!running.asked.stream) return Returned{"[0,1]"};
  if (auto stopped = running.put_item("1")) return *std::move(stopped);
  return Streamed{};
}

Answer blob(Running& running) {
  const auto bytes = integer(running.asked.arguments[0]);
  if (!bytes) return not_a_number(running);
  const auto size = static_cast<std::uint64_t>(std::max<std::int64_t>(*bytes, 0));
  const std::uint64_t most = running.place.marks.result_max();
  if (size > most) return too_large(size + 2, most);  // nothing is allocated for it
  std::string json;
  json.reserve(size + 2);
  json.append(1, '"').append(size, 'x').append(1, '"');
  return Returned{std::move(json)};
}

Answer log(Running& running) {
  const Json& text = running.asked.arguments[0];
  const auto lines = running.asked.arguments[1].is_null() ? std::optional<std::int64_t>(1)
                                                          : integer(running.asked.arguments[1]);
  if (!lines) return type_error("n: an integer is required");
  const std::string line = (text.is_string() ? text.get<std::string>() : text.dump()) + "\n";
  for (std::int64_t i = 0; i < *lines; ++i) {
    if (auto stopped = running.stopped(false)) return *std::move(stopped);
    write_all(STDOUT_FILENO, line);
  }
  return Returned{std::to_string(*lines)};
}

Answer pid(Running&) { return Returned{std::to_string(::getpid())}; }

Answer unserialisable(Running&) {
  return Raised{wire::ErrorKind::kError, "keelback.ResultError",
                "result is of type object, which JSON cannot write"};
}

// An effect that outlives the worker: a line at the end of a file, in one write.
std::optional<Raised> write_line(const Running& running) {
  const auto& arguments = running.asked.arguments;
  if (!arguments[0].is_string() || !arguments[1].is_string()) {
    return type_error("path and line are strings");
  }
  const int fd = ::open(arguments[0].get_ref<const std::string&>().c_str(),
                        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return Raised{wire::ErrorKind::kError, "OSError", "the file cannot be opened"};
  write_all(fd, arguments[1].get<std::string>() + "\n");
  ::close(fd);
  return std::nullopt;
}

// The line, and `ms` after it.
Answer append_beside(Running& running) {
  if (auto failed = write_line(running)) return *std::move(failed);
  const std::int64_t ms = integer(running.asked.arguments[2]).value_or(0);
  if (auto stopped = running.wait(ms, true)) return *std::move(stopped);
  return Returned{"null"};
}

// And `ms` before it.
Answer append(Running& running) {
  const std::int64_t ms = integer(running.asked.arguments[2]).value_or(0);
  if (auto stopped = running.wait(ms, true)) return *std::move(stopped);
  return append_beside(running);
}

Answer ended(Running& running) {
  Json list = Json::array();
  for (const auto& [id, reason] : running.place.sessions.ended())
    list.push_back(Json::array({id, reason}));
  return Returned{list.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

Answer litter(Running& running) {
  running.unclean = true;
  return Returned{"null"};
}

// State that no snapshot can carry.
Answer spoil(Running& running) {
  if (running.asked.session == nullptr) return no_session();
  running.asked.session->spoilt = true;
  return Returned{"null"};
}

// ---- calls that run beside each other

constexpr std::uint32_t kTogether = 64;

// Counts, and waits amid it.
Answer count_together(Running& running) {
  Session* session = running.asked.session.get();
  if (session == nullptr) return no_session();
  const std::uint64_t calls = session->counter + 1;
  if (auto stopped = running.wait(0, true)) return *std::move(stopped);
  session->counter = calls;
  return Returned{std::to_string(calls)};
}

Answer together(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, true)) return *std::move(stopped);
  return Returned{running.asked.arguments[0].dump()};
}

// Heeds nothing. On the loop it keeps that from turning.
Answer block(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  std::this_thread::sleep_until(after(*ms));
  return Returned{running.asked.arguments[0].dump()};
}

Answer together_die(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, true)) return *std::move(stopped);
  ::kill(::getpid(), SIGKILL);
  return Returned{"null"};
}

// As together_die, but the marks tell whose end it was.
Answer together_crash(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, true)) return *std::move(stopped);
  running.place.marks.note_end(running.asked.row, SIGSEGV);
  ::kill(::getpid(), SIGSEGV);  // the main thread takes it, in a moment
  while (true) ::pause();
}

Answer together_exit(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, true)) return *std::move(stopped);
  running.place.marks.note_end(running.asked.row, 0);
  ::_exit(3);
}

Answer together_stream(Running& running) {
  const auto count = integer(running.asked.arguments[0]);
  if (!count) return not_a_number(running);
  return count_up(running, *count, integer(running.asked.arguments[1]).value_or(0));
}

// Swallows every cancel.
Answer together_stuck(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, false)) return *std::move(stopped);
  return Returned{running.asked.arguments[0].dump()};
}

// Ends by an interrupt only.
Answer threads_late(Running& running) {
  const auto ms = integer(running.asked.arguments[0]);
  if (!ms) return not_a_number(running);
  if (auto stopped = running.wait(*ms, false)) return *std::move(stopped);
  return Returned{running.asked.arguments[0].dump()};
}

// ---- calls that go together

// Takes as long as the longest of its calls. Any of them may fail alone, spoil the list for all, or
// end the process; `stuck` ends by a kill only.
std::vector<Answer> gather(BatchRun& running) {
  const std::size_t count = running.calls.size();
  const auto any = [&running](std::string_view act) {
    return std::ranges::any_of(running.calls,
                               [act](const Asked& each) { return each.arguments[1] == act; });
  };
  std::int64_t longest = 0;
  for (const Asked& each : running.calls) {
    longest = std::max(longest, integer(each.arguments[0]).value_or(0));
  }
  const bool stuck = any("stuck");
  const auto end = after(longest);
  do {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    if (auto stopped = running.wait(left, true); stopped && !stuck) {
      return std::vector<Answer>(count, *stopped);
    }
  } while (stuck && Clock::now() < end);
  if (any("die")) {
    ::signal(SIGSEGV, SIG_DFL);
    ::kill(::getpid(), SIGSEGV);
    running.wait(60'000, true);  // another thread takes it, in a moment
  }
  if (any("short")) {
    return std::vector<Answer>(
        count, type_error("gather took a batch of " + std::to_string(count) +
                          " calls and returned " + std::to_string(count - 1) + " results"));
  }
  std::vector<Answer> answers;
  for (const Asked& each : running.calls) {
    if (each.arguments[1] == "raise") {
      answers.emplace_back(Raised{wire::ErrorKind::kError, "ValueError", "this call was to fail"});
    } else {
      answers.emplace_back(Returned{each.arguments[0].dump()});
    }
  }
  return answers;
}

// ---- calls out

// The parameters: a name, arguments and, of a function, a session and a timeout in seconds.
Answer call_out(Running& running, wire::NestedTarget target) {
  const auto& arguments = running.asked.arguments;
  if (!arguments[0].is_string()) return type_error("the name of a function is a str");
  const std::string name = arguments[0].get<std::string>();
  const std::string payload =
      arguments[1].is_null() ? "[]"
                             : arguments[1].dump(-1, ' ', false, Json::error_handler_t::replace);
  wire::NestedMessage nested{.target = target, .name = name, .payload = payload};
  std::string session;
  if (arguments.size() > 2 && arguments[2].is_string()) session = arguments[2].get<std::string>();
  nested.session = session;
  if (arguments.size() > 3 && arguments[3].is_number()) {
    nested.timeout_ns =
        static_cast<std::int64_t>(std::clamp(arguments[3].get<double>() * 1e9, 1.0, 1e18));
  }
  return running.call_out(nested);
}
Answer relay(Running& running) { return call_out(running, wire::NestedTarget::kFunction); }
Answer ask_host(Running& running) { return call_out(running, wire::NestedTarget::kHost); }

// ---- attachments

Answer attach_echo(Running& running) {
  Returned returned{"["};
  for (const Carried& each : running.asked.carried) {
    if (returned.json.size() > 1) returned.json += ',';
    const Json place = Json::object({{"$attachment", each.name}});
    returned.json += place.dump(-1, ' ', false, Json::error_handler_t::replace);
    returned.attached.push_back(
        {each.name, each.bytes, each.dtype, each.shape, each.filename, each.content_type});
  }
  returned.json += "]";
  return returned;
}

// [bytes, sum of all bytes] each.
Answer attach_sum(Running& running) {
  Json list = Json::array();
  for (const Carried& each : running.asked.carried) {
    std::uint64_t sum = 0;
    for (const char byte : each.bytes) sum += static_cast<unsigned char>(byte);
    list.push_back({each.bytes.size(), sum});
  }
  return Returned{list.dump()};
}

Answer attach_make(Running& running) {
  const auto count = integer(running.asked.arguments[0]);
  const auto bytes = integer(running.asked.arguments[1]);
  if (!count || !bytes) return not_a_number(running);
  Returned returned{"["};
  for (std::int64_t i = 0; i < *count; ++i) {
    if (i > 0) returned.json += ',';
    returned.json += Json::object({{"$attachment", std::to_string(i)}}).dump();
    returned.attached.push_back(
        {std::to_string(i), std::string(static_cast<std::size_t>(std::max<std::int64_t>(*bytes, 0)),
                                        static_cast<char>('a' + i % 26))});
  }
  returned.json += "]";
  return returned;
}

// Looks at shared memory after its call, as a function with zero_copy=True may.
Answer attach_keep(Running& running) {
  const auto& carried = running.asked.carried;
  return Returned{!carried.empty() && running.place.attachments.look_on(carried.front()) ? "true"
                                                                                         : "false"};
}
Answer attach_seen(Running& running) {
  std::uint64_t sum = 0;
  for (const char byte : running.place.attachments.seen()) sum += static_cast<unsigned char>(byte);
  return Returned{std::to_string(sum)};
}
Answer attach_drop(Running& running) {
  running.place.attachments.look_away();
  return Returned{"null"};
}

constexpr Parameter kNAndBytes[] = {{"n", "int", true}, {"bytes", "int", true}};
constexpr Parameter kRelay[] = {{"function", "str", true},
                                {"arguments", nullptr, false},
                                {"session", "str", false},
                                {"timeout", "float", false}};
constexpr Parameter kAskHost[] = {{"name", "str", true}, {"arguments", nullptr, false}};
constexpr Parameter kValue[] = {{"value", nullptr, true}};
constexpr Parameter kMs[] = {{"ms", "int", true}};
constexpr Parameter kMsAndAct[] = {{"ms", "int", true}, {"act", "str", false}};
constexpr Parameter kMessage[] = {{"message", "str", true}};
constexpr Parameter kSignal[] = {{"signal", "int", false}};
constexpr Parameter kCode[] = {{"code", "int", false}};
constexpr Parameter kN[] = {{"n", "int", true}};
constexpr Parameter kTyped[] = {{"n", "int", true, true}};
constexpr Parameter kBytes[] = {{"bytes", "int", true}};
constexpr Parameter kNAndMs[] = {{"n", "int", true}, {"ms", "int", false}};
constexpr Parameter kTextAndN[] = {{"text", "str", true}, {"n", "int", false}};
constexpr Parameter kPathAndLine[] = {
    {"path", "str", true}, {"line", "str", true}, {"ms", "int", false}};

constexpr Function kFunctions[] = {
    {"append", "Appends a line to a file.", false, false, kPathAndLine, append},
    {"append_threads", "Appends a line to a file, beside others.", false, false, kPathAndLine,
     append_beside, false, 8},
    {"append_together", "Appends a line to a file, and waits on the event loop.", false, false,
     kPathAndLine, append_beside, false, kTogether, true},
    {"ask_host", "Calls a function of the program, and answers its answer.", false, false, kAskHost,
     ask_host},
    {"ask_host_together", "The same, and waits on the event loop.", false, false, kAskHost,
     ask_host, false, kTogether, true},
    {"attach_drop", "Looks at nothing any more.", false, false, {}, attach_drop},
    {"attach_echo", "Answers its attachments.", true, false, {}, attach_echo},
    {"attach_keep", "Looks at its first attachment after its end.", false, false, {}, attach_keep},
    {"attach_make", "Answers n attachments of so many bytes.", true, false, kNAndBytes,
     attach_make},
    {"attach_seen", "The sum of what it looks at.", false, false, {}, attach_seen},
    {"attach_sum", "The size and the sum of each attachment.", true, false, {}, attach_sum},
    {"blob", "Answers so many x.", false, false, kBytes, blob},
    {"count", "How often the session was counted, this call included.", false, false, {}, counter},
    {"count_together",
     "Counts, and waits on the event loop amid it.",
     false,
     false,
     {},
     count_together,
     false,
     kTogether,
     true},
    {"counter", "The same as count.", false, false, {}, counter},
    {"crash", "Dies of a signal.", false, false, kSignal, crash},
    {"echo", "Answers its argument.", true, false, kValue, echo},
    {"ended", "The sessions that ended here, and why.", false, false, {}, ended},
    {"exit", "Leaves at once, with a code.", false, false, kCode, exit_now},
    {"fail", "Raises ValueError.", false, false, kMessage, fail},
    {.name = "gather",
     .doc = "Takes as long as the longest of its calls.",
     .idempotent = false,
     .stream = false,
     .parameters = kMsAndAct,
     .run = nullptr,
     .batch = 32,
     .batch_wait = 0.002,
     .run_together = gather},
    {.name = "gather_wait",
     .doc = "The same as gather, and its calls wait long for each other.",
     .idempotent = false,
     .stream = false,
     .parameters = kMsAndAct,
     .run = nullptr,
     .batch = 4,
     .batch_wait = 60,
     .run_together = gather},
    {"hold", "Holds the interpreter.", false, false, kMs, hold},
    {"items", "Streams 0 to n-1.", false, true, kN, items},
    {"litter", "Leaves something behind.", false, false, {}, litter},
    {"log", "Prints a text n times.", false, false, kTextAndN, log},
    {"nap", "Waits; heeds interrupt, and leaves everything whole.", false, false, kMs, nap, true},
    {"pause", "Streams 0 and, after so many milliseconds, 1.", false, true, kMs, pause},
    {"peek", "The session's count, unchanged.", false, false, {}, peek},
    {"pid", "The worker's process id.", true, false, {}, pid},
    {"relay", "Calls another function, and answers its answer.", false, false, kRelay, relay},
    {"relay_together", "The same, and waits on the event loop.", false, false, kRelay, relay, false,
     kTogether, true},
    {"sleep", "Waits; heeds cancel and interrupt.", true, false, kMs, sleep},
    {"spin", "Computes; heeds interrupt.", false, false, kMs, spin},
    {"spoil", "Gives the session a state that cannot be saved.", false, false, {}, spoil},
    {"threads", "Waits beside others; heeds cancel and interrupt.", false, false, kMs, sleep, false,
     8},
    {"threads_crash", "Waits beside others, and dies of a signal.", false, false, kMs,
     together_crash, false, 8},
    {"threads_late", "Waits beside others; heeds interrupt.", false, false, kMs, threads_late,
     false, 8},
    {"threads_stuck", "Waits beside others; heeds nothing.", false, false, kMs, block, false, 8},
    {"together", "Waits on the event loop.", false, false, kMs, together, false, kTogether, true},
    {"together_block", "Keeps the event loop from turning.", false, false, kMs, block, false,
     kTogether, true},
    {"together_crash", "Waits on the event loop, and dies of a signal.", false, false, kMs,
     together_crash, false, kTogether, true},
    {"together_die", "Waits on the event loop, and dies.", false, false, kMs, together_die, false,
     kTogether, true},
    {"together_exit", "Waits on the event loop, and leaves with a code.", false, false, kMs,
     together_exit, false, kTogether, true},
    {"together_stream", "Streams 0 to n-1 from the event loop.", false, true, kNAndMs,
     together_stream, false, kTogether, true},
    {"together_stuck", "Waits on the event loop; swallows every cancel.", false, false, kMs,
     together_stuck, false, kTogether, true},
    {"typed", "Answers its argument, an int.", true, false, kTyped, echo},
    {"unserialisable", "Answers what JSON cannot write.", false, false, {}, unserialisable},
};

Raised bad_request(std::string message) {
  return {wire::ErrorKind::kBadRequest, "TypeError", std::move(message)};
}

Raised misfit(const Parameter& parameter) {
  const std::string reason = "Input should be a valid integer";
  return {wire::ErrorKind::kBadRequest, "keelback.ValidationError",
          std::string("argument \"") + parameter.name + "\": " + reason,
          Json::array({{{"loc", {parameter.name}}, {"msg", reason}, {"type", "int_type"}}})};
}

Raised too_many(const Function& function, std::size_t given) {
  const std::size_t takes = function.parameters.size();
  return bad_request(std::string(function.name) + "() takes " + std::to_string(takes) +
                     " positional argument" + (takes == 1 ? "" : "s") + " but " +
                     std::to_string(given) + (given == 1 ? " was" : " were") + " given");
}

}  // namespace

namespace {

// As python/keelback/decoding.py: a key that is there twice is refused. The error is a sentence.
std::expected<Json, std::string> parse_arguments(std::string_view payload) {
  if (payload.empty()) return Json::object();
  if (!json_nests_within(payload, kJsonNestingMax)) {
    return std::unexpected("the arguments nest too deep");
  }
  std::vector<std::set<std::string>> open;  // the keys of each object that has not ended
  std::optional<std::string> twice;
  Json value = Json::parse(
      payload,
      [&](int, Json::parse_event_t event, const Json& parsed) {
        if (event == Json::parse_event_t::object_start) open.emplace_back();
        if (event == Json::parse_event_t::object_end) open.pop_back();
        if (event == Json::parse_event_t::key &&
            !open.back().insert(parsed.get<std::string>()).second) {
          twice = parsed.dump();
        }
        return true;
      },
      false);
  if (value.is_discarded()) return std::unexpected("the arguments are not JSON");
  if (twice) return std::unexpected("the arguments have the key " + *twice + " twice");
  return value;
}

}  // namespace

std::span<const Function> standard_functions() { return kFunctions; }

const Function* find_function(std::string_view name) {
  const auto* found =
      std::ranges::find_if(kFunctions, [&](const Function& each) { return name == each.name; });
  return found == std::end(kFunctions) ? nullptr : found;
}

Json describe(const Function& function) {
  Json parameters = Json::array();
  for (const Parameter& parameter : function.parameters) {
    parameters.push_back({{"name", parameter.name},
                          {"kind", "positional_or_keyword"},
                          {"required", parameter.required},
                          {"type", parameter.type ? Json(parameter.type) : Json(nullptr)}});
    if (parameter.checked) parameters.back()["schema"] = {{"type", "integer"}};
  }
  return {{"name", function.name},
          {"doc", function.doc},
          {"idempotent", function.idempotent},
          {"stream", function.stream},
          {"async", function.async},
          {"timeout", nullptr},
          {"max_workers", 0},
          {"concurrency", function.concurrency},
          {"batch", function.batch},
          {"batch_wait", function.batch_wait},
          {"interruptible", function.interruptible},
          {"params", std::move(parameters)}};
}

std::variant<std::vector<Json>, Raised> bind(const Function& function, std::string_view payload) {
  auto parsed = parse_arguments(payload);
  if (!parsed) {
    return Raised{wire::ErrorKind::kBadRequest, "ValueError", std::move(parsed.error())};
  }
  Json& given = *parsed;
  if (!given.is_object() && !given.is_array()) {
    return bad_request("arguments are a JSON object (keywords) or an array (positions)");
  }
  const auto parameters = function.parameters;
  std::vector<Json> bound(parameters.size());
  std::vector<bool> has(parameters.size(), false);
  if (given.is_array()) {
    if (given.size() > parameters.size()) return too_many(function, given.size());
    for (std::size_t i = 0; i < given.size(); ++i) {
      bound[i] = std::move(given[i]);
      has[i] = true;
    }
  } else {
    for (auto& [key, value] : given.items()) {
      const auto found = std::ranges::find_if(
          parameters, [&](const Parameter& parameter) { return key == parameter.name; });
      if (found == parameters.end()) {
        return bad_request(std::string(function.name) + "() got an unexpected keyword argument '" +
                           key + "'");
      }
      const auto index = static_cast<std::size_t>(found - parameters.begin());
      bound[index] = std::move(value);
      has[index] = true;
    }
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (parameters[i].required && !has[i]) {
      return bad_request(std::string(function.name) +
                         "() missing 1 required positional argument: '" + parameters[i].name + "'");
    }
    if (parameters[i].checked && !bound[i].is_number_integer()) return misfit(parameters[i]);
  }
  return bound;
}

}  // namespace keelback::fakeworker
