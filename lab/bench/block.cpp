#include "bench/block.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "bench/agent_process.h"
#include "bench/signed_rank.h"
#include "load/soon.h"
#include "os/process.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

// In microseconds, of buckets in nanoseconds.
double quantile(const Buckets& buckets, double q) {
  std::uint64_t total = 0;
  for (const auto& [middle, counts] : buckets) total += counts.first + counts.second;
  std::uint64_t seen = 0;
  for (const auto& [middle, counts] : buckets) {
    seen += counts.first + counts.second;
    if (static_cast<double>(seen) >= q * static_cast<double>(total))
      return static_cast<double>(middle) / 1e3;
  }
  return 0;
}

// A p99 of several windows is that of all their calls: one window has too few.
bool is_merged(const Metric& metric, const std::vector<double>& windows) {
  return metric.field() == "p99_us" && windows.size() > 1;
}

}  // namespace

void add(Buckets& sum, const Buckets& more) {
  for (const auto& [middle, counts] : more) {
    sum[middle].first += counts.first;
    sum[middle].second += counts.second;
  }
}

void add(Buckets& sum, const Json& buckets) {
  for (const auto& bucket : buckets) {
    auto& counts = sum[bucket[0].get<std::int64_t>()];
    counts.first += bucket[1].get<std::uint64_t>();
    counts.second += bucket[2].get<std::uint64_t>();
  }
}

Json to_json(const Buckets& buckets) {
  Json list = Json::array();
  for (const auto& [middle, counts] : buckets)
    list.push_back({middle, counts.first, counts.second});
  return list;
}

std::optional<double> Sample::value(const Metric& metric) const {
  const auto at = windows.find(metric.id);
  if (at == windows.end()) return std::nullopt;
  if (metric.promised())
    return *std::ranges::max_element(at->second, {},
                                     [&](double one) { return std::abs(one - metric.required); });
  const auto curve = curves.find(metric.step());
  if (is_merged(metric, at->second) && curve != curves.end()) return quantile(curve->second, 0.99);
  return median(at->second);
}

std::optional<double> log_ratio(const Metric& metric, const Sample& a, const Sample& b) {
  const auto of_a = a.value(metric), of_b = b.value(metric);
  if (!of_a || !of_b || *of_a <= 0 || *of_b <= 0) return std::nullopt;
  const auto& ours = a.windows.find(metric.id)->second;
  const auto& theirs = b.windows.find(metric.id)->second;
  if (ours.size() != theirs.size() || is_merged(metric, ours)) return std::log(*of_a / *of_b);
  std::vector<double> ratios;
  for (std::size_t k = 0; k < ours.size(); ++k) ratios.push_back(std::log(ours[k] / theirs[k]));
  return median(ratios);
}

Subject Block::start(std::size_t arm, const Json& more) {
  Subject subject(*this, arm);
  if (!error_.empty()) return subject;
  auto agent = start_agent(arms_[arm].program);
  if (!agent) {
    fail(arm, agent.error());
    return subject;
  }
  subject.agent_ = std::move(*agent);
  subject.order_ = arms_[arm].start;
  subject.order_.merge_patch(more);
  subject.order_["op"] = "start";
  subject.started_ = subject.ask(subject.order_);
  return subject;
}

void Block::note(std::string_view metric, double value, std::size_t arm) {
  CHECK(find_metric(metric) != nullptr);
  if (error_.empty() && std::isfinite(value))
    samples_[arm].windows[std::string(metric)].push_back(value);
}

void Block::note_step(std::string_view step, const Json& answer, std::size_t arm) {
  if (!error_.empty()) return;
  for (const Metric& metric : metrics()) {
    if (metric.step() != step) continue;
    const auto field = answer.find(metric.field());
    if (field != answer.end()) note(metric.id, field->get<double>(), arm);
  }
  if (answer.contains("buckets")) add(samples_[arm].curves[std::string(step)], answer["buckets"]);
}

void Block::fail(std::size_t arm, const std::string& why) {
  if (error_.empty()) error_ = arms_.size() > 1 ? arms_[arm].name + ": " + why : why;
}

std::vector<std::size_t> Block::order(std::size_t count) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[prng_.below(i)]);
  return order;
}

Json Subject::ask(const Json& order) {
  if (!block_->error().empty()) return Json::object();
  auto answer = agent_->ask(order);
  if (answer) return std::move(*answer);
  block_->fail(arm_, fmt::format("{}: {}", order.value("op", "?"), answer.error()));
  return Json::object();
}

Json Subject::take(std::string_view step, const Json& order) {
  Json answer = ask(order);
  block_->note_step(step, answer, arm_);
  return answer;
}

void Subject::count_system_calls(unsigned calls) {
  if (!block_->error().empty()) return;
  const auto counted = system_calls_per_call(*agent_, started_, "noop", "[1]", calls);
  if (!counted) return;  // many containers forbid tracing
  block_->note_step("system_calls", {{"caller", counted->caller}, {"worker", counted->worker}},
                    arm_);
}

void Subject::count_allocations(unsigned calls) {
  if (!block_->error().empty()) return;
  const auto counted =
      allocations_per_call(block_->arm(arm_).program, order_, "noop", "[1]", calls);
  if (counted) block_->note_step("allocations", {{"allocations_per_call", *counted}}, arm_);
}

double Subject::seconds_to_vanish() {
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
  const auto gone = [&] {
    return std::ranges::none_of(family, [](const Known& known) {
      const auto stat = os::read_stat(known.pid);
      return stat && stat->start_time == known.start_time && stat->state != 'Z' &&
             stat->state != 'X';
    });
  };
  if (!load::soon(gone, std::chrono::seconds(10), std::chrono::microseconds(500)))
    block_->fail(arm_, "processes were left 10 s after their supervisor's SIGKILL");
  return std::chrono::duration<double>(Clock::now() - began).count();
}

}  // namespace keelback::bench
