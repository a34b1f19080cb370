#include "base/nearest.h"

#include <gtest/gtest.h>

namespace keelback {
namespace {

constexpr std::string_view kKnown[] = {"serve", "run", "Keelback-Session"};

// Goal: one slip of the finger costs one, whichever it is; the case of a letter costs nothing.
TEST(Nearest, CountsSlipsOfTheFinger) {
  EXPECT_EQ(edit_distance("serve", "serve"), 0U);
  EXPECT_EQ(edit_distance("sreve", "serve"), 1U);
  EXPECT_EQ(edit_distance("serv", "serve"), 1U);
  EXPECT_EQ(edit_distance("servee", "serve"), 1U);
  EXPECT_EQ(edit_distance("sarve", "serve"), 1U);
  EXPECT_EQ(edit_distance("SERVE", "serve"), 0U);
}

// Goal: the nearest word is named as it is written; one that is far off is not plausible.
TEST(Nearest, NamesOnlyWhatIsPlausible) {
  EXPECT_EQ(nearest("keelback-sesion", kKnown), "Keelback-Session");
  EXPECT_EQ(did_you_mean("Srve", kKnown), "; did you mean serve?");
  EXPECT_EQ(plausible("configuration", kKnown), "");
  EXPECT_EQ(did_you_mean("configuration", kKnown), "");
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace keelback
