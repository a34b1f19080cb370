#include "nodes/http_hops.h"

#include <chrono>
#include <optional>
#include <utility>

namespace keelback::nodes {
namespace {

// The owner answers at the deadline; its answer has this long to come.
constexpr Duration kAfterDeadline = std::chrono::seconds(2);

HopClient::OnResult on_result(Hops::OnEnded ended) {
  return [ended = std::move(ended)](HopResult&& result) mutable {
    using End = HopResult::End;
    if (result.end == End::kOutcome) return ended({std::move(result.outcome), {}, {}});
    const auto end = result.end == End::kNotOwner       ? cluster::HopEnd::kNotOwner
                     : result.end == End::kNotConnected ? cluster::HopEnd::kNotConnected
                                                        : cluster::HopEnd::kBroken;
    ended({std::nullopt, end, std::move(result.why)});
  };
}

}  // namespace

std::uint64_t HttpHops::send(const std::string& url, const Call& call, host::OnItem item,
                             OnEnded ended) {
  std::optional<Duration> limit;
  if (call.deadline) limit = *call.deadline + kAfterDeadline;
  return client_.send(url, call, limit, std::move(item), on_result(std::move(ended)));
}

std::uint64_t HttpHops::end_session(const std::string& url, const std::string& session,
                                    Duration limit, OnEnded ended) {
  return client_.end_session(url, session, limit, on_result(std::move(ended)));
}

}  // namespace keelback::nodes
