#include "sim/model.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "sim/json_text.h"

namespace keelback::sim {
namespace {

using Json = nlohmann::json;

enum class Function : std::uint8_t {
  kAttachEcho,
  kBlob,
  kCount,
  kCounter,
  kCrash,
  kEcho,
  kExit,
  kFail,
  kGather,
  kHold,
  kItems,
  kLog,
  kNap,
  kPause,
  kPeek,
  kPid,
  kRelay,
  kSleep,
  kSpin,
  kSpoil,
  kThreads,
  kThreadsCrash,
  kThreadsStuck,
  kTogether,
  kRelayTogether,
  kTogetherBlock,
  kTogetherCount,
  kTogetherCrash,
  kTogetherDie,
  kTogetherExit,
  kTogetherStream,
  kTogetherStuck,
  kTyped,
  kUnserialisable,
  kExposed,
};

struct Standard {
  std::string_view name;
  Function function;
  const char* parameter;  // the first one; null: none
  const char* type;
  bool required;
  bool idempotent = false;
  bool interruptible = false;
  std::uint32_t concurrency = 1;
  std::uint32_t batch = 0;
  Duration batch_wait{0};
};
// Async functions whose calls run together; together_stream takes `ms` too.
constexpr std::uint32_t kTogether = 64;
constexpr Duration kCountsAmid = std::chrono::milliseconds(5);  // a call of count_together waits
// What every test application of ours offers, in name order.
constexpr Standard kStandard[] = {
    {"attach_echo", Function::kAttachEcho, nullptr, "", false, true},
    {"blob", Function::kBlob, "bytes", "int", true},
    {"count", Function::kCount, nullptr, "", false},
    {"count_together", Function::kTogetherCount, nullptr, "", false, false, false, kTogether},
    {"counter", Function::kCounter, nullptr, "", false},
    {"crash", Function::kCrash, "signal", "int", true},
    {"echo", Function::kEcho, "value", "", true, true},
    {"exit", Function::kExit, "code", "int", true},
    {"fail", Function::kFail, "message", "str", true},
    {"gather", Function::kGather, "ms", "int", true, false, false, 1, 32,
     std::chrono::milliseconds(2)},
    {"gather_wait", Function::kGather, "ms", "int", true, false, false, 1, 4,
     std::chrono::minutes(1)},
    {"hold", Function::kHold, "ms", "int", true},
    {"items", Function::kItems, "n", "int", true},
    {"log", Function::kLog, "text", "str", true},
    {"nap", Function::kNap, "ms", "int", true, false, true},
    {"pause", Function::kPause, "ms", "int", true},
    {"peek", Function::kPeek, nullptr, "", false},
    {"pid", Function::kPid, nullptr, "", false, true},
    {"relay", Function::kRelay, "function", "str", true},
    {"relay_together", Function::kRelayTogether, "function", "str", true, false, false, kTogether},
    {"sleep", Function::kSleep, "ms", "int", true, true},
    {"spin", Function::kSpin, "ms", "int", true},
    {"spoil", Function::kSpoil, nullptr, "", false},
    {"threads", Function::kThreads, "ms", "int", true, false, false, 8},
    {"threads_crash", Function::kThreadsCrash, "ms", "int", true, false, false, 8},
    {"threads_stuck", Function::kThreadsStuck, "ms", "int", true, false, false, 8},
    {"together", Function::kTogether, "ms", "int", true, false, false, kTogether},
    {"together_block", Function::kTogetherBlock, "ms", "int", true, false, false, kTogether},
    {"together_crash", Function::kTogetherCrash, "ms", "int", true, false, false, kTogether},
    {"together_die", Function::kTogetherDie, "ms", "int", true, false, false, kTogether},
    {"together_exit", Function::kTogetherExit, "ms", "int", true, false, false, kTogether},
    {"together_stream", Function::kTogetherStream, "n", "int", true, false, false, kTogether},
    {"together_stuck", Function::kTogetherStuck, "ms", "int", true, false, false, kTogether},
    {"typed", Function::kTyped, "n", "int", true, true},
    {"unserialisable", Function::kUnserialisable, nullptr, "", false},
};

bool streams(Function function) {
  return function == Function::kItems || function == Function::kPause ||
         function == Function::kTogetherStream;
}
bool is_async(Function function) {
  return function >= Function::kTogether && function <= Function::kTogetherStuck;
}
// A second parameter, which need not be given; null: there is none.
const char* second_parameter(Function function) {
  if (function == Function::kLog) return "n";
  if (function == Function::kGather) return "act";
  return function == Function::kTogetherStream ? "ms" : nullptr;
}

void raise(Script& script, Script::Ending ending, std::string type, std::string message) {
  script.ending = ending;
  script.error.traceback =
      "Traceback (most recent call last):\n  (model)\n" + type + ": " + message + "\n";
  script.error.type = std::move(type);
  script.error.message = std::move(message);
}

void bad_arguments(Script& script, std::string message) {
  script.busy = Duration{0};
  raise(script, Script::Ending::kBadRequest, "TypeError", std::move(message));
}

void misfit(Script& script, const std::string& parameter) {
  const std::string reason = "Input should be a valid integer";
  script.busy = Duration{0};
  raise(script, Script::Ending::kBadRequest, "keelback.ValidationError",
        "argument \"" + parameter + "\": " + reason);
  script.error.traceback.clear();  // the arguments are at fault, not a line of code
  script.error.errors =
      R"([{"loc":[")" + parameter + R"("],"msg":")" + reason + R"(","type":"int_type"}])";
}

void die(Script& script, std::optional<int> signal, std::optional<int> code) {
  script.ending = Script::Ending::kDie;
  script.death.cause = signal ? "signal" : "exit";
  script.death.signal = signal;
  script.death.exit_code = code;
  script.death.oom_suspected = signal == 9;
  script.death.detail = signal ? "killed by signal " + std::to_string(*signal)
                               : "exited with code " + std::to_string(*code);
}

// A list of 0 … n-1, for a stream that nobody takes as one.
std::string number_list(std::uint64_t n, std::uint64_t bytes_max) {
  std::string list = "[";
  for (std::uint64_t i = 0; i < n && list.size() <= bytes_max; ++i) {
    if (i > 0) list += ", ";
    list += std::to_string(i);
  }
  return list += ']';
}

std::string places_of(const Attachments& attachments) {
  Json list = Json::array();
  for (std::size_t i = 0; i < attachments.size(); ++i) {
    const std::string& name = attachments[i].name;
    list.emplace_back(Json::object())["$attachment"] = name.empty() ? std::to_string(i) : name;
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The text of a JSON string; of any other value its JSON.
std::string text_of(std::string_view raw) {
  const Json value = Json::parse(raw, nullptr, /*allow_exceptions=*/false);
  return value.is_string() ? value.get<std::string>() : std::string(raw);
}

void count(Script& script, SessionState* session, bool increment) {
  if (session == nullptr) {
    raise(script, Script::Ending::kRaise, "RuntimeError", "this call has no session");
    return;
  }
  if (increment) ++session->counter;
  script.result = std::to_string(session->counter);
}

bool relays(Function function) {
  return function == Function::kRelay || function == Function::kRelayTogether;
}

// relay(function, arguments=[], session=None, timeout=None), by keywords or by position.
void relay(Script& script, const Call& call) {
  static constexpr const char* kNames[] = {"function", "arguments", "session", "timeout"};
  Json given = Json::parse(call.payload, nullptr, /*allow_exceptions=*/false);
  if (given.is_array()) {
    Json named = Json::object();
    for (std::size_t i = 0; i < given.size() && i < std::size(kNames); ++i) {
      named[kNames[i]] = given[i];
    }
    given = std::move(named);
  }
  const Json function = given.value("function", Json());
  if (!function.is_string()) return bad_arguments(script, "relay takes a function's name");
  Call nested;
  nested.function = function.get<std::string>();
  nested.payload = given.value("arguments", Json::array()).dump();
  const Json session = given.value("session", Json()), timeout = given.value("timeout", Json());
  if (session.is_string()) nested.session = session.get<std::string>();
  if (timeout.is_number()) {
    nested.deadline = Duration(static_cast<Duration::rep>(timeout.get<double>() * 1e9));
  }
  script.nested = std::move(nested);
  script.heeds_cancel = true;
}

// The functions whose argument is a number: of milliseconds, items, bytes, a signal or a code.
// Long, because each function has its case.
void numeric(Script& script, Function function, std::int64_t n,
             const Application::Circumstances& around) {
  const auto positive = static_cast<std::uint64_t>(std::max<std::int64_t>(n, 0));
  // A century in milliseconds: longer than any run, far from overflow.
  const Duration spell =
      std::chrono::milliseconds(std::min<std::uint64_t>(positive, 3'155'760'000'000));
  switch (function) {
    case Function::kTogether:
      script.busy = spell;
      script.heeds_cancel = true;
      script.result = std::to_string(n);
      break;
    case Function::kTogetherBlock:
      script.busy = spell;
      script.blocks_loop = true;
      script.heeds_interrupt = false;
      script.result = std::to_string(n);
      break;
    case Function::kTogetherDie:
      die(script, 9, std::nullopt);
      script.busy = spell;
      script.heeds_cancel = true;
      break;
    case Function::kTogetherCrash:
    case Function::kThreadsCrash:
      die(script, 11, std::nullopt);
      script.busy = spell;
      script.known = true;
      script.heeds_cancel = function == Function::kTogetherCrash;
      break;
    case Function::kTogetherExit:
      die(script, std::nullopt, 3);
      script.busy = spell;
      script.known = true;
      script.heeds_cancel = true;
      break;
    case Function::kThreadsStuck:
    case Function::kTogetherStuck:
      script.busy = spell;
      script.heeds_interrupt = false;
      script.result = std::to_string(n);
      break;
    case Function::kTyped:
      script.result = std::to_string(n);
      break;
    case Function::kGather:
    case Function::kNap:
    case Function::kSleep:
    case Function::kSpin:
    case Function::kThreads:
      script.busy = spell;
      script.result = std::to_string(n);
      break;
    case Function::kHold:
      script.busy = spell;
      script.heeds_interrupt = false;
      script.result = std::to_string(n);
      break;
    case Function::kPause:
      script.busy = spell;
      script.heeds_cancel = true;
      script.items = around.stream ? 2 : 0;
      script.result = around.stream ? "" : "[0, 1]";
      break;
    case Function::kItems:
    case Function::kTogetherStream:
      script.heeds_cancel = true;
      if (around.stream) {
        script.items = positive;
        script.result.clear();
      } else {
        script.result = number_list(positive, around.result_max);
      }
      break;
    case Function::kBlob:
      if (positive <= around.result_max) {
        script.result = '"' + std::string(positive, 'x') + '"';
      } else {
        script.result.assign(around.result_max + 1, 'x');
      }
      break;
    case Function::kCrash:
      die(script, static_cast<int>(n), std::nullopt);
      break;
    case Function::kExit:
      die(script, std::nullopt, static_cast<int>(n));
      break;
    default:
      break;
  }
}

// What becomes of a call of gather().
void act(Script& script, const std::string& what) {
  if (script.ending != Script::Ending::kReturn) return;
  if (what == "raise") {
    raise(script, Script::Ending::kRaise, "ValueError", "this call was to fail");
  } else if (what == "die") {
    die(script, 11, std::nullopt);
  } else if (what == "short") {
    script.wrong_length = true;
    raise(script, Script::Ending::kRaise, "TypeError",
          "the function took a batch and returned a list of another length");
  }
}

void with_argument(Script& script, const Standard& known, std::optional<std::string_view> raw,
                   const Application::Circumstances& around) {
  if (!raw && known.required) {
    bad_arguments(script, "missing a required argument: '" + std::string(known.parameter) + "'");
    return;
  }
  if (known.function == Function::kEcho) {
    script.result = *raw;
    return;
  }
  if (known.function == Function::kFail) {
    raise(script, Script::Ending::kRaise, "ValueError", text_of(*raw));
    return;
  }
  const auto number = as_integer(*raw);
  if (!number && known.function == Function::kTyped) return misfit(script, known.parameter);
  if (!number) {
    raise(script, Script::Ending::kRaise, "TypeError", std::string(known.name) + ": not a number");
    return;
  }
  numeric(script, known.function, *number, around);
}

}  // namespace

Duration Spread::sample(Prng& prng) const {
  const auto between = [&prng](Duration from, Duration to) {
    if (to <= from) return from;
    return from + Duration(static_cast<Duration::rep>(
                      prng.below(static_cast<std::uint64_t>((to - from).count()) + 1)));
  };
  if (tail_chance > 0 && prng.chance(tail_chance)) return between(high, tail);
  return between(low, high);
}

Application::Application(std::vector<std::string> exposed,
                         const std::map<std::string, std::uint32_t>& concurrency)
    : exposed_(std::move(exposed)) {
  for (const Standard& known : kStandard) {
    core::FunctionSpec spec;
    spec.name = known.name;
    spec.stream = streams(known.function);
    spec.concurrency = known.concurrency;
    spec.batch = known.batch;
    spec.batch_wait = known.batch_wait;
    spec.idempotent = known.idempotent;
    spec.interruptible = known.interruptible;
    functions_.push_back(std::move(spec));
  }
  for (const std::string& name : exposed_) {
    if (std::ranges::any_of(functions_, [&](const auto& spec) { return spec.name == name; })) {
      continue;
    }
    core::FunctionSpec spec;
    spec.name = name;
    functions_.push_back(std::move(spec));
  }
  set_concurrency(concurrency);
}

std::uint32_t Application::concurrency(std::string_view function) const {
  const auto found = std::ranges::find(functions_, function, &core::FunctionSpec::name);
  return found == functions_.end() ? 1 : found->concurrency;
}

void Application::set_concurrency(const std::map<std::string, std::uint32_t>& concurrency) {
  for (core::FunctionSpec& spec : functions_) {
    if (const auto found = concurrency.find(spec.name); found != concurrency.end()) {
      spec.concurrency = found->second;
    }
  }
}

keelback::Application Application::describe() const {
  keelback::Application out{.name = "model", .runtime = "sim", .health = false, .functions = {}};
  for (const core::FunctionSpec& spec : functions_) {
    FunctionInfo& function = out.functions.emplace_back();
    function.name = spec.name;
    function.idempotent = spec.idempotent;
    function.stream = spec.stream;
    function.interruptible = spec.interruptible;
    function.concurrency = spec.concurrency;
    function.batch = spec.batch;
    function.batch_wait = spec.batch_wait;
    const auto* known = std::ranges::find(kStandard, spec.name, &Standard::name);
    if (known != std::end(kStandard) && known->parameter != nullptr) {
      function.parameters.push_back(
          {known->parameter, "positional_or_keyword", known->type, known->required});
      if (known->function == Function::kTyped) {
        function.parameters.back().schema = R"({"type":"integer"})";
      }
    }
    function.async = known != std::end(kStandard) && is_async(known->function);
  }
  return out;
}

// Long, because every function and every way to call it wrongly has its case.
Script Application::script(const Call& call, const Circumstances& around) const {
  Script script;
  script.busy = around.service;
  script.result = "null";
  const auto* known =
      std::ranges::find(kStandard, std::string_view(call.function), &Standard::name);
  if (known == std::end(kStandard) &&
      std::ranges::find(exposed_, call.function) == exposed_.end()) {
    script.busy = Duration{0};
    raise(script, Script::Ending::kUnknownFunction, "LookupError",
          "the application has no function '" + call.function + "'");
    return script;
  }
  const auto arguments = read_arguments(call.payload);
  if (!arguments) {
    bad_arguments(script, "the arguments are neither a JSON object nor a JSON array");
    return script;
  }
  if (known == std::end(kStandard)) {
    if (arguments->count > 0) script.result = arguments->items[0].raw;
    return script;
  }
  script.on_loop = is_async(known->function);
  const char* second = second_parameter(known->function);
  if (relays(known->function)) {
    relay(script, call);
    return script;
  }
  const std::size_t taken = second != nullptr ? 2 : (known->parameter != nullptr ? 1 : 0);
  if (arguments->count > taken) {
    bad_arguments(script, "too many arguments");
    return script;
  }
  for (std::size_t i = 0; i < arguments->count; ++i) {
    const std::string_view name = arguments->items[i].name;
    if (!name.empty() && name != known->parameter && !(second != nullptr && name == second)) {
      bad_arguments(script, "got an unexpected keyword argument '" + std::string(name) + "'");
      return script;
    }
  }
  switch (known->function) {
    case Function::kLog: {
      const auto lines = arguments->find(1, "n");
      if (!lines || !arguments->find(0, "text")) {
        bad_arguments(script, "missing a required argument: 'text' or 'n'");
      } else {
        script.result = *lines;
      }
      break;
    }
    case Function::kAttachEcho:
      script.result = places_of(call.attachments);
      script.attachments = call.attachments;
      break;
    case Function::kCount:
    case Function::kCounter:
      count(script, around.session, true);
      break;
    case Function::kTogetherCount:
      count(script, around.session, true);
      script.busy = kCountsAmid;
      script.heeds_cancel = true;
      break;
    case Function::kPeek:
      count(script, around.session, false);
      break;
    case Function::kSpoil:
      count(script, around.session, false);
      if (around.session != nullptr) {
        around.session->spoilt = true;
        script.result = "null";
      }
      break;
    case Function::kPid:
      script.result = std::to_string(around.pid);
      break;
    case Function::kUnserialisable:
      raise(script, Script::Ending::kRaise, "TypeError",
            "Object of type object is not JSON serializable");
      break;
    default:
      with_argument(script, *known,
                    known->parameter ? arguments->find(0, known->parameter) : std::nullopt, around);
  }
  if (known->function == Function::kTogetherStream && around.stream) {
    const auto pause = arguments->find(1, "ms");
    if (const auto ms = as_integer(pause.value_or("0"))) {
      script.busy = std::chrono::milliseconds(std::clamp<std::int64_t>(*ms, 0, 86'400'000));
    }
  }
  if (known->function == Function::kGather) {
    act(script, text_of(arguments->find(1, "act").value_or("\"\"")));
  }
  if (script.ending == Script::Ending::kReturn && script.result.size() > around.result_max) {
    raise(script, Script::Ending::kRaise, "ResultTooLarge",
          "the result is larger than calls.payload_max");
    script.result.clear();
  }
  return script;
}

}  // namespace keelback::sim
