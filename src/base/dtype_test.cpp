#include "base/dtype.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace keelback {
namespace {

using Shape = std::vector<std::uint64_t>;

// Goal: every NumPy dtype of fixed size is known, in NumPy's names and in both byte orders.
TEST(Dtype, KnowsTheSizeOfEveryElementTypeThatArraysMayHave) {
  const std::pair<const char*, std::uint64_t> known[] = {{"bool", 1},
                                                         {"int8", 1},
                                                         {"uint16", 2},
                                                         {"int32", 4},
                                                         {"uint64", 8},
                                                         {"float16", 2},
                                                         {"float32", 4},
                                                         {"float64", 8},
                                                         {"float128", 16},
                                                         {"complex64", 8},
                                                         {"complex128", 16},
                                                         {"complex256", 32},
                                                         {"|b1", 1},
                                                         {"u1", 1},
                                                         {"<f4", 4},
                                                         {">f4", 4},
                                                         {"=i8", 8},
                                                         {">c16", 16},
                                                         {"<f16", 16},
                                                         {"<M8[ns]", 8},
                                                         {">m8[25s]", 8},
                                                         {"<M8", 8},
                                                         {"datetime64", 8},
                                                         {"datetime64[D]", 8},
                                                         {"timedelta64[ms]", 8},
                                                         {"|S5", 5},
                                                         {"S1", 1},
                                                         {"<U3", 12},
                                                         {">U1", 4},
                                                         {"S2147483647", 2147483647}};
  for (const auto& [dtype, bytes] : known) EXPECT_EQ(dtype_bytes(dtype), bytes) << dtype;
}

TEST(Dtype, KnowsNoOther) {
  for (const char* dtype : {"",
                            "float99",
                            "object",
                            "O",
                            "|O",
                            "|V8",
                            "V8",
                            "f12",
                            "<f3",
                            "|f4",
                            "|U3",
                            "S",
                            "S0",
                            "U0",
                            "U",
                            "S05",
                            "S-1",
                            "S1 ",
                            " f4",
                            "f4 ",
                            "<",
                            "<<f4",
                            "M8[xx]",
                            "M8[0s]",
                            "M8[]",
                            "M8[s",
                            "M8s",
                            "M7[s]",
                            "datetime64[ns",
                            "datetime64[1234567890s]",
                            "int",
                            "Float32",
                            "S2147483648",
                            "U536870912",
                            "S99999999999999999999",
                            "[('a','<i4')]"}) {
    EXPECT_EQ(dtype_bytes(dtype), std::nullopt) << dtype;
  }
}

// Goal: shape and size never contradict each other, whatever the extents are.
TEST(Dtype, TellsWhetherBytesAreAnArray) {
  const auto whole = [](const char* dtype, const Shape& shape, std::uint64_t bytes) {
    return is_whole_array(dtype, shape, bytes);
  };
  EXPECT_TRUE(whole("float32", {2, 3}, 24));
  EXPECT_TRUE(whole("float32", {}, 4)) << "one element without extents";
  EXPECT_TRUE(whole("float32", {0, 3}, 0));
  EXPECT_TRUE(whole("float32", {UINT64_MAX, UINT64_MAX, 0}, 0));
  EXPECT_TRUE(whole("<U3", {2}, 24));
  EXPECT_TRUE(whole("", {}, 17));
  EXPECT_FALSE(whole("float32", {}, 8));
  EXPECT_FALSE(whole("float32", {}, 0));
  EXPECT_FALSE(whole("float32", {2, 3}, 25));
  EXPECT_FALSE(whole("float32", {2, 3}, 0));
  EXPECT_FALSE(whole("float32", {0}, 4));
  EXPECT_FALSE(whole("float32", {1ULL << 32, 1ULL << 32, 4}, 16)) << "the product wraps";
  EXPECT_FALSE(whole("float32", {UINT64_MAX}, 4));
  EXPECT_FALSE(whole("", {3}, 3));
  EXPECT_FALSE(whole("object", {1}, 8));
}

TEST(Dtype, SaysWhatIsWrong) {
  EXPECT_EQ(array_fault("x", "float32", Shape{2, 3}, 24), "");
  EXPECT_EQ(array_fault("x", "float99", Shape{1}, 4),
            R"(attachment "x" has the dtype "float99", which attachments do not carry)");
  EXPECT_EQ(array_fault("x", "float32", Shape{2, 3}, 20),
            R"(attachment "x" of 20 bytes is no float32 array of shape [2, 3])");
  EXPECT_EQ(array_fault("x", "", Shape{2}, 2), R"(attachment "x" has a shape and no dtype)");
}

}  // namespace
}  // namespace keelback
