#include "bench/family.h"

#include <algorithm>

#include "base/check.h"
#include "bench/signed_rank.h"

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
  for (const auto& [name, buckets] : figure.buckets)
    series.push_back({{"name", name}, {"buckets", bench::to_json(buckets)}});
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

Arm arm_of(const FamilyOptions& options) {
  Arm arm{.name = "ours", .program = options.program};
  arm.start = {
      {"workers", 2}, {"app", options.app}, {"settings", {{"workers.python", options.python}}}};
  if (options.cpu >= 0) arm.start["cpu"] = options.cpu;
  return arm;
}

constexpr Family kFamilies[] = {
    {"startup", "From nothing to a pool that answers, and one worker more", startup_block, 1.5},
    {"call", "What one call costs: closed and open loop, by size, in time and in context switches",
     call_block, 2.5},
    {"throughput", "How many calls a second, by callers and by what the function does",
     throughput_block, 3.0},
    {"affinity", "Sessions: at home, fair, and what they cost", affinity_block, 2.0},
    {"overload", "From half the capacity to one and a half: goodput, latency, refusals, a burst",
     overload_block, 5.0},
    {"recovery", "SIGKILL of a worker, idle and under load", recovery_block, 2.0},
    {"memory", "What it takes, by kind, and whether it grows", memory_block, 3.0},
    {"cleanup", "Stop, stop under load, SIGKILL of the supervisor; what is left", cleanup_block,
     1.0},
    {"idle", "What a pool costs that nobody calls", idle_block, 2.0},
    {"http", "The same call over HTTP", http_block, 3.0},
    {"scaling", "Throughput over workers with its law; cost over sessions, workers, waiting calls",
     scaling_block, 9.0},
    {"soak", "Constant load for long: does latency or memory drift", soak_block, 12.0},
};

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

FamilyBlock::FamilyBlock(const FamilyOptions& options, FamilyResult& result, Prng& prng)
    : Block({arm_of(options)}, prng), options_(options), result_(result) {}

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
  if (error().empty()) add(figure(title, "percentiles").buckets[series], buckets);
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

std::span<const Family> families() { return kFamilies; }

const Family* find_family(std::string_view name) {
  const auto at = std::ranges::find(kFamilies, name, &Family::name);
  return at == std::end(kFamilies) ? nullptr : at;
}

}  // namespace keelback::bench
