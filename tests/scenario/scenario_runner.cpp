// Plays scenario files on the core and compares what it did with what the file records.
//
//   scenario_runner [--rewrite] FILE...     exit 0: all as recorded; 1: not; 2: a line makes no
//   sense
//
// A file is comments (#), settings (`set sessions.idle_ttl 1s`; after the first event: live),
// events
// (`at 5ms request r2 session=ann`; without `at`: no time passes) and, below each, the recorded
// actions (`> dispatch r2 w1.1`; with `at T` if time had to pass for them). --rewrite records anew:
// read the diff before you commit it. README.md lists the events.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/settings_schema.h"
#include "base/settings_text.h"
#include "core/wording.h"
#include "support/model_driver.h"

namespace keelback::core {
namespace {

// Where we are, for the message of a line that makes no sense; that ends the program.
std::string g_path;
int g_line = 0;
[[noreturn]] void nonsense(std::string_view why) {
  std::fprintf(stderr, "%s:%d: %.*s\n", g_path.c_str(), g_line, static_cast<int>(why.size()),
               why.data());
  std::exit(2);
}

// The words of a line: a verb, plain words, and name=value pairs.
struct Words {
  std::vector<std::string> plain;
  std::map<std::string, std::string> named;

  explicit Words(const std::string& line) {
    std::istringstream in(line);
    for (std::string word; in >> word;) {
      const auto equals = word.find('=');
      if (equals == std::string::npos) {
        plain.push_back(word);
      } else {
        named[word.substr(0, equals)] = word.substr(equals + 1);
      }
    }
  }
  const std::string& at(std::size_t index) const {
    if (index >= plain.size()) nonsense("a word is missing");
    return plain[index];
  }
  bool has(std::string_view word) const {
    for (const std::string& one : plain) {
      if (one == word) return true;
    }
    return false;
  }
  std::string get(const std::string& name, std::string otherwise = {}) const {
    const auto found = named.find(name);
    return found == named.end() ? otherwise : found->second;
  }
};

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) {
    nonsense("not a number: " + std::string(text));
  }
  return value;
}
Duration duration(const std::string& text) {
  const auto parsed = parse_duration(text);
  if (!parsed) nonsense("not a duration: " + text);
  return *parsed;
}
CallId call_id(const std::string& text) { return CallId{number(text.substr(1))}; }
WorkerId worker_id(const std::string& text) {
  const auto dot = text.find('.');
  if (text[0] != 'w' || dot == std::string::npos) nonsense("not a worker: " + text);
  return {static_cast<std::uint32_t>(number(text.substr(1, dot - 1))),
          static_cast<std::uint32_t>(number(text.substr(dot + 1)))};
}
template <class Enum>
Enum choice(const std::string& text, std::initializer_list<std::pair<const char*, Enum>> words) {
  for (const auto& [word, value] : words) {
    if (text == word) return value;
  }
  nonsense("unknown word: " + text);
}

// One file, line by line.
class Scenario {
 public:
  // The file as it should be: the same inputs, each followed by what the core did.
  std::string play(std::istream& in) {
    g_line = 0;
    for (std::string line; std::getline(in, line);) {
      ++g_line;
      if (!line.starts_with("> ")) input(line);
    }
    return out_;
  }

