#include "base/application.h"

#include <gtest/gtest.h>

#include <string>

namespace keelback {
namespace {

using namespace std::chrono_literals;

// Goal: everything that Python says of an application is in the type.
TEST(Application, HasWhatHelloSays) {
  const auto read = parse_application(
      R"({"app":"a.py","runtime":"python 3.11","health":true,"new":1,"functions":[
          {"name":"f","doc":"d","timeout":1.5,"idempotent":true,"max_workers":2,"concurrency":32,"new":1,
           "result":{"$ref":"#/$defs/T"},
           "params":[{"name":"x","kind":"keyword_only","required":true,"type":"int","schema":{"type":"integer"}},
                     {"name":"y","kind":"positional_or_keyword","required":false,"type":null}]},
          {"name":"g","stream":true,"async":true,"timeout":null,"interruptible":true,"result":3},
          {"name":"b","batch":32,"batch_wait":0.004}],
          "$defs":{"T":{}}})");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->name, "a.py");
  EXPECT_EQ(read->runtime, "python 3.11");
  EXPECT_TRUE(read->health);
  ASSERT_EQ(read->functions.size(), 3U);
  const FunctionInfo* f = read->find("f");
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->doc, "d");
  EXPECT_EQ(f->timeout, 1500ms);
  EXPECT_TRUE(f->idempotent);
  EXPECT_EQ(f->max_workers, 2U);
  EXPECT_EQ(f->concurrency, 32U);
  EXPECT_EQ(read->find("g")->concurrency, 1U);
  EXPECT_EQ(read->find("g")->batch, 0U);
  EXPECT_EQ(read->find("b")->batch, 32U);
  EXPECT_EQ(read->find("b")->batch_wait, 4ms);
  EXPECT_FALSE(f->stream || f->async || f->interruptible);
  ASSERT_EQ(f->parameters.size(), 2U);
  EXPECT_EQ(f->parameters[0].kind, "keyword_only");
  EXPECT_EQ(f->parameters[0].type, "int");
  EXPECT_TRUE(f->parameters[0].required);
  EXPECT_EQ(f->parameters[0].schema, R"({"type":"integer"})");
  EXPECT_EQ(f->parameters[1].type, "") << "not annotated";
  EXPECT_EQ(f->parameters[1].schema, "");
  EXPECT_EQ(f->result_schema, R"({"$ref":"#/$defs/T"})");
  EXPECT_EQ(read->definitions, R"({"T":{}})");
  const FunctionInfo* g = read->find("g");
  ASSERT_NE(g, nullptr);
  EXPECT_TRUE(g->stream && g->async && g->interruptible);
  EXPECT_FALSE(g->timeout);
  EXPECT_EQ(g->result_schema, "") << "no schema";
  EXPECT_EQ(read->find("h"), nullptr);
}

// Goal: foreign text is refused, or read without what makes no sense; it never does harm.
TEST(Application, RefusesWhatIsNoHello) {
  for (const char* bad : {"", "[]", "{}", R"({"functions":3})", R"({"functions":[{}]})",
                          R"({"functions":[3]})", "\xff"}) {
    EXPECT_FALSE(parse_application(bad)) << bad;
  }
  const std::string deep =
      "{\"functions\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  EXPECT_FALSE(parse_application(deep)) << "it nests deeper than a stack";
  const auto odd = parse_application(
      R"({"app":3,"functions":[{"name":"f","timeout":1e300,"max_workers":-1,"params":[1]}]})");
  ASSERT_TRUE(odd);
  EXPECT_EQ(odd->name, "");
  EXPECT_FALSE(odd->functions[0].timeout) << "more than nanoseconds can hold";
  EXPECT_EQ(odd->functions[0].max_workers, 0U);
  EXPECT_TRUE(odd->functions[0].parameters.empty());
}

}  // namespace
}  // namespace keelback
