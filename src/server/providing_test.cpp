#include "server/providing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace keelback::server {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::expected<std::vector<std::string>, std::string> names_of(const std::string& query) {
  return read_provided_names(*parse_target("/v1/providers" + query));
}
std::string many(std::size_t count) {
  std::string query = "?names=n0";
  for (std::size_t i = 1; i < count; ++i) query += ",n" + std::to_string(i);
  return query;
}

TEST(Providing, NamesAreAListOfBoundedLength) {
  EXPECT_THAT(*names_of("?names=lookup,charge"), ElementsAre("lookup", "charge"));
  EXPECT_THAT(*names_of("?names=a%2Cb&names=%C3%A9"), ElementsAre("a", "b", "\xC3\xA9"));
  EXPECT_EQ(names_of(many(64))->size(), 64U);
  EXPECT_THAT(names_of(many(65)).error(), HasSubstr("at most 64"));
  EXPECT_TRUE(names_of("?names=" + std::string(256, 'a')));
  EXPECT_THAT(names_of("?names=" + std::string(257, 'a')).error(), HasSubstr("256"));
  EXPECT_THAT(names_of("").error(), HasSubstr("missing"));
  for (const char* empty : {"?names=", "?names=a,", "?names=,a", "?names=a,,b", "?names"}) {
    EXPECT_THAT(names_of(empty).error(), HasSubstr("empty")) << empty;
  }
  EXPECT_THAT(names_of("?names=a,b,a").error(), HasSubstr("a twice"));
}

// Goal: the arguments are in the event as the JSON that they are, at any depth and over any lines.
TEST(Providing, ARequestIsAnEvent) {
  host::HostRequest request{.id = 7,
                            .name = "look \"up\"",
                            .arguments = "{\"a\":\n[1]}",
                            .call = CallId{17},
                            .session = "ann"};
  std::string text;
  append_request_event(text, request, 1999us);
  EXPECT_THAT(text, StartsWith("event: request\ndata: {\"id\":7,"));
  EXPECT_TRUE(text.ends_with("}\n\n"));
  std::string data = text.substr(text.find("data: ") + 6);
  data.erase(data.find("data: "), 6);  // of the second line
  EXPECT_EQ(json::parse(data), json::parse(R"({"id":7,"name":"look \"up\"","arguments":{"a":[1]},
                                               "call":17,"session":"ann","deadline_ms":1})"));

  const std::string deep = std::string(5000, '[') + std::string(5000, ']');
  request = {.id = 8, .name = "f", .arguments = deep, .traceparent = "00-ab"};
  text.clear();
  append_request_event(text, request, -5ms);
  EXPECT_EQ(text, "event: request\ndata: {\"id\":8,\"name\":\"f\",\"arguments\":" + deep +
                      ",\"call\":0,\"session\":null,\"deadline_ms\":0,\"traceparent\":\"00-ab\"}"
                      "\n\n");
  text.clear();
  append_cancel_event(text, 8);
  EXPECT_EQ(text, "event: cancel\ndata: {\"id\":8}\n\n");
}

TEST(Providing, TheTypeSaysWhetherAnAnswerIsAResult) {
  EXPECT_EQ(answer_kind("application/json"), AnswerKind::kResult);
  EXPECT_EQ(answer_kind("Application/Problem+JSON ; charset=utf-8"), AnswerKind::kError);
  EXPECT_FALSE(answer_kind("text/plain"));
  EXPECT_FALSE(answer_kind(""));
}

TEST(Providing, AResultIsAnyJson) {
  for (const char* text : {"null", "1", "\"a\"", " [1, {}] ", "{\"$attachment\": 1}"}) {
    const auto reply = read_answer(AnswerKind::kResult, text);
    ASSERT_TRUE(reply) << text;
    EXPECT_TRUE(reply->ok);
    EXPECT_EQ(reply->result, text);
  }
  for (const char* text : {"", "{", "NaN", "1 2", "\xFF"}) {
    EXPECT_THAT(read_answer(AnswerKind::kResult, text).error(), HasSubstr("not JSON")) << text;
  }
}

// Goal: both forms of an error reach Python as type and message, and one that says nothing is
// refused.
TEST(Providing, AnErrorHasATypeAndAMessage) {
  const auto error = [](const char* text) {
    const auto reply = read_answer(AnswerKind::kError, text);
    EXPECT_TRUE(reply) << text;
    EXPECT_FALSE(reply->ok);
    return reply->error_type + "|" + reply->error_message;
  };
  EXPECT_EQ(error(R"({"error":{"type":"KeyError","message":"no 7"}})"), "KeyError|no 7");
  EXPECT_EQ(error(R"({"error":{"message":"no"},"title":"t"})"), "|no");
  EXPECT_EQ(error(R"({"type":"urn:x","title":"No card","detail":"it has expired"})"),
            "urn:x|it has expired");
  EXPECT_EQ(error(R"({"title":"No card","detail":"it has expired"})"), "No card|it has expired");
  EXPECT_EQ(error(R"({"type":"about:blank","title":"Not Found","status":404})"), "|Not Found");
  for (const char* text : {"", "null", "[]", "{}", R"({"status":500})", R"({"type":"about:blank"})",
                           R"({"title":1})", R"({"error":"no"})", R"({"error":{}})",
                           R"({"error":{"type":["x"]}})", "{\"title\":\"a\""}) {
    EXPECT_FALSE(read_answer(AnswerKind::kError, text)) << text;
  }
}

}  // namespace
}  // namespace keelback::server
