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
  EXPECT_EQ(fault_of(named({"a", "b", "a"})), "") << "several of one name are a list";
  EXPECT_EQ(fault_of(Attachments(64)), "");
  EXPECT_NE(fault_of(Attachments(65)), "");
  EXPECT_EQ(fault_of(named({std::string(256, 'n')})), "");
  EXPECT_NE(fault_of(named({std::string(257, 'n')})), "");
  EXPECT_EQ(fault_of({{"a", {}, "float32", std::vector<std::uint64_t>(16)}}), "");
  EXPECT_NE(fault_of({{"a", {}, "float32", std::vector<std::uint64_t>(17)}}), "");
  EXPECT_NE(fault_of({{"a", {}, std::string(33, 'd'), {}}}).find("dtype 32"), std::string::npos);
  const auto described = [](std::string content_type, std::string filename) {
    Attachment one;
    one.content_type = std::move(content_type);
    one.filename = std::move(filename);
    return fault_of({one});
  };
  EXPECT_EQ(described(std::string(256, 't'), std::string(1024, 'f')), "");
  EXPECT_NE(described("", std::string(1025, 'f')), "");
  EXPECT_NE(described(std::string(257, 't'), ""), "");
  EXPECT_NE(described("a/b\r\nX: y", ""), "") << "it may become a header";
  EXPECT_NE(described("a/\xc3\xa9", ""), "");
  EXPECT_EQ(bytes_of(named({"a", "b"})), 4u);
}

// Goal: an array that is none is refused before it is sent, with the words that a worker has too.
TEST(AttachmentRules, TellWhatIsNoArray) {
  const auto fault = [](std::string dtype, std::vector<std::uint64_t> shape, std::size_t bytes) {
    return fault_of({{"x", Buffer(std::string(bytes, 'b')), std::move(dtype), std::move(shape)}});
  };
  EXPECT_EQ(fault(">f4", {2, 3}, 24), "");
  EXPECT_EQ(fault("<M8[ns]", {}, 8), "");
  EXPECT_EQ(fault("float32", {0, 3}, 0), "");
  EXPECT_EQ(fault("object", {1}, 8),
            R"(attachment "x" has the dtype "object", which attachments do not carry)");
  EXPECT_EQ(fault("float32", {3}, 16),
            R"(attachment "x" of 16 bytes is no float32 array of shape [3])");
  EXPECT_EQ(fault("float32", {}, 16),
            R"(attachment "x" of 16 bytes is no float32 array of shape [])");
  EXPECT_EQ(fault("", {16}, 16), R"(attachment "x" has a shape and no dtype)");
  Attachments nameless(2);
  nameless[1].dtype = "object";
  EXPECT_NE(fault_of(nameless).find("\"1\""), std::string::npos) << "named by its position";
}

}  // namespace
}  // namespace keelback::core
