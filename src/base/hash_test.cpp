#include "base/hash.h"

#include <gtest/gtest.h>

namespace keelback {
namespace {

// Goal: the published values of FNV-1a. Plans, documents and the chaos probe in Python hold them.
TEST(Hash, FnvHasTheValuesThatOthersCompute) {
  EXPECT_EQ(fnv1a(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(fnv1a("a"), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(fnv1a("foobar"), 0x85944171f73967e8ULL);
  EXPECT_EQ(fnv1a("\xff"), (kFnvBasis ^ 0xff) * kFnvPrime) << "bytes have no sign";
  EXPECT_EQ(fnv1a("bar", fnv1a("foo")), fnv1a("foobar"));
  EXPECT_EQ(fnv1a(0x0807060504030201ULL, kFnvBasis), fnv1a("\1\2\3\4\5\6\7\10"));
}

// Goal: each byte, the length and the seed count; so does where one text ends and the next begins.
TEST(Hash, SeededHashTellsTextsApart) {
  EXPECT_EQ(seeded_hash("12345678a", 7), seeded_hash("12345678a", 7));
  EXPECT_NE(seeded_hash("12345678a", 7), seeded_hash("12345678b", 7));
  EXPECT_NE(seeded_hash("12345678a", 7), seeded_hash("12345678a", 8));
  EXPECT_NE(seeded_hash(std::string(8, '\0'), 7), seeded_hash(std::string(9, '\0'), 7));
  EXPECT_NE(seeded_hash("b", seeded_hash("a", 7)), seeded_hash("", seeded_hash("ab", 7)));
}

}  // namespace
}  // namespace keelback
