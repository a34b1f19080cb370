#include "core/attachment_rules.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

Attachments named(std::initializer_list<std::string> names) {
  Attachments all;
  for (const std::string& name : names) all.push_back({name, Buffer("xy"), "", {}});
  return all;
}

TEST(AttachmentRules, TellWhyAndOnlyThen) {
  EXPECT_EQ(fault_of({}), "");
  EXPECT_EQ(fault_of(named({"a", "b", "", ""})), "") << "nameless ones go by their position";
  EXPECT_EQ(fault_of(named({"a", "b", "a"})), "Two attachments are called \"a\".");
  EXPECT_EQ(fault_of(named({"0", ""})), "");
  EXPECT_EQ(fault_of(named({"1", ""})), "Two attachments are called \"1\".")
      << "the second would hide the first";
  EXPECT_EQ(fault_of(Attachments(64)), "");
  EXPECT_NE(fault_of(Attachments(65)), "");
  EXPECT_EQ(fault_of(named({std::string(256, 'n')})), "");
  EXPECT_NE(fault_of(named({std::string(257, 'n')})), "");
  EXPECT_EQ(fault_of({{"a", {}, std::string(32, 'd'), std::vector<std::uint64_t>(16)}}), "");
  EXPECT_NE(fault_of({{"a", {}, std::string(33, 'd'), {}}}), "");
  EXPECT_NE(fault_of({{"a", {}, "", std::vector<std::uint64_t>(17)}}), "");
  EXPECT_EQ(bytes_of(named({"a", "b"})), 4u);
}

}  // namespace
}  // namespace keelback::core
