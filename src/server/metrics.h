// Prometheus text. Counters of the pool come from one PoolStats, so that within one scrape
// accepted = in_flight + sum of outcomes; only the histograms are kept here.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "host/driver.h"
#include "keelback/outcome.h"

namespace keelback::server {

// Durations of the calls that came over HTTP and reached a worker, by function and stage. Bounded:
// at most kFunctionsMax functions have a name of their own, the others share "_other".
class CallDurations {
 public:
  static constexpr std::size_t kFunctionsMax = 64;
  static constexpr std::array<double, 18> kBounds = {  // seconds
      .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025,
      .05,    .1,    .25,    .5,    1,    2.5,   5,    10,  60};
  struct Series {
    std::array<std::uint64_t, kBounds.size() + 1> counts{};  // the last: beyond all bounds
    double sum = 0;                                          // seconds
  };
  struct Function {
    Series queue;
    Series run;
  };

  void observe(std::string_view function, const Outcome& outcome);
  const std::map<std::string, Function, std::less<>>& functions() const { return functions_; }

 private:
  std::map<std::string, Function, std::less<>> functions_;
};

// Functions that clients provide to Python code, and what became of the requests for them.
struct ProvidedCounts {
  std::uint64_t names = 0;  // provided now; a name counts once for each connection
  std::uint64_t answered = 0;
  std::uint64_t failed = 0;     // answered with an error
  std::uint64_t cancelled = 0;  // nobody waited any more
  std::uint64_t gone = 0;       // the client left before it answered
};

// What the server adds to the pool's own numbers.
struct ServerCounts {
  std::uint64_t http_rejected = 0;
  std::uint64_t connections = 0;
  std::uint64_t log_lost = 0;  // lines that stderr did not take
  ProvidedCounts provided;
};
std::string metrics_text(const host::PoolInfo& info, const ServerCounts& server,
                         const CallDurations& durations,
                         const std::optional<host::ClusterInfo>& cluster = std::nullopt);
inline constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace keelback::server
