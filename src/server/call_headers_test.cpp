#include "server/call_headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keelback::server {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;

Request call_with(std::initializer_list<std::pair<Header, std::string>> headers) {
  Request request;
  for (const auto& [header, value] : headers) {
    request.seen |= 1U << static_cast<int>(header);
    request.values[static_cast<std::size_t>(header)] = value;
  }
  return request;
}
constexpr const char* kTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

// Goal: every header reaches the call.
TEST(CallHeaders, AreAllRead) {
  const auto read =
      read_call_headers(call_with({{Header::kSession, "ann"},
                                   {Header::kAffinity, "hint"},
                                   {Header::kSessionOpen, "existing"},
                                   {Header::kDeadlineMs, "1500"},
                                   {Header::kExpectEpoch, "00000000deadbeef.7"},
                                   {Header::kPriority, "high"},
                                   {Header::kBatchKey, "tenant 7"},
                                   {Header::kIdempotent, "true"},
                                   {Header::kIdempotencyKey, "k 1"},
                                   {Header::kTraceparent, kTrace},
                                   {Header::kCall, "job-1"},
                                   {Header::kParent, "18446744073709551615"},
                                   {Header::kAccept, "a/b;q=1, Text/Event-Stream ; x"}}));
  ASSERT_TRUE(read) << read.error();
  const Call& call = read->call;
  EXPECT_EQ(call.session, "ann");
  EXPECT_EQ(call.affinity, Affinity::kHint);
  EXPECT_EQ(call.open, SessionOpen::kExisting);
  EXPECT_EQ(call.deadline, 1500ms);
  EXPECT_EQ(call.expect_epoch->birth, 0xdeadbeefU);
  EXPECT_EQ(call.expect_epoch->epoch, 7U);
  EXPECT_EQ(call.priority, Priority::kHigh);
  EXPECT_TRUE(call.idempotent);
  EXPECT_EQ(call.idempotency_key, "k 1");
  EXPECT_EQ(call.traceparent, kTrace);
  EXPECT_EQ(read->name, "job-1");
  EXPECT_EQ(call.parent, 18446744073709551615U);
  EXPECT_TRUE(read->wants_stream);

  const auto alone = read_call_headers(
      call_with({{Header::kSession, "a"}, {Header::kExpectEpoch, "3"}, {Header::kAccept, "*/*"}}));
  EXPECT_EQ(alone->call.expect_epoch->birth, 0U);
  EXPECT_EQ(alone->call.expect_epoch->epoch, 3U);
  EXPECT_FALSE(alone->wants_stream);
  EXPECT_FALSE(alone->call.deadline);
  EXPECT_EQ(alone->call.parent, 0U);
}

// Goal: whatever is malformed is refused by name, never ignored.
TEST(CallHeaders, MalformedOnesAreNamed) {
  const std::pair<Header, std::vector<std::string>> cases[] = {
      {Header::kSession, {"", std::string(257, 'a'), "\xFF"}},
      {Header::kAffinity, {"", "strict", "HINT"}},
      {Header::kSessionOpen, {"", "old"}},
      {Header::kDeadlineMs, {"", "0", "-1", "1.5", "1s", "99999999999999999999999"}},
      {Header::kExpectEpoch,
       {"", "0", "x", "1.", ".1", "g.1", "0.1", "-1.1", "11111111111111111.1", "1.-1"}},
      {Header::kPriority, {"", "urgent"}},
      {Header::kParent, {"", "0", "-1", "job-1", "1 ", "18446744073709551616"}},
      {Header::kBatchKey, {"", std::string(257, 'k')}},
      {Header::kIdempotent, {"", "yes", "1"}},
      {Header::kIdempotencyKey, {"", std::string(256, 'k')}},
      {Header::kTraceparent,
       {"", "00", std::string(55, '0'), std::string(kTrace) + "-x",
        "ff" + std::string(kTrace + 2)}},
      {Header::kCall, {"", "1", "a b", "a/b", std::string(129, 'a')}},
  };
  for (const auto& [header, values] : cases) {
    for (const std::string& value : values) {
      auto request = call_with({{Header::kSession, "s"}, {header, value}});
      const auto read = read_call_headers(request);
      ASSERT_FALSE(read) << to_string(header) << ": " << value;
      EXPECT_THAT(read.error(), StartsWith(std::string(to_string(header))));
    }
  }
  const auto fence = read_call_headers(call_with({{Header::kExpectEpoch, "1"}}));
  EXPECT_THAT(fence.error(), HasSubstr("without Keelback-Session"));
  Request misspelt;
  misspelt.unknown = "Keelback-Dedline-Ms";
  EXPECT_THAT(read_call_headers(misspelt).error(), HasSubstr("did you mean Keelback-Deadline-Ms?"));
}

// Goal: the largest values are accepted.
TEST(CallHeaders, MaximaFit) {
  EXPECT_TRUE(read_call_headers(call_with({{Header::kSession, std::string(256, 'a')}})));
  EXPECT_TRUE(read_call_headers(call_with({{Header::kIdempotencyKey, std::string(255, 'a')}})));
  EXPECT_TRUE(read_call_headers(call_with({{Header::kCall, std::string(128, 'a')}})));
  const auto read = read_call_headers(call_with({{Header::kDeadlineMs, "18446744073709551615"}}));
  EXPECT_GT(read->call.deadline, 24h) << "clipped, not overflown";
}

TEST(CallHeaders, JsonIsJsonWithOrWithoutParameters) {
  EXPECT_TRUE(is_json_type("application/json"));
  EXPECT_TRUE(is_json_type("Application/JSON ; charset=utf-8"));
  EXPECT_FALSE(is_json_type("application/jsonx"));
  EXPECT_FALSE(is_json_type("text/plain"));
  EXPECT_FALSE(is_json_type(""));
}

}  // namespace
}  // namespace keelback::server
