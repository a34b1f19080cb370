#include "server/target.h"

#include <gtest/gtest.h>

namespace keelback::server {
namespace {

// Goal: what is escaped stays inside its segment, and a broken escape is refused, not guessed.
TEST(Target, DecodesSegmentsAfterSplitting) {
  const auto target = parse_target("/v1/sessions/a%2Fb%20c?limit=5&after=x%2By+z&flag");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->segments, (std::vector<std::string>{"v1", "sessions", "a/b c"}));
  EXPECT_EQ(*target->query_value("limit"), "5");
  EXPECT_EQ(*target->query_value("after"), "x+y z");
  EXPECT_EQ(*target->query_value("flag"), "");
  EXPECT_EQ(target->query_value("none"), nullptr);
  for (const char* bad : {"/%", "/%4", "/%zz", "/%ff", "/a?%q=1", "", "*", "v1/pool", "/a#b"}) {
    EXPECT_FALSE(parse_target(bad)) << bad;
  }
  EXPECT_EQ(parse_target("http://localhost:80/livez")->path, "/livez");
  EXPECT_EQ(parse_target("http://localhost")->path, "/");
}

// Goal: a route is its exact path; dots walk nowhere; a wrong method hears which are right.
TEST(Target, MatchesRoutesExactly) {
  const auto match = [](const char* method, const char* path) {
    return match_route(method, *parse_target(path));
  };
  EXPECT_EQ(match("POST", "/v1/call/greet").route, Route::kCall);
  EXPECT_EQ(match("POST", "/v1/call/greet").parameter, "greet");
  EXPECT_EQ(match("HEAD", "/livez").route, Route::kLivez);
  EXPECT_EQ(match("PATCH", "/v1/config").route, Route::kConfig);
  EXPECT_EQ(match("POST", "/v1/workers/3/recycle").parameter, "3");
  for (const char* unknown : {"/", "/v1", "/v1/call", "/v1/call/", "/v1/call/a/b", "/livez/",
                              "//livez", "/v1/../livez", "/V1/pool", "/v1/pool/x"}) {
    EXPECT_FALSE(match("GET", unknown).path_known) << unknown;
  }
  const Match wrong = match("DELETE", "/v1/config");
  EXPECT_TRUE(wrong.path_known);
  EXPECT_FALSE(wrong.route);
  EXPECT_EQ(wrong.allow, "GET, HEAD, PATCH, OPTIONS");
  EXPECT_EQ(nearest_route("/v1/sesions"), "/v1/sessions");
  EXPECT_EQ(nearest_route("/metric"), "/metrics");
}

}  // namespace
}  // namespace keelback::server
