#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "bench/http.h"
#include "bench/peer_stages.h"
#include "bench/pool_under_test.h"
#include "load/application.h"
#include "load/generator.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr unsigned kCallers = 64;
constexpr unsigned kWorkers = 2;
constexpr double kOpenRate = 400;  // calls a second; far from what any contender can take
// Of apps/bench_batches.py, and the first two of each alternative.
constexpr auto kNoop = "noop_batch", kModel = "model_batch";
constexpr auto kNoopAlone = "noop_alone", kModelAlone = "model_alone";
constexpr auto kInput = "[1]";

// The same functions in one pool, in batches and one by one.
std::string measure_beside_alone(PeersRun& run, bool& has_model) {
  auto pool = run.lasting_pool(
      kWorkers,
      {{"app", load::lab_application("bench_batches")}, {"function", kNoop}, {"payload", kInput}});
  if (!pool) return pool.error();
  const Json once = {{"op", "calls"}, {"function", kModel}, {"payload", kInput}, {"calls", 1}};
  has_model = pool->ask(once).has_value();
  if (!has_model) run.not_measured("model: the Python of the workers has no NumPy");
  const std::vector<Arm> arms = {{"ours", {}}, {"alone", {}}};
  return run.measure("batches", arms, run.options().blocks, [&](Block& block) {
    const auto compare = [&](const char* row, const char* together, const char* alone) {
      block.each([&](std::size_t arm) {
        const Json window = {{"op", "window"},
                             {"callers", kCallers},
                             {"threads", false},
                             {"ms", 2 * run.options().window_ms},
                             {"function", arm == run.kOurs ? together : alone},
                             {"payload", kInput}};
        block.note(row, run.asked(block, arm, *pool, window, "per_second"), arm);
      });
    };
    compare("batches.rate.alone", kNoop, kNoopAlone);
    if (has_model) compare("batches.model.alone", kModel, kModelAlone);
  });
}

struct Contender {
  const char* name;
  std::uint16_t port;
};

std::expected<double, std::string> rate_of(std::uint16_t port, const char* function,
                                           Duration length) {
  const auto figures = run_http({.port = port,
                                 .callers = kCallers,
                                 .threads = false,
                                 .length = length,
                                 .function = function,
                                 .payload = kInput});
  if (!figures) return std::unexpected(figures.error());
  if (figures->other > 0) return std::unexpected("it answers with errors");
  return figures->per_second();
}

// Poisson arrivals, the same for all contenders of a block: p99 from the planned time, in ms.
std::expected<double, std::string> open_p99_of(std::uint16_t port, const load::Plan& plan) {
  HttpSender sender(port, kCallers);
  const load::Run run = load::run_plan(
      [&](Call&& call, host::OnOutcome&& done) { sender.send(std::move(call), std::move(done)); },
      plan,
      [](const load::Arrival&, std::size_t) {
        return Call{.function = kModel, .payload = kInput};
      });
  if (run.count(OutcomeKind::kOk) != run.records.size())
    return std::unexpected("not every call was answered");
  return ms(run.latency().quantile(0.99).value);
}

// The same client for our server and for the alternatives.
std::string measure_over_http(PeersRun& run, bool has_model) {
  const auto server =
      ServeProcess::start(run.options().program, load::lab_application("bench_batches"),
                          run.options().python, kWorkers, kNoop);
  if (!server) return server.error();
  std::vector<Arm> arms = {{"ours", {}}};
  std::vector<std::uint16_t> ports = {server->port()};
  std::vector<LineProcess> peers;
  constexpr std::pair<const char*, const char*> kContenders[] = {{"litserve", "litserve_batches"},
                                                                 {"mosec", "mosec"}};
  for (const auto& [name, program] : kContenders) {
    auto started = run.peer(program, "OPENBLAS_NUM_THREADS=1");
    if (!started) return started.error();
    const auto up = started->ask({{"op", "start"}, {"workers", kWorkers}});
    if (!up) {
      run.not_measured(fmt::format("{}: {}", name, up.error()));
      continue;
    }
    ports.push_back((*up)["port"].get<std::uint16_t>());
    for (const char* function : {kNoop, kModel}) {
      if (auto warm = wait_for_server(ports.back(), function, kInput); !warm)
        return fmt::format("{}: {}", name, warm.error());
    }
    arms.push_back({name, {}});
    peers.push_back(std::move(*started));
  }
  if (arms.size() == 1) return {};
  const Duration window = from_ms(4 * run.options().window_ms);
  return run.measure("batches over HTTP", arms, run.options().blocks, [&](Block& block) {
    std::vector<double> rate(arms.size(), NAN), model(arms.size(), NAN), open(arms.size(), NAN);
    const load::Plan plan =
        load::make_plan({.rate = kOpenRate, .length = window}, block.prng().next());
    block.each([&](std::size_t arm) {
      const auto noop = rate_of(ports[arm], kNoop, window);
      if (!noop) return block.fail(arm, noop.error());
      rate[arm] = *noop;
      if (!has_model) return;
      const auto computed = rate_of(ports[arm], kModel, window);
      const auto p99 = open_p99_of(ports[arm], plan);
      if (!computed || !p99) return block.fail(arm, computed ? p99.error() : computed.error());
      model[arm] = *computed;
      open[arm] = *p99;
    });
    for (std::size_t arm = run.kOurs + 1; arm < arms.size(); ++arm) {
      const auto note = [&](const char* what, const std::vector<double>& values) {
        run.note_pair(block, run.row_of(what, arms[arm].name, "http"), arm, values[run.kOurs],
                      values[arm]);
      };
      note("batches.rate", rate);
      if (!has_model) continue;
      note("batches.model", model);
      note("batches.open", open);
    }
  });
}

}  // namespace

std::string measure_batches(PeersRun& run) {
  bool has_model = false;
  if (auto error = measure_beside_alone(run, has_model); !error.empty()) return error;
  return measure_over_http(run, has_model);
}

}  // namespace keelback::bench
