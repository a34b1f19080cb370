#include "base/toml_nesting.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace keelback {
namespace {

std::string many(std::size_t count, std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

// Goal: what nests at the limit passes; one more does not, in each way that TOML has.
TEST(TomlNesting, TheLimitIsExact) {
  const std::string key = "a" + many(kTomlKeyDotsMax, ".a");
  const auto arrays = [](std::size_t count) { return many(count, "[") + many(count, "]"); };
  for (const std::string& text : std::vector<std::string>{
           key + " = 1", "[" + key + "]", "[[" + key + "]]", "x = {" + key + " = 1}",
           "x = " + arrays(kTomlBracketsMax), "x = [\n{" + key + " = 1,\n" + key + "2 = 1.5}]"}) {
    EXPECT_FALSE(toml_too_deep(text)) << text;
  }
  for (const std::string& text : std::vector<std::string>{
           key + ".a = 1", "[" + key + " . a]", "[[" + key + ".\"a\"]]", "x = {" + key + ".a = 1}",
           "x = " + arrays(kTomlBracketsMax + 1), "x = " + many(kTomlBracketsMax + 1, "{a=")}) {
    EXPECT_TRUE(toml_too_deep(text)) << text;
  }
}

// Goal: dots and brackets in strings and comments are none, and no string hides what is behind it.
TEST(TomlNesting, StringsAndCommentsAreText) {
  const std::string dots(100, '.');
  const std::string deep = "\n" + many(100, "a.") + "a = 1";
  for (const std::string& text : std::vector<std::string>{
           "\"" + dots + "\" = 1", "'" + dots + "' = 1", "x = 1 # " + dots + many(100, "["),
           "x = \"\"\"\n" + dots + "\n\"\"\"", "x = '''\n" + dots + "\\'''",
           "x = \"\\\"" + dots + "\"", "x = 'c:\\'", "x = \"\"\"a\"\"\"\"\"",
           std::string("x = \"unclosed")}) {
    EXPECT_FALSE(toml_too_deep(text)) << text;
    const auto found = toml_too_deep(text + deep);
    ASSERT_TRUE(found) << text;
    EXPECT_NE(found->why.find("dots"), std::string::npos);
  }
  EXPECT_TRUE(toml_too_deep("x = [\"\"\"a\"\"\"\", " + many(100, "["))) << "four quotes close";
}

// Goal: the place is told.
TEST(TomlNesting, TheLineIsTold) {
  const auto found = toml_too_deep("a = 1\nb = \"\"\"\n\n\"\"\"\nc = " + many(40, "["));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->line, 5U);
}

}  // namespace
}  // namespace keelback
