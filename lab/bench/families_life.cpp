#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/family.h"
#include "bench/signed_rank.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

void stages(FamilyBlock& block, const std::string& row, const Json& started) {
  if (!started.contains("all_ready_ms")) return;
  const double import = started.value("import_ms", 0.0), up = started.value("supervisor_ms", 0.0),
               first = started.value("first_ready_ms", 0.0),
               call = started.value("first_call_ms", 0.0), all = started.value("all_ready_ms", 0.0);
  // Without a zygote the import is a part of each worker's start.
  const double interpreter = std::max(0.0, first - up - import);
  const std::vector<std::pair<std::string, double>> parts = {
      {"supervisor", up},
      {"interpreter, fork, hello", interpreter},
      {"the application's import", std::min(import, std::max(0.0, first - up))},
      {"first result", std::max(0.0, call - first)},
      {"the other workers", std::max(0.0, all - std::max(call, first))}};
  auto& rows = block.figure("From nothing to a pool of four", "waterfall", "ms").rows;
  auto at = std::ranges::find(rows, row, [](const auto& r) { return r.first; });
  if (at == rows.end()) {
    rows.emplace_back(row, std::vector<std::pair<std::string, std::vector<double>>>{});
    at = rows.end() - 1;
    for (const auto& [name, length] : parts) at->second.emplace_back(name, std::vector<double>{});
  }
  for (std::size_t i = 0; i < parts.size(); ++i) at->second[i].second.push_back(parts[i].second);
}

}  // namespace

void startup_block(FamilyBlock& block) {
  Subject pool = block.start({{"workers", 4}});
  block.note_step("start", pool.started());
  stages(block, "zygote", pool.started());
  for (int i = 0; i < 5; ++i) pool.take("recycle");
  Subject exec = block.start({{"workers", 4}, {"settings", {{"workers.zygote", "off"}}}});
  block.note_step("start_exec", exec.started());
  stages(block, "exec, no zygote", exec.started());
}

void recovery_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask({{"op", "window"}, {"callers", 1}, {"ms", 30}});
  const Json idle = pool.take("recover");
  const Json loaded = pool.take("recover_loaded", {{"op", "recover"},
                                                   {"rate", 500},
                                                   {"ms", 400 * block.stretch()},
                                                   {"seed", block.prng().below(1 << 30)}});
  block.note("recovery.p99_ratio",
             loaded.value("p99_after_us", NAN) / loaded.value("p99_before_us", NAN));
  if (block.first()) {
    Figure& heat = block.figure("SIGKILL of a worker under 500 calls a second", "heat", "seconds",
                                "ms from the planned time");
    heat.points = loaded.value("points", Json::array());
    heat.marks = loaded.value("marks", Json::array());
  }
  if (!idle.contains("ready_ms")) return;
  auto& rows = block.figure("From SIGKILL to a replacement", "waterfall", "ms").rows;
  if (rows.empty()) {
    for (const char* row : {"idle pool", "under load"})
      rows.emplace_back(row, std::vector<std::pair<std::string, std::vector<double>>>{
                                 {"its call has its outcome", {}}, {"replacement ready", {}}});
  }
  const Json* answers[] = {&idle, &loaded};
  for (std::size_t i = 0; i < 2; ++i) {
    const double detected = answers[i]->value("detected_ms", 0.0),
                 ready = answers[i]->value("ready_ms", 0.0);
    rows[i].second[0].second.push_back(detected);
    rows[i].second[1].second.push_back(std::max(0.0, ready - detected));
  }
}