 private:
  void input(const std::string& line) {
    const Words words(line);
    if (words.plain.empty() || line[0] == '#') {
      out_ += line + "\n";
      return;
    }
    if (words.at(0) == "set" && !driver_) {
      set(words);
      out_ += line + "\n";
      return;
    }
    if (!driver_) {
      driver_.emplace(settings_, 1);
      record(out_);  // the starts stand before the first event
    }
    std::string rest = line;
    if (words.at(0) == "at") {
      pass_to(Time{duration(words.at(1))});
      rest = line.substr(line.find(words.at(1)) + words.at(1).size());
    }
    out_ += line + "\n";
    event(Words(rest));
    record(out_);
  }
  void set(const Words& words) {
    const auto set = set_setting(settings_, words.at(1), words.at(2));
    if (!set) nonsense(set.error());
  }
  // Ticks on the way are recorded with their time.
  void pass_to(Time until) {
    while (true) {
      const auto due = driver_->pool.next_deadline();
      if (!due || *due > until) break;
      driver_->advance_to(std::max(*due, driver_->now));
      record(out_, fmt::format("at {} ", describe(driver_->now.time_since_epoch())));
    }
    driver_->advance_to(until);
  }
  void record(std::string& out, const std::string& when = {}) {
    for (const std::string& line : driver_->take()) out += "> " + when + line + "\n";
    if (!driver_->wrongs.empty()) {
      const std::string wrong = driver_->wrongs.front();
      driver_->wrongs.clear();
      nonsense(wrong);
    }
  }
  void event(const Words& w) {
    if (w.plain.empty()) return;  // only time passes
    const std::string& verb = w.at(0);
    if (verb == "set") {
      set(w);
      driver_->configure(settings_);
    } else if (verb == "functions") {
      functions(w);
    } else if (verb == "request") {
      request(w);
    } else if (verb == "ready") {
      if (w.at(1) != "all") return driver_->ready(worker_id(w.at(1)));
      for (const WorkerId worker : driver_->with(false)) driver_->ready(worker);
    } else if (verb == "reply") {
      reply(w);
    } else if (verb == "cancel") {
      driver_->handle(CallCancelled{call_id(w.at(1))});
    } else if (verb == "item") {
      const CallId call = call_id(w.at(1));
      driver_->handle(StreamMoved{driver_->worker_of(call), call});
    } else if (verb == "exit") {
      driver_->exit(worker_id(w.at(1)), !w.has("not-started"), w.get("cause", "signal"));
    } else if (verb == "start-failed") {
      driver_->fail_start(worker_id(w.at(1)), w.get("step", "setup"));
    } else {
      operate(verb, w);
    }
  }
  void operate(const std::string& verb, const Words& w) {
    if (verb == "end-session") {
      driver_->handle(SessionEnded{w.at(1)});
    } else if (verb == "recycle") {
      driver_->handle(RecycleRequested{static_cast<std::uint32_t>(number(w.at(1)))});
    } else if (verb == "reload") {
      driver_->handle(ReloadRequested{});
    } else if (verb == "drain") {
      driver_->handle(DrainRequested{duration(w.at(1))});
    } else if (verb == "release") {
      driver_->handle(QuarantineReleased{number(w.at(1))});
    } else if (verb == "exec") {
      driver_->handle(StartModeChanged{true, static_cast<std::uint32_t>(number(w.at(1)))});
    } else if (verb == "fork") {
      driver_->handle(StartModeChanged{});
    } else if (verb == "show") {
      show();
    } else {
      nonsense("unknown event");
    }
  }
  void functions(const Words& w) {
    std::vector<FunctionSpec> all;
    for (std::size_t i = 1; i < w.plain.size(); ++i) {
      all.emplace_back();
      all.back().name = w.plain[i];
    }
    for (FunctionSpec& spec :
         all) {  // NAME.timeout=3s NAME.max_workers=1 NAME.marks=idempotent,stream
      if (const auto text = w.get(spec.name + ".timeout"); !text.empty())
        spec.timeout = duration(text);
      const auto most = w.get(spec.name + ".max_workers", "0");
      spec.max_workers = static_cast<std::uint32_t>(number(most));
      const auto marks = w.get(spec.name + ".marks");
      spec.idempotent = marks.find("idempotent") != std::string::npos;
      spec.stream = marks.find("stream") != std::string::npos;
    }
    driver_->announce(std::move(all));
  }
  void request(const Words& w) {
    const std::string function = w.get("function", "f"), session = w.get("session"),
                      key = w.get("key");
    CallSubmitted call = driver_->request(function, session);
    call.call = call_id(w.at(1));
    call.idempotency_key = key;
    if (const auto text = w.get("mode"); !text.empty()) {
      call.affinity = choice<Affinity>(text, {{"strict", Affinity::kStrictQueue},
                                              {"fail-fast", Affinity::kStrictFailFast},
                                              {"hint", Affinity::kHint}});
    }
    call.open = choice<SessionOpen>(w.get("open", "any"), {{"any", SessionOpen::kAny},
                                                           {"new", SessionOpen::kNew},
                                                           {"existing", SessionOpen::kExisting}});
    if (const auto text = w.get("epoch"); !text.empty()) {
      call.fence = Fence{0, static_cast<std::uint32_t>(number(text))};
    }
    if (const auto text = w.get("deadline"); !text.empty()) call.deadline = duration(text);
    call.priority = choice<Priority>(
        w.get("priority", "normal"),
        {{"high", Priority::kHigh}, {"normal", Priority::kNormal}, {"low", Priority::kLow}});
    call.fingerprint = number(w.get("fingerprint", "0"));
    call.idempotent = w.has("idempotent");
    call.stream = w.has("stream");
    driver_->submit(call);
  }
  void reply(const Words& w) {
    const std::string word = w.plain.size() > 2 && w.at(2) != "unclean" ? w.at(2) : "ok";
    const auto kind = choice<ReplyKind>(word, {{"ok", ReplyKind::kOk},
                                               {"error", ReplyKind::kError},
                                               {"cancelled", ReplyKind::kCancelled},
                                               {"bad_request", ReplyKind::kBadRequest},
                                               {"unknown_function", ReplyKind::kUnknownFunction}});
    driver_->reply(call_id(w.at(1)), kind, !w.has("unclean"));
  }
  void show() {
    const PoolStats s = driver_->pool.stats(driver_->now);
    std::string line =
        fmt::format("> {} accepted={} in_flight={} waiting={} sessions={} expired={} lost={}",
                    s.ready ? "ready" : "not ready", s.accepted, s.in_flight, s.queue_depth,
                    s.sessions.active, s.sessions.expired, s.sessions.lost);
    for (int kind = 0; kind < kOutcomeKinds; ++kind) {
      if (s.outcomes[kind] == 0) continue;
      line += fmt::format(" {}={}", to_string(static_cast<OutcomeKind>(kind)), s.outcomes[kind]);
    }
    out_ += line + "\n";
  }

