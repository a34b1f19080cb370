#include "chaos/scenario.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <sstream>

#include "base/nearest.h"
#include "base/settings_schema.h"
#include "base/settings_text.h"
#include "base/toml_nesting.h"
#include "chaos/catalogue.h"
#include "chaos/checkers.h"
#include "chaos/toml_reader.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

constexpr std::size_t kExtendsDepthMax = 8;
constexpr std::size_t kScenarioBytesMax = 1 << 20;
constexpr std::uint32_t kNodesMax = 9;
constexpr std::string_view kLevels[] = {"light", "medium", "heavy"};

// ---- files: extends and levels, on the level of TOML

void merge(toml::table& onto, const toml::table& from) {
  for (const auto& [key, node] : from) {
    toml::node* there = onto.get(key);
    if (there != nullptr && there->is_table() && node.is_table()) {
      merge(*there->as_table(), *node.as_table());
    } else {
      node.visit([&](const auto& value) { onto.insert_or_assign(key, value); });
    }
  }
}

std::expected<toml::table, std::string> read_toml(std::string_view text) {
  if (text.size() > kScenarioBytesMax) return std::unexpected("is larger than 1 MiB");
  if (const auto deep = toml_too_deep(text)) {
    return std::unexpected(fmt::format("line {}: {}", deep->line, deep->why));
  }
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    return std::unexpected(fmt::format("line {}: {}", error.source().begin.line,
                                       std::string_view(error.description())));
  }
}

std::expected<toml::table, Finding> read_extended(std::string_view text, const Lookup& lookup,
                                                  std::size_t depth) {
  auto own = read_toml(text);
  if (!own) return std::unexpected(Finding{true, "file", own.error()});
  const auto base = (*own)["extends"].value_exact<std::string>();
  if (!base) return std::move(*own);
  if (depth >= kExtendsDepthMax) {
    return std::unexpected(Finding{true, "extends", "more than 8 scenarios on top of each other"});
  }
  const auto found = lookup ? lookup(*base) : std::nullopt;
  if (!found) {
    return std::unexpected(
        Finding{true, "extends", fmt::format("there is no scenario '{}'", *base)});
  }
  auto merged = read_extended(*found, lookup, depth + 1);
  if (!merged) return merged;
  own->erase("extends");
  merge(*merged, *own);
  return merged;
}

// "load.rate" or "fault.k.for": sets it in `root`.
bool set_at(toml::table& root, std::string_view path, const toml::node& value) {
  toml::table* at = &root;
  while (true) {
    const std::size_t dot = path.find('.');
    const std::string_view word = path.substr(0, dot);
    if (dot == path.npos) {
      value.visit([&](const auto& concrete) { at->insert_or_assign(word, concrete); });
      return true;
    }
    path.remove_prefix(dot + 1);
    toml::node* next = at->get(word);
    if (next == nullptr) {
      at->insert_or_assign(word, toml::table{});
      next = at->get(word);
    }
    if (toml::array* array = next->as_array()) {  // [[fault]]: the next word is an id
      const std::size_t second = path.find('.');
      if (second == path.npos) return false;
      const auto id = path.substr(0, second);
      path.remove_prefix(second + 1);
      next = nullptr;
      for (toml::node& item : *array) {
        toml::table* table = item.as_table();
        if (table != nullptr && (*table)["id"].value_or(std::string()) == id) next = table;
      }
      if (next == nullptr) return false;
    }
    at = next->as_table();
    if (at == nullptr) return false;
  }
}

void apply_level(toml::table& root, Level level, std::vector<Finding>& findings) {
  const toml::node* levels = root.get("levels");
  if (levels == nullptr) return;
  if (!levels->is_table()) {
    findings.push_back({true, "levels", "must be a table"});
    return;
  }
  const toml::table copy = *levels->as_table();
  for (const auto& [name, node] : copy) {
    const auto known = level_from(name.str());
    if (!known || !node.is_table()) {
      findings.push_back({true, fmt::format("levels.{}", name.str()),
                          "must be one of the tables light, medium, heavy"});
      continue;
    }
    toml::table scratch = root;  // every level's paths are checked, one is applied
    for (const auto& [path, value] : *node.as_table()) {
      if (!set_at(*known == level ? root : scratch, path.str(), value)) {
        findings.push_back({true, fmt::format("levels.{}.{}", name.str(), path.str()),
                            "names nothing that is there"});
      }
    }
  }
}

