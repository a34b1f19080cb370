#include "server/target.h"

#include "base/nearest.h"
#include "base/utf8.h"
#include "httptext/percent.h"

namespace keelback::server {
namespace {

// Calls `each` with the parts of `text` between `separator`s, empty ones included.
template <typename F>
void split(std::string_view text, char separator, F each) {
  for (;;) {
    const auto end = text.find(separator);
    if (!each(text.substr(0, end)) || end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

bool matches(std::string_view pattern, const Target& target, std::string& parameter) {
  pattern.remove_prefix(1);
  std::size_t index = 0;
  bool same = true;
  split(pattern, '/', [&](std::string_view part) {
    if (index >= target.segments.size()) return same = false;
    const std::string& segment = target.segments[index++];
    if (part == "{}") {
      if (segment.empty()) return same = false;
      parameter = segment;
    } else if (part != segment) {
      return same = false;
    }
    return true;
  });
  return same && index == target.segments.size();
}

std::expected<void, std::string> parse_query(std::string_view raw, Target& target) {
  std::expected<void, std::string> result;
  split(raw, '&', [&](std::string_view pair) {
    if (pair.empty()) return true;
    const auto equals = pair.find('=');
    auto key = httptext::percent_decode(pair.substr(0, equals), true);
    auto value = httptext::percent_decode(
        equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1), true);
    if (!key || !value || !is_utf8(*key) || !is_utf8(*value)) {
      result = std::unexpected("the query is not percent-encoded UTF-8");
      return false;
    }
    target.query.emplace_back(std::move(*key), std::move(*value));
    return true;
  });
  return result;
}

}  // namespace

const std::string* Target::query_value(std::string_view key) const {
  for (const auto& [name, value] : query) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::expected<Target, std::string> parse_target(std::string_view raw) {
  if (raw.empty()) return std::unexpected("the request target is empty");
  if (raw[0] != '/') {
    const auto scheme = raw.find("://");
    if (scheme == std::string_view::npos) {
      return std::unexpected("the request target must begin with a slash");
    }
    raw.remove_prefix(scheme + 3);
    const auto slash = raw.find('/');
    raw = slash == std::string_view::npos ? std::string_view("/") : raw.substr(slash);
  }
  if (raw.find('#') != std::string_view::npos) {
    return std::unexpected("the request target has a fragment");
  }
  Target target;
  const auto question = raw.find('?');
  target.path = raw.substr(0, question);
  bool sound = true;
  split(std::string_view(target.path).substr(1), '/', [&](std::string_view part) {
    auto segment = httptext::percent_decode(part);
    if (!segment || !is_utf8(*segment)) return sound = false;
    target.segments.push_back(std::move(*segment));
    return true;
  });
  if (!sound) return std::unexpected("the path is not percent-encoded UTF-8");
  if (question != std::string_view::npos) {
    if (auto query = parse_query(raw.substr(question + 1), target); !query) {
      return std::unexpected(std::move(query.error()));
    }
  }
  return target;
}

const std::vector<RouteRow>& routes() {
  static const std::vector<RouteRow> rows = {
      {"/v1/call/{}", "POST", Route::kCall},
      {"/v1/calls/{}", "DELETE", Route::kCancelCall},
      {"/v1/calls/{}/dump", "GET", Route::kCallDump},
      {"/v1/functions", "GET", Route::kFunctions},
      {"/v1/pool", "GET", Route::kPool},
      {"/v1/cluster", "GET", Route::kCluster},
      {"/v1/workers", "GET", Route::kWorkers},
      {"/v1/workers/{}/recycle", "POST", Route::kRecycle},
      {"/v1/sessions", "GET", Route::kSessions},
      {"/v1/sessions/{}", "DELETE", Route::kEndSession},
      {"/v1/quarantine", "GET", Route::kQuarantine},
      {"/v1/quarantine/{}", "DELETE", Route::kRelease},
      {"/v1/config", "GET", Route::kConfig},
      {"/v1/config", "PATCH", Route::kConfig},
      {"/v1/reload", "POST", Route::kReload},
      {"/v1/drain", "POST", Route::kDrain},
      {"/v1/providers", "GET", Route::kProvide},
      {"/v1/providers/{}", "POST", Route::kAnswer},
      {"/openapi.json", "GET", Route::kOpenapi},
      {"/livez", "GET", Route::kLivez},
      {"/readyz", "GET", Route::kReadyz},
      {"/metrics", "GET", Route::kMetrics},
  };
  return rows;
}

Match match_route(std::string_view method, const Target& target) {
  Match match;
  for (const RouteRow& row : routes()) {
    if (!matches(row.pattern, target, match.parameter)) continue;
    match.path_known = true;
    if (row.method == method || (method == "HEAD" && row.method == "GET")) match.route = row.route;
    if (!match.allow.empty()) match.allow += ", ";
    match.allow += row.method == "GET" ? std::string_view("GET, HEAD") : row.method;
  }
  if (match.path_known) match.allow += ", OPTIONS";
  return match;
}

std::string_view nearest_route(std::string_view path) {
  static const auto patterns = [] {
    std::vector<std::string_view> all;
    for (const RouteRow& row : routes()) all.push_back(row.pattern);
    return all;
  }();
  return nearest(path.substr(0, 64), patterns);
}

}  // namespace keelback::server