  Settings settings_;
  std::optional<ModelDriver> driver_;
  std::string out_;
};

// Shows the first line that differs.
void explain(const std::string& path, const std::string& recorded, const std::string& played) {
  std::istringstream a(recorded), b(played);
  std::string expected, actual;
  for (int line = 1;; ++line) {
    const bool more_a = static_cast<bool>(std::getline(a, expected));
    const bool more_b = static_cast<bool>(std::getline(b, actual));
    if (more_a == more_b && expected == actual) continue;
    std::fprintf(stderr, "%s:%d: recorded: %s\n%s:%d: played:   %s\n", path.c_str(), line,
                 more_a ? expected.c_str() : "(end)", path.c_str(), line,
                 more_b ? actual.c_str() : "(end)");
    return;
  }
}

int run(const std::string& path, bool rewrite) {
  std::ifstream file(path);
  const std::string recorded((std::istreambuf_iterator<char>(file)),
                             std::istreambuf_iterator<char>());
  if (!file) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    return 2;
  }
  std::istringstream in(recorded);
  g_path = path;
  const std::string played = Scenario().play(in);
  if (played == recorded) return 0;
  if (rewrite) {
    std::ofstream(path) << played;
    return 0;
  }
  explain(path, recorded, played);
  return 1;
}

}  // namespace
}  // namespace keelback::core

int main(int argc, char** argv) {
  keelback::set_unexpected_fatal(true);
  bool rewrite = false;
  int worst = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--rewrite") {
      rewrite = true;
    } else {
      worst = std::max(worst, keelback::core::run(arg, rewrite));
    }
  }
  return worst;
}
