#include "base/utf8.h"

#include <gtest/gtest.h>

namespace keelback {
namespace {

// Goal: only UTF-8 that JSON can carry.
TEST(Utf8, KnowsWhatItIs) {
  for (const char* good : {"", "plain", "gr\xc3\xbc\xc3\x9f", "\xe2\x82\xac", "\xf0\x9f\x90\x8d",
                           "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_utf8(good)) << good;
  }
  for (const char* bad :
       {"\xff", "\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82",
        "\xc3(", "\xc3", "a\xff", "\xe0\x80\x80", "\xf5\x80\x80\x80"}) {
    EXPECT_FALSE(is_utf8(bad)) << bad;
  }
}

// Goal: a character is decoded; a byte that begins none has length 0 and takes no other with it.
TEST(Utf8, DecodesTheFirstCharacter) {
  EXPECT_EQ(first_character("ab").code, U'a');
  EXPECT_EQ(first_character("\xe2\x82\xacx").code, U'\u20ac');
  EXPECT_EQ(first_character("\xe2\x82\xacx").length, 3U);
  EXPECT_EQ(first_character("\xf0\x9f\x90\x8d").code, U'\U0001F40D');
  EXPECT_EQ(first_character("\xe2(\xac").length, 0U);
  EXPECT_EQ(first_character("").length, 0U);
}

// Goal: what is cut after these bytes can go on with the rest.
TEST(Utf8, SeesACharacterThatIsNotWhole) {
  EXPECT_EQ(unfinished_character("ab"), 0U);
  EXPECT_EQ(unfinished_character("a\xc3"), 1U);
  EXPECT_EQ(unfinished_character("a\xc3\xbc"), 0U);
  EXPECT_EQ(unfinished_character("a\xf0\x9f\x90"), 3U);
  EXPECT_EQ(unfinished_character("\x80\x80\x80\x80"), 0U) << "no character that could go on";
}

}  // namespace
}  // namespace keelback
