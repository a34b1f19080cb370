#include "host/request_print.h"

#include <gtest/gtest.h>

namespace keelback::host {
namespace {

Attachments one(std::string bytes, std::string name = "a", std::string dtype = "",
                std::vector<std::uint64_t> shape = {}) {
  return {{std::move(name), Buffer(std::move(bytes)), std::move(dtype), std::move(shape)}};
}

// Goal: whatever makes another request makes another full print, be it one bit in the middle of
// what the quick print does not look at.
TEST(RequestPrint, FullPrintsTellEverythingApart) {
  const std::string bytes(1 << 20, 'x');
  std::string other = bytes;
  other[700'001] ^= 1;
  const auto full = [](const Attachments& attachments) {
    return full_print(quick_print(7, attachments), attachments);
  };
  EXPECT_EQ(full(one(bytes)), full(one(bytes)));
  EXPECT_NE(full(one(bytes)), full(one(other)));
  EXPECT_NE(full(one(bytes)), full(one(bytes, "b")));
  EXPECT_NE(full(one(bytes)), full(one(bytes, "a", "uint8")));
  EXPECT_NE(full(one(bytes, "a", "uint8", {1 << 20})),
            full(one(bytes, "a", "uint8", {2, 1 << 19})));
  EXPECT_NE(full(one("")), full({}));
  Attachments described = one(bytes);
  described[0].filename = "f";
  EXPECT_NE(full(one(bytes)), full(described));
  described[0].filename = "";
  described[0].content_type = "f";
  EXPECT_NE(full(one(bytes)), full(described));
  EXPECT_NE(quick_print(7, one(bytes)), quick_print(8, one(bytes)));
}

TEST(SuspectPrints, ForgetsTheOldestBeyondItsMaximum) {
  SuspectPrints prints;
  for (std::uint64_t i = 0; i < SuspectPrints::kMax; ++i) prints.add(i);
  prints.add(0);
  EXPECT_TRUE(prints.contains(0));
  prints.add(SuspectPrints::kMax);
  EXPECT_FALSE(prints.contains(0));
  EXPECT_TRUE(prints.contains(1) && prints.contains(SuspectPrints::kMax));
}

}  // namespace
}  // namespace keelback::host
