#include "bench/family.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "base/check.h"
#include "bench/agent_process.h"
#include "bench/signed_rank.h"
#include "os/process.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

Json curve_json(const Figure& figure) {
  Json series = Json::array();
  for (const auto& [name, points] : figure.curves) {
    Json list = Json::array();
    for (const auto& [x, values] : points) {
      const auto [low, high] = std::ranges::minmax(values);
      list.push_back({x, median(values), low, high});
    }
    series.push_back({{"name", name}, {"points", std::move(list)}});
  }
  return series;
}

Json bucket_json(const Figure& figure) {
  Json series = Json::array();
  for (const auto& [name, buckets] : figure.buckets) {
    Json list = Json::array();
    for (const auto& [ns, counts] : buckets) list.push_back({ns, counts.first, counts.second});
    series.push_back({{"name", name}, {"buckets", std::move(list)}});
  }
  return series;
}

Json interval_json(const Interval& interval) { return {interval.low, interval.high}; }

Json fit_json(const ScalingFit& fit) {
  Json json = {{"lambda", fit.law.lambda},
               {"sigma", fit.law.sigma},
               {"kappa", fit.law.kappa},
               {"lambda_interval", interval_json(fit.lambda)},
               {"sigma_interval", interval_json(fit.sigma)},
               {"kappa_interval", interval_json(fit.kappa)}};
  if (const auto peak = fit.law.peak()) json["peak"] = *peak;
  return json;
}

Json scaling_json(const Figure& figure) {
  std::map<double, std::vector<double>> by_n;
  for (const auto& block : figure.scaling) {
    for (const ScalingPoint& point : block) by_n[point.n].push_back(point.x);
  }
  Json points = Json::array();
  for (const auto& [n, values] : by_n) {
    const auto [low, high] = std::ranges::minmax(values);
    points.push_back({n, median(values), low, high});
  }
  return points;
}

}  // namespace

std::optional<Profile> profile_named(std::string_view name) {
  for (const Profile profile : {Profile::kQuick, Profile::kPr, Profile::kNightly}) {
    if (to_string(profile) == name) return profile;
  }
  return std::nullopt;
}

std::string_view to_string(Profile profile) {
  switch (profile) {
    case Profile::kQuick:
      return "quick";
    case Profile::kPr:
      return "pr";
    case Profile::kNightly:
      return "nightly";
  }
  CHECK(!"profile out of range");
  return {};
}

Json Figure::to_json(std::uint64_t seed) const {
  Json json = {{"kind", kind}, {"title", title}, {"x", x},
               {"y", y},       {"log_x", log_x}, {"log_y", log_y}};
  if (!marks.empty()) json["marks"] = marks;
  if (!curves.empty()) json["series"] = curve_json(*this);
  if (!buckets.empty()) json["series"] = bucket_json(*this);
  if (!points.empty()) json["points"] = points;
  if (!scaling.empty()) {
    json["points"] = scaling_json(*this);
    if (const auto fit = fit_scaling_blocks(scaling, seed)) json["fit"] = fit_json(*fit);
  }
  for (const auto& [row, stages] : rows) {
    Json list = Json::array();
    for (const auto& [stage, values] : stages) list.push_back({stage, median(values)});
    json["rows"].push_back({{"name", row}, {"stages", std::move(list)}});
  }
  return json;
}

Subject FamilyBlock::start(Json order) {
  Subject subject(*this);
  if (!error_.empty()) return subject;
  auto agent = start_agent(options_.program);
  if (!agent) {
    fail(agent.error());
    return subject;
  }
  subject.agent_ = std::move(*agent);
  subject.started_ = subject.ask(start_order(std::move(order)));
  return subject;
}

Json FamilyBlock::start_order(Json more) const {
  Json order = {{"op", "start"}, {"workers", 2}, {"app", options_.app}};
  if (options_.cpu >= 0) order["cpu"] = options_.cpu;
  order.update(more);
  if (order["app"] == options_.app) order["settings"]["workers.python"] = options_.python;
  return order;
}