void memory_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask({{"op", "window"}, {"callers", 4}, {"ms", 50}});
  const Json before = pool.take("memory");
  const double sessions = block.quick() ? 5'000 : 20'000;
  pool.ask({{"op", "idle"}, {"sessions", sessions}, {"ms", 1}});
  const Json after = pool.ask("memory");
  block.note(
      "memory.per_session_bytes",
      std::max(0.0, 1024 * (after.value("pss_kb", NAN) - before.value("pss_kb", NAN)) / sessions));
  const Json growth =
      pool.take("growth", {{"op", "growth"}, {"rounds", 6}, {"calls", block.quick() ? 500 : 2000}});
  double round = 0;
  for (const auto& reading : growth.value("readings_kb", Json::array())) {
    block.figure("Memory while calls go by", "curve", "calls", "kB, everything")
        .add("proportional memory", round, reading.get<double>());
    round += block.quick() ? 500 : 2000;
  }
  Subject queued = block.start({{"function", "sleep_ms"}, {"payload", "[1]"}});
  const Json waiting =
      queued.ask({{"op", "queue"}, {"waiting", 20'000}, {"function", "noop"}, {"payload", "[1]"}});
  if (waiting.value("still_waiting", 0.0) > 0)
    block.note("memory.per_queued_bytes",
               1024 * waiting.value("queued_kb", 0.0) / waiting.value("still_waiting", NAN));
}

void cleanup_block(FamilyBlock& block) {
  Subject pool = block.start({{"workers", 4}});
  pool.ask({{"op", "window"}, {"callers", 4}, {"ms", 30}});
  pool.take("stop");
  Subject loaded = block.start({{"workers", 4}});
  loaded.ask({{"op", "pile"}, {"waiting", 500}});
  const Json hurried = loaded.take("stop_loaded", {{"op", "stop"}});
  block.note("cleanup.left_processes", hurried.value("left_processes", NAN));
  block.note("cleanup.left_fds", hurried.value("left_fds", NAN));
  Subject killed = block.start({{"workers", 4}});
  killed.ask({{"op", "pile"}, {"waiting", 50}});
  block.note("cleanup.kill_ms", 1e3 * killed.seconds_to_vanish());
}

void idle_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask({{"op", "window"}, {"callers", 1}, {"ms", 20}});
  const double length = 800 * block.stretch();
  pool.take("idle", {{"op", "idle"}, {"ms", length}});
  pool.take("idle_sessions", {{"op", "idle"}, {"ms", length}, {"sessions", 1000}});
}

void soak_block(FamilyBlock& block) {
  Subject pool = block.start();
  pool.ask({{"op", "window"}, {"callers", 1}, {"ms", 100}});
  const Json closed = pool.ask({{"op", "window"}, {"callers", 1}, {"ms", 200}});
  const double rate = std::min(2000.0, 0.5 * closed.value("per_second", 0.0));
  // quick 6 s, pr 10 s, nightly 60 s a block, in windows between which memory is read
  const int windows = block.quick() ? 6 : block.stretch() > 1 ? 30 : 10;
  const double window_ms = block.stretch() > 1 ? 2000 : 1000;
  std::vector<double> p99, memory, minutes;
  double failed = 0;
  for (int i = 0; i < windows; ++i) {
    const Json open = pool.ask({{"op", "open"},
                                {"rate", rate},
                                {"ms", window_ms},
                                {"sessions", 100},
                                {"zipf", 1.0},
                                {"function", "count"},
                                {"payload", "[]"},
                                {"seed", block.prng().below(1 << 30)}});
    block.doubt(open);
    p99.push_back(open.value("p99_us", NAN));
    failed += open.value("calls", 0.0) - open.value("succeeded", 0.0);
    memory.push_back(pool.ask("memory").value("pss_kb", NAN));
    minutes.push_back((i + 1) * window_ms / 60'000);
    block.percentiles("Soak, percentiles", "from the planned time",
                      open.value("buckets", Json::array()));
    block.percentiles("Soak, percentiles", "service alone",
                      open.value("service_buckets", Json::array()));
    block.figure("Soak, p99 over time", "curve", "seconds", "µs")
        .add("p99 a window", minutes.back() * 60, p99.back());
    block.figure("Soak, memory over time", "curve", "seconds", "kB")
        .add("everything", minutes.back() * 60, memory.back());
  }
  if (!block.error().empty()) return;
  const auto third = static_cast<std::ptrdiff_t>(p99.size() / 3);
  const std::vector<double> early(p99.begin(), p99.begin() + third),
      late(p99.end() - third, p99.end());
  std::vector<double> slopes;
  for (auto i = static_cast<std::size_t>(third); i < memory.size(); ++i) {  // what warms up is over
    for (std::size_t j = i + 1; j < memory.size(); ++j)
      slopes.push_back((memory[j] - memory[i]) / (minutes[j] - minutes[i]));
  }
  block.note("soak.p99_us", median(p99));
  block.note("soak.p99_drift", median(late) / median(early));
  block.note("soak.growth_kb", median(slopes));
  block.note("soak.failed", failed);
}

}  // namespace keelback::bench
