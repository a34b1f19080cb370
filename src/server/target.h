// The request target (path and query) and the route table. Pure text; fuzzed.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keelback::server {

struct Target {
  // Decoded after splitting, so "%2F" stays inside its segment. "/" has one empty segment.
  std::vector<std::string> segments;
  std::string path;  // as it came, without the query; for messages
  std::vector<std::pair<std::string, std::string>> query;

  const std::string* query_value(std::string_view key) const;  // the first; nullptr if absent
};
// Origin form ("/a/b?c=d") or absolute form ("http://host/a"); the error is a sentence.
std::expected<Target, std::string> parse_target(std::string_view raw);

enum class Route {
  kLivez,
  kReadyz,
  kMetrics,
  kOpenapi,
  kFunctions,
  kPool,
  kCluster,
  kWorkers,
  kSessions,
  kQuarantine,
  kConfig,
  kCall,
  kCancelCall,
  kCallDump,
  kEndSession,
  kRelease,
  kRecycle,
  kReload,
  kDrain,
  kProvide,
  kAnswer,
};

struct RouteRow {
  std::string_view pattern;  // "{}" stands for one segment
  std::string_view method;   // GET implies HEAD; OPTIONS is everywhere
  Route route;
};
const std::vector<RouteRow>& routes();

struct Match {
  bool path_known = false;
  std::optional<Route> route;  // set if the method fits too
  std::string parameter;       // what stood for "{}"
  std::string allow;           // the Allow header of a known path
};
Match match_route(std::string_view method, const Target& target);
// The pattern nearest to a path that does not exist, for the message of a 404.
std::string_view nearest_route(std::string_view path);

}  // namespace keelback::server