void FamilyBlock::note_allocations(std::string_view metric) {
  if (!error_.empty()) return;
  const auto counted = allocations_per_call(options_.program, start_order(Json::object()), "noop",
                                            "[1]", quick() ? 1000 : 3000);
  if (counted) note(metric, *counted);
}

void FamilyBlock::note(std::string_view metric, double value) {
  CHECK(find_run_metric(metric) != nullptr);
  if (error_.empty() && std::isfinite(value)) result_.values[std::string(metric)].push_back(value);
}

void FamilyBlock::note(std::string_view metric, const Json& answer, const char* field) {
  if (answer.contains(field)) note(metric, answer[field].get<double>());
}

Figure& FamilyBlock::figure(const std::string& title, const std::string& kind, const std::string& x,
                            const std::string& y) {
  const auto [at, made] = result_.figures.try_emplace(title);
  if (made) {
    at->second = {.kind = kind, .title = title, .x = x, .y = y};
    result_.figure_order.push_back(title);
  }
  return at->second;
}

void FamilyBlock::percentiles(const std::string& title, const std::string& series,
                              const Json& buckets) {
  if (!error_.empty()) return;
  auto& own = figure(title, "percentiles").buckets[series];
  for (const auto& bucket : buckets) {
    auto& counts = own[bucket[0].get<std::int64_t>()];
    counts.first += bucket[1].get<std::uint64_t>();
    counts.second += bucket[2].get<std::uint64_t>();
  }
}

void FamilyBlock::doubt(const Json& answer) {
  for (const auto& reason : answer.value("void", Json::array())) {
    auto& known = result_.void_reasons;
    const std::string text = reason.get<std::string>();
    // The figures in it differ from block to block; one of a kind is enough to read.
    const auto same = [&](const std::string& other) {
      return other.substr(0, 16) == text.substr(0, 16);
    };
    if (std::ranges::none_of(known, same)) known.push_back(text);
  }
}

void FamilyBlock::fail(std::string why) {
  if (error_.empty()) error_ = std::move(why);
}

Json Subject::ask(Json order) {
  if (!block_->error().empty()) return Json::object();
  auto answer = agent_->ask(order);
  if (answer) return std::move(*answer);
  block_->fail(fmt::format("{}: {}", order.value("op", "?"), answer.error()));
  return Json::object();
}

void Subject::note_system_calls(std::string_view caller_metric, std::string_view worker_metric) {
  if (!block_->error().empty()) return;
  const auto counted = system_calls_per_call(*agent_, started_, "noop", "[1]", 1000);
  if (!counted) return;  // tracing is forbidden in many a container
  block_->note(caller_metric, counted->caller);
  block_->note(worker_metric, counted->worker);
}

double Subject::seconds_to_vanish() {
  using Clock = std::chrono::steady_clock;
  if (!block_->error().empty()) return 0;
  struct Known {
    pid_t pid;
    std::uint64_t start_time;  // so that a number that is used again is not mistaken for it
  };
  std::vector<Known> family;
  for (const pid_t pid : os::descendants_of(agent_->pid())) {
    if (const auto stat = os::read_stat(pid)) family.push_back({pid, stat->start_time});
  }
  ::kill(agent_->pid(), SIGKILL);
  const auto began = Clock::now();
  const auto living = [&] {
    return std::ranges::any_of(family, [](const Known& known) {
      const auto stat = os::read_stat(known.pid);
      return stat && stat->start_time == known.start_time && stat->state != 'Z' &&
             stat->state != 'X';
    });
  };
  while (living()) {
    if (Clock::now() - began > std::chrono::seconds(10)) {
      block_->fail("processes were left 10 s after their supervisor's SIGKILL");
      break;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  return std::chrono::duration<double>(Clock::now() - began).count();
}

}  // namespace keelback::bench
