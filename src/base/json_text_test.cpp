#include "base/json_text.h"

#include <gtest/gtest.h>

#include <string>

namespace keelback {
namespace {

std::string nested(std::size_t levels) {
  return std::string(levels, '[') + std::string(levels, ']');
}

// Goal: what RFC 8259 allows is JSON, also where it is odd.
TEST(JsonText, WhatTheStandardAllowsIsJson) {
  for (const char* text : {"0",
                           "-0",
                           "-1.5e+3",
                           "1E9",
                           " null ",
                           "true",
                           "false",
                           "\"\"",
                           R"("a\"b\\\/\b\f\n\r\t")",
                           R"("\ud800")",
                           "\"\x7f\"",
                           "[]",
                           "{}",
                           "[ ]",
                           "{ }",
                           R"({"a":1,"a":2})",
                           "[[],{}]",
                           "\t[1,\r\n2]\n",
                           R"({"":{"":[null]}})",
                           "\"é€😀\"",
                           "\"1234567\\n890\"",
                           "\"12345678\""}) {
    EXPECT_TRUE(is_json(text)) << text;
  }
}

// Goal: everything else is not, wherever in a word of eight bytes it stands.
TEST(JsonText, EverythingElseIsNotJson) {
  for (const char* text : {"",
                           " ",
                           "01",
                           "+1",
                           "1.",
                           ".5",
                           "1e",
                           "1e+",
                           "-",
                           "NaN",
                           "Infinity",
                           "nul",
                           "nullx",
                           "True",
                           "'a'",
                           "\"",
                           "\"a",
                           "\"\\\"",
                           R"("\x")",
                           R"("\u12g4")",
                           "\"\n\"",
                           "[",
                           "]",
                           "[1",
                           "[1,]",
                           "[,1]",
                           "[1 2]",
                           "[1}",
                           "{",
                           "{1:2}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{\"a\" 1}",
                           "1 2",
                           "[] []",
                           "{}}",
                           "\"\x80\"",
                           "\"\xC0\xAF\"",
                           "\"\xED\xA0\x80\"",
                           "\"\xF4\x90\x80\x80\"",
                           "\"\xE2\x82\"",
                           "<html>"}) {
    EXPECT_FALSE(is_json(text)) << text;
  }
  EXPECT_FALSE(is_json(std::string_view("\"\0\"", 3)));
  for (std::size_t at = 1; at < 20; ++at) {
    for (const char bad : {'\x01', '\x1f', '"', '\\', '\xff'}) {
      std::string text = "\"" + std::string(20, 'a') + "\"";
      text[at] = bad;
      EXPECT_FALSE(is_json(text)) << at << " " << static_cast<int>(bad);
    }
  }
}

// Goal: no depth takes the stack.
TEST(JsonText, DepthTakesNoStack) {
  constexpr std::size_t kDeep = 1'000'000;
  EXPECT_TRUE(is_json(nested(kDeep)));
  EXPECT_FALSE(is_json(nested(kDeep) + "]"));
  EXPECT_FALSE(is_json(std::string(kDeep, '{')));
  EXPECT_TRUE(json_nests_within(nested(kDeep), kDeep));
  EXPECT_FALSE(json_nests_within(nested(kDeep), kDeep - 1));
}

// Goal: only brackets that nest are counted: not those beside each other, nor those in a string.
TEST(JsonText, OnlyWhatNestsIsCounted) {
  EXPECT_TRUE(json_nests_within(R"([[],[],{"a":{}}])", 3));
  EXPECT_FALSE(json_nests_within(R"([[],[],{"a":{}}])", 2));
  EXPECT_TRUE(json_nests_within(R"(["[[[[", "\"[[[["])", 1));
  EXPECT_FALSE(json_nests_within(R"(["\\", [[1]]])", 2)) << "the string ends before the brackets";
}

}  // namespace
}  // namespace keelback