void apply(toml::table& root, const Overrides& overrides) {
  for (const auto& [key, value] : overrides.settings) {
    set_at(root, "settings." + key, toml::value<std::string>(value));
  }
  if (overrides.nodes > 0) {
    set_at(root, "cluster.nodes", toml::value<std::int64_t>(overrides.nodes));
  }
  if (!overrides.calls.empty()) {
    if (root["load"].as_table() == nullptr) root.insert_or_assign("load", toml::table{});
    toml::table& load = *root["load"].as_table();
    if (load["call"].as_array() == nullptr) load.insert_or_assign("call", toml::array{});
    for (const LoadCall& call : overrides.calls) {
      load["call"].as_array()->push_back(toml::table{{"function", call.function},
                                                     {"payload", call.payload},
                                                     {"weight", call.weight},
                                                     {"session", call.session},
                                                     {"idempotent", call.idempotent}});
    }
  }
  toml::array* faults = root["fault"].as_array();
  if (!overrides.placebo || faults == nullptr) return;
  for (toml::node& fault : *faults) {
    if (fault.is_table()) fault.as_table()->insert_or_assign("placebo", true);
  }
}

// ---- pieces of the file

// "rung(k, respawn)" -> {"rung", "k, respawn"}
std::pair<std::string_view, std::string_view> split_call(std::string_view text) {
  const std::size_t open = text.find('(');
  if (open == text.npos || !text.ends_with(')')) return {text, {}};
  return {text.substr(0, open), text.substr(open + 1, text.size() - open - 2)};
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::optional<Target> parse_target(std::string_view text) {
  using Kind = Target::Kind;
  Target target;
  const auto [word, inside] = split_call(text);
  if (text == "any" || text.empty()) return target;
  static constexpr std::pair<std::string_view, Kind> kWords[] = {{"busy", Kind::kBusy},
                                                                 {"idle", Kind::kIdle},
                                                                 {"all", Kind::kAll},
                                                                 {"home", Kind::kHome},
                                                                 {"oldest", Kind::kOldest}};
  for (const auto& [name, kind] : kWords) {
    if (text == name) return target.kind = kind, target;
  }
  if (word == "same" && !inside.empty()) {
    target.kind = Kind::kSame;
    target.fault = trimmed(inside);
    return target;
  }
  const std::size_t equals = text.find('=');
  if (equals == text.npos) return std::nullopt;
  const auto value = parse_count(text.substr(equals + 1));
  const auto name = text.substr(0, equals);
  if (!value || *value > 10'000) return std::nullopt;
  target.n = static_cast<std::uint32_t>(*value);
  if (name == "n" && *value > 0) return target.kind = Kind::kCount, target;
  if (name == "slot") return target.kind = Kind::kSlot, target;
  if (name == "pct" && *value > 0 && *value <= 100) {
    target.kind = Kind::kShare;
    target.share = static_cast<double>(*value) / 100;
    return target;
  }
  return std::nullopt;
}

std::optional<Trigger> parse_on(std::string_view text) {
  Trigger trigger;
  const auto [word, inside] = split_call(text);
  if (word == "calls") {
    const auto n = parse_count(inside);
    if (!n || *n == 0) return std::nullopt;
    trigger.kind = Trigger::Kind::kCalls;
    trigger.calls = *n;
    return trigger;
  }
  const std::size_t comma = inside.find(',');
  if (word != "rung" || comma == inside.npos) return std::nullopt;
  trigger.kind = Trigger::Kind::kRung;
  trigger.fault = trimmed(inside.substr(0, comma));
  trigger.rung = trimmed(inside.substr(comma + 1));
  for (std::string_view rung : {"bite", "detect", "respawn", "undo"}) {
    if (trigger.rung == rung) return trigger;
  }
  return std::nullopt;
}

bool parameter_fits(ParameterType type, std::string_view text) {
  switch (type) {
    case ParameterType::kCount:
      return parse_count(text).has_value();
    case ParameterType::kNumber:
      return parse_number(text).has_value();
    case ParameterType::kDuration:
      return parse_duration(text).has_value();
    case ParameterType::kSize:
      return parse_bytes(text).has_value();
    case ParameterType::kText:
      return true;
  }
  return false;
}

class Builder {
 public:
  Builder(Level level, std::vector<Finding>& findings) : level_(level), findings_(findings) {}

  Scenario build(const toml::table& root) {
    TomlReader reader(root, "", findings_);
    reader.text("name", made_.name);
    reader.text("why", made_.why);
    reader.text("incident", made_.incident);
    reader.texts("tags", made_.tags);
    reader.text("reason", made_.reason);
    reader.texts("loosened", made_.loosened);
    reader.ignore("levels");
    reader.ignore("extends");
    if (const auto* table = reader.table("settings")) settings(*table, "");
    if (const auto* table = reader.table("cluster")) {
      TomlReader in(*table, "cluster", findings_);
      in.count("nodes", made_.nodes, kNodesMax);
    }
    if (const auto* table = reader.table("load")) load(*table);
    if (const auto* table = reader.table("baseline")) {
      TomlReader in(*table, "baseline", findings_);
      in.duration("for", made_.baseline);
      in.number("ok", made_.baseline_ok, 0, 1);
    }
    for (const auto* table : reader.tables("fault")) fault(*table);
    if (const auto* table = reader.table("during")) during(*table);
    if (const auto* table = reader.table("after")) after(*table);
    if (const auto* table = reader.table("recovery")) {
      TomlReader in(*table, "recovery", findings_);
      in.duration("quiet", made_.quiet);
      in.duration("for", made_.recovery);
      in.count("verify", made_.verify, std::uint32_t{10'000});
    }
    if (const auto* table = reader.table("expect")) {
      TomlReader in(*table, "expect", findings_);
      in.count("unexplained", made_.unexplained_max, std::uint64_t{1'000'000});
      outcomes(in, "never", made_.never);
    }
    if (const auto* table = reader.table("check")) check(*table);
    if (const auto* table = reader.table("safety")) {
      TomlReader in(*table, "safety", findings_);
      double percent = 100;
      in.number("slots_pct", percent, 1, 100);
      made_.blast.share = percent / 100;
      in.count("concurrent", made_.blast.concurrent, std::uint32_t{64});
      percent = 100 * made_.blast.memory;
      in.number("memory_pct", percent, 1, 90);
      made_.blast.memory = percent / 100;
    }
    if (const auto* table = reader.table("stop")) {
      TomlReader in(*table, "stop", findings_);
      double ok = 0;
      if (in.number("ok_below", ok, 0, 1)) made_.stop_ok = ok;
      in.duration("for", made_.stop_for);
      size(in, "memory_below", made_.host.memory);
      size(in, "disk_below", made_.host.disk);
    }
    finish();
    return std::move(made_);
  }

 private:
  static void size(TomlReader& in, std::string_view key, Bytes& out) {
    std::string text;
    if (!in.scalar(key, text)) return;
    const auto bytes = parse_bytes(text);
    if (!bytes) return in.error(key, "must be a size, as 256MiB");
    out = *bytes;
  }

  void settings(const toml::table& table, const std::string& section) {
    for (const auto& [key, node] : table) {
      const std::string name =
          section.empty() ? std::string(key.str()) : fmt::format("{}.{}", section, key.str());
      if (node.is_table()) {
        settings(*node.as_table(), name);
        continue;
      }
      const std::string text = scalar_text(node);
      if (const auto set = set_setting(made_.settings, name, text); !set)
        findings_.push_back({true, "settings." + name, set.error()});
    }
  }

  void load(const toml::table& table) {
    TomlReader in(table, "load", findings_);
    LoadSpec& load = made_.load;
    in.number("rate", load.rate, 1, 20'000);
    in.duration("ramp", load.ramp);
    in.count("steps", load.steps, std::uint32_t{100});
    in.duration("think", load.think);
    in.count("sessions", load.sessions, std::uint32_t{100'000});
    in.number("zipf", load.zipf, 0, 5);
    in.number("idempotent", load.idempotent, 0, 1);
    in.duration("deadline", load.deadline);
    Duration sleep = std::chrono::milliseconds(5);
    in.duration("sleep", sleep);
    in.duration("wait", load.wait);
    if (const auto* mix = in.table("mix")) {
      TomlReader weights(*mix, "load.mix", findings_);
      for (const Word& word : words()) {
        double weight = 0;
        if (!word.in_mix || !weights.number(word.name, weight, 0, 1000) || weight == 0) continue;
        const bool timed = word.takes == Word::Takes::kMilliseconds && word.runs_alone();
        const auto ms = std::chrono::ceil<std::chrono::milliseconds>(sleep).count();
        load.calls.push_back({.function = std::string(word.name),
                              .payload = timed ? fmt::format("[{}]", ms) : std::string(),
                              .weight = weight,
                              .session = word.is_chain(),
                              .idempotent = !word.is_chain() && !word.is_stream()});
      }
    }
    for (const auto* each : in.tables("call")) {
      TomlReader call(*each, "load.call", findings_);
      LoadCall made{.payload = "[]", .own = true};
      if (!call.text("function", made.function)) call.error("function", "is missing");
      call.text("payload", made.payload);
      call.number("weight", made.weight, 0, 1000);
      call.flag("session", made.session);
      call.flag("idempotent", made.idempotent);
      load.calls.push_back(std::move(made));
    }
    if (load.calls.empty()) {
      load.calls = {{.function = "echo", .weight = 0.5, .idempotent = true},
                    {.function = "chain", .weight = 0.5, .session = true}};
    }
  }

  void fault(const toml::table& table) {
    const std::string id = table["id"].value_or(fmt::format("f{}", made_.faults.size() + 1));
    TomlReader in(table, "fault." + id, findings_);
    FaultSpec spec{.id = id};
    in.ignore("id");
    if (!in.text("class", spec.fault_class)) in.error("class", "is missing");
    in.count("times", spec.times, std::uint32_t{10'000});
    in.duration("every", spec.every);
    in.duration("for", spec.lasts);
    in.flag("placebo", spec.placebo);
    std::string text;
    if (in.text("target", text)) {
      const auto target = parse_target(text);
      if (target) {
        spec.target = *target;
      } else {
        in.error("target",
                 "must be any, busy, idle, oldest, home, all, n=2, pct=50, slot=1 or "
                 "same(FAULT)");
      }
    }
    const bool at = in.duration("at", spec.trigger.at);
    if (in.text("on", text)) {
      if (at) in.error("on", "excludes `at`");
      const auto on = parse_on(text);
      if (on) {
        spec.trigger = *on;
      } else {
        in.error("on", "must be calls(N) or rung(FAULT, bite|detect|respawn|undo)");
      }
    }
    std::vector<OutcomeKind> expected;
    if (outcomes(in, "expect", expected)) spec.expected = std::move(expected);
    const toml::table* with = in.table("with");
    parameters(spec, with);
    made_.faults.push_back(std::move(spec));
  }

  void parameters(FaultSpec& spec, const toml::table* with) {
    const FaultClass* known = find_fault_class(spec.fault_class);
    if (known == nullptr) {
      std::vector<std::string_view> names;
      for (const FaultClass& each : catalogue()) names.push_back(each.name);
      findings_.push_back({true, "fault." + spec.id + ".class",
                           fmt::format("there is no fault class '{}'{}", spec.fault_class,
                                       did_you_mean(spec.fault_class, names))});
      return;
    }
    for (const Parameter& each : known->parameters) {
      const std::string_view value = level_ == Level::kLight    ? each.light
                                     : level_ == Level::kMedium ? each.medium
                                                                : each.heavy;
      spec.parameters.emplace(each.name, value);
    }
    if (with == nullptr) return;
    TomlReader in(*with, "fault." + spec.id + ".with", findings_);
    for (const Parameter& each : known->parameters) {
      std::string value;
      if (!in.scalar(each.name, value)) continue;
      if (!parameter_fits(each.type, value)) in.error(each.name, "has a value of the wrong type");
      spec.parameters[std::string(each.name)] = value;
    }
  }

  bool outcomes(TomlReader& in, std::string_view key, std::vector<OutcomeKind>& out) {
    std::vector<std::string> names;
    if (!in.texts(key, names)) return false;
    std::vector<std::string_view> known;
    for (int i = 0; i < kOutcomeKinds; ++i) known.push_back(to_string(static_cast<OutcomeKind>(i)));
    for (const std::string& name : names) {
      if (const auto kind = outcome_kind_from(name)) {
        out.push_back(*kind);
      } else {
        in.error(key, fmt::format("there is no outcome '{}'{}", name, did_you_mean(name, known)));
      }
    }
    return true;
  }

  void during(const toml::table& table) {
    TomlReader in(table, "during", findings_);
    in.number("ok", made_.during.ok, 0, 1);
    Duration p99{0};
    if (in.duration("p99", p99)) made_.during.p99 = p99;
    double control = 0;
    if (in.number("control_ok", control, 0, 1)) made_.during.control_ok = control;
  }

  void after(const toml::table& table) {
    TomlReader in(table, "after", findings_);
    in.number("margin", made_.after.margin, 0, 0.1);  // a promise is not a budget
    in.number("p99_factor", made_.after.p99_factor, 1, 100);
    in.duration("within", made_.after.within);
    if (const auto* deadlines = in.table("deadline")) {
      TomlReader rungs(*deadlines, "after.deadline", findings_);
      for (std::string_view rung :
           {"detect", "contain", "typed", "respawn", "capacity", "service", "drained", "clean"}) {
        Duration limit{0};
        if (rungs.duration(rung, limit)) made_.after.deadlines.emplace(rung, limit);
      }
    }
  }

  void check(const toml::table& table) {
    TomlReader in(table, "check", findings_);
    std::vector<std::string> use;
    if (!in.texts("use", use)) return;
    std::vector<std::string_view> known;
    for (const Invariant& each : invariants()) {
      known.push_back(each.name);
      known.push_back(each.id());
    }
    for (std::string& word : use) {
      if (const Invariant* rule = find_invariant(word)) {
        word = rule->id();
      } else {
        in.error("use",
                 fmt::format("there is no invariant '{}'{}", word, did_you_mean(word, known)));
      }
    }
    made_.checks = std::move(use);
    chosen_ = true;
  }

  void finish() {
    if (!chosen_) {
      for (const Invariant& each : invariants()) made_.checks.emplace_back(each.id());
    }
    for (const Backend backend : {Backend::kSim, Backend::kFake, Backend::kPython}) {
      const bool injects = std::ranges::all_of(made_.faults, [&](const FaultSpec& spec) {
        const FaultClass* known = find_fault_class(spec.fault_class);
        return known != nullptr && known->on(backend);
      });
      const bool calls = std::ranges::all_of(made_.load.calls, [&](const LoadCall& call) {
        const Word* word = call.own ? nullptr : find_word(call.function);
        return word == nullptr || word->on(backend);
      });
      const bool nodes = made_.nodes == 0 || backend == Backend::kPython;
      if (injects && calls && nodes) made_.backends.push_back(backend);
    }
  }

  const Level level_;
  std::vector<Finding>& findings_;
  Scenario made_;
  bool chosen_ = false;
};

std::string parameter_text(const FaultSpec& fault, std::string_view name) {
  const auto found = fault.parameters.find(std::string(name));
  return found == fault.parameters.end() ? std::string() : found->second;
}

// The scenario that this one extends, if there is one and it can be read.
std::optional<Scenario> ratcheted(std::string_view text, Level level, const Lookup& lookup) {
  const auto own = read_toml(text);
  if (!own || !lookup) return std::nullopt;
  const auto name = (*own)["extends"].value_exact<std::string>();
  const auto found = name ? lookup(*name) : std::nullopt;
  if (!found) return std::nullopt;
  auto root = read_extended(*found, lookup, 1);
  if (!root) return std::nullopt;
  std::vector<Finding> ignored;  // they are said where that scenario is read
  apply_level(*root, level, ignored);
  return Builder(level, ignored).build(*root);
}

}  // namespace

std::string_view to_string(Level level) { return kLevels[static_cast<std::size_t>(level)]; }

std::optional<Level> level_from(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kLevels); ++i) {
    if (kLevels[i] == name) return static_cast<Level>(i);
  }
  return std::nullopt;
}

const FaultSpec* Scenario::fault(std::string_view id) const {
  const auto found = std::ranges::find(faults, id, &FaultSpec::id);
  return found == faults.end() ? nullptr : &*found;
}

std::string describe(const Finding& finding) {
  return fmt::format("{}{}: {}", finding.error ? "" : "warning: ", finding.where, finding.text);
}

std::uint64_t count_of(const FaultSpec& fault, std::string_view name) {
  return parse_count(parameter_text(fault, name)).value_or(0);
}

double number_of(const FaultSpec& fault, std::string_view name) {
  return parse_number(parameter_text(fault, name)).value_or(0);
}

Duration duration_of(const FaultSpec& fault, std::string_view name) {
  return parse_duration(parameter_text(fault, name)).value_or(Duration{0});
}

std::uint64_t bytes_of(const FaultSpec& fault, std::string_view name) {
  return parse_bytes(parameter_text(fault, name)).value_or(Bytes{}).count;
}

std::vector<std::string> library_names() {
  std::vector<std::string> names;
  for (const LibraryEntry& each : library()) names.emplace_back(each.name);
  return names;
}

std::optional<std::string> library_text(std::string_view name) {
  const auto found = std::ranges::find(library(), name, &LibraryEntry::name);
  if (found == library().end()) return std::nullopt;
  return std::string(found->text);
}

std::vector<std::string> laxer(const Scenario& scenario, const Scenario& base) {
  std::vector<std::string> out;
  const auto number = [&](const char* name, double now, double before, bool more_is_laxer) {
    if (more_is_laxer ? now <= before : now >= before) return;
    out.push_back(fmt::format("{}: {}, now {}", name, format_number(before), format_number(now)));
  };
  const auto duration = [&](const char* name, std::optional<Duration> now,
                            std::optional<Duration> before) {
    if (!before || (now && *now <= *before)) return;
    out.push_back(fmt::format("{}: {}, now {}", name, format_duration(*before),
                              now ? format_duration(*now) : "none"));
  };
  number("baseline.ok", scenario.baseline_ok, base.baseline_ok, false);
  number("during.ok", scenario.during.ok, base.during.ok, false);
  number("during.control_ok", scenario.during.control_ok.value_or(0),
         base.during.control_ok.value_or(0), false);
  duration("during.p99", scenario.during.p99, base.during.p99);
  number("after.margin", scenario.after.margin, base.after.margin, true);
  number("after.p99_factor", scenario.after.p99_factor, base.after.p99_factor, true);
  duration("after.within", scenario.after.within, base.after.within);
  for (const auto& [rung, limit] : base.after.deadlines) {
    const auto now = scenario.after.deadlines.find(rung);
    duration(("after.deadline." + rung).c_str(),
             now == scenario.after.deadlines.end() ? std::nullopt : std::optional(now->second),
             limit);
  }
  number("expect.unexplained", static_cast<double>(scenario.unexplained_max),
         static_cast<double>(base.unexplained_max), true);
  number("recovery.verify", scenario.verify, base.verify, false);
  for (const std::string& id : base.checks) {
    if (std::ranges::find(scenario.checks, id) == scenario.checks.end()) {
      out.push_back("check.use: without " + id);
    }
  }
  for (const OutcomeKind kind : base.never) {
    if (std::ranges::find(scenario.never, kind) == scenario.never.end()) {
      out.push_back(fmt::format("expect.never: without {}", to_string(kind)));
    }
  }
  return out;
}

ParsedScenario parse_scenario(std::string_view toml, Level level, const Lookup& lookup,
                              std::string_view source, const Overrides& overrides) {
  ParsedScenario out;
  auto root = read_extended(toml, lookup, 0);
  if (!root) {
    out.findings.push_back(root.error());
    return out;
  }
  apply_level(*root, level, out.findings);
  apply(*root, overrides);
  const auto ratchet = ratcheted(toml, level, lookup);
  if (ratchet) {
    std::vector<Finding> ignored;  // the reading below says them
    const Scenario now = Builder(level, ignored).build(*root);
    toml::array loosened;
    for (const std::string& each : ratchet->loosened) loosened.push_back(each);
    for (const std::string& each : laxer(now, *ratchet)) loosened.push_back(each);
    root->insert_or_assign("loosened", std::move(loosened));
  }
  Scenario scenario = Builder(level, out.findings).build(*root);
  scenario.source = source;
  std::ostringstream text;
  text << *root;
  scenario.text = text.str();
  for (Finding& finding : check_scenario(scenario)) out.findings.push_back(std::move(finding));
  const bool wrong = std::ranges::any_of(out.findings, &Finding::error);
  if (!wrong) out.scenario = std::move(scenario);
  return out;
}

}  // namespace keelback::chaos
