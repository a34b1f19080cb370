#include "server/accept.h"

#include <gtest/gtest.h>

namespace keelback::server {
namespace {

TEST(Accept, TellsHowWellATypeIsTaken) {
  EXPECT_EQ(taken("", "image/png"), Taken::kAsAnything) << "no header takes anything";
  EXPECT_EQ(taken("*/*", "image/png"), Taken::kAsAnything);
  EXPECT_EQ(taken("application/json, text/plain, */*", "image/png"), Taken::kAsAnything);
  EXPECT_EQ(taken("image/*", "image/png"), Taken::kAsItsKind);
  EXPECT_EQ(taken("*/*;q=0.1, Image/PNG ;q=1", "image/png; x=y"), Taken::kByName);
  EXPECT_EQ(taken("image/jpeg, application/json", "image/png"), Taken::kNo);
  EXPECT_EQ(taken("im/*", "image/png"), Taken::kNo);
  EXPECT_EQ(taken("image/*, image/png;q=0", "image/png"), Taken::kNo) << "the special one counts";
  EXPECT_EQ(taken("image/png; q=0.000", "image/png"), Taken::kNo);
  EXPECT_EQ(taken("image/png; q=0.001", "image/png"), Taken::kByName);
  EXPECT_EQ(taken(",, ,", "image/png"), Taken::kNo);
  EXPECT_TRUE(accepts("a/b;q=1, application/octet-stream;q=.5", "application/octet-stream"));
  EXPECT_FALSE(accepts("*/*, application/json", "application/octet-stream"));
}

TEST(Accept, KnowsWhatIsAMediaType) {
  for (const char* type : {"image/png", "text/plain; charset=utf-8", "application/vnd.x+json"}) {
    EXPECT_TRUE(is_media_type(type)) << type;
  }
  for (const char* none :
       {"", "png", "image/", "/png", "image/*", "a b/c", "a/b\r\nX: y", "a/\xc3"}) {
    EXPECT_FALSE(is_media_type(none)) << none;
  }
}

}  // namespace
}  // namespace keelback::server
