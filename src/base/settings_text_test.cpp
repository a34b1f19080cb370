#include "base/settings_text.h"

#include <gtest/gtest.h>

#include "base/nearest.h"

namespace keelback {
namespace {

using namespace std::chrono_literals;

// Goal: what people write is read exactly, and written back in its simplest form.
TEST(SettingsText, ReadsDurationsExactlyAndWritesThemInTheLargestUnit) {
  const struct {
    std::string_view text;
    Duration value;
    std::string_view canonical;
  } kCases[] = {{"200ms", 200ms, "200ms"},  {"5s", 5s, "5s"},
                {"2m", 2min, "2m"},         {"1h", 1h, "1h"},
                {"1d", 24h, "1d"},          {"250us", 250us, "250us"},
                {"7ns", 7ns, "7ns"},        {"90s", 90s, "90s"},
                {"60s", 60s, "1m"},         {"1.5s", 1500ms, "1500ms"},
                {"0.25ms", 250us, "250us"}, {"0", 0ns, "0"},
                {"0s", 0ns, "0"},           {" 5 s ", 5s, "5s"},
                {"1.5d", 36h, "36h"},       {"1.10s", 1100ms, "1100ms"},
                {"2.0ns", 2ns, "2ns"}};
  for (const auto& c : kCases) {
    const auto value = parse_duration(c.text);
    ASSERT_TRUE(value.has_value()) << c.text << ": " << value.error();
    EXPECT_EQ(*value, c.value) << c.text;
    EXPECT_EQ(format_duration(*value), c.canonical) << c.text;
  }
}

TEST(SettingsText, RefusesWhatIsNoDurationAndSaysHowToWriteOne) {
  for (const std::string_view text :
       {"", "s", "ms5", "5 parsecs", "1e3s", ".5s", "5.s", "1.2.3s"}) {
    const auto value = parse_duration(text);
    ASSERT_FALSE(value.has_value()) << text;
    EXPECT_NE(value.error().find("200ms, 5s, 2m or 1h"), std::string::npos) << value.error();
  }
  EXPECT_EQ(parse_duration("-5s").error(), "'-5s' is negative");
  EXPECT_EQ(parse_duration("30").error(),
            "'30' lacks its unit: write a duration such as 200ms, 5s, 2m or 1h");
  // The greatest duration is 2^63-1 ns; one more, and any more digits, do not wrap around.
  EXPECT_TRUE(parse_duration("9223372036854775807ns").has_value());
  EXPECT_FALSE(parse_duration("9223372036854775808ns").has_value());
  EXPECT_FALSE(parse_duration("999999999999999999999999999999h").has_value());
  EXPECT_FALSE(parse_duration("0.5ns").has_value()) << "finer than the clock";
}

TEST(SettingsText, ReadsSizesInBothFamiliesOfUnits) {
  EXPECT_EQ(parse_bytes("64KiB"), 64_KiB);
  EXPECT_EQ(parse_bytes("1MiB"), 1_MiB);
  EXPECT_EQ(parse_bytes("10MB"), Bytes{10'000'000});
  EXPECT_EQ(parse_bytes("1.5KiB"), Bytes{1536});
  EXPECT_EQ(parse_bytes("12B"), Bytes{12});
  EXPECT_EQ(parse_bytes("0"), Bytes{0});
  EXPECT_EQ(format_bytes(64_KiB), "64KiB");
  EXPECT_EQ(format_bytes({10'000'000}), "10000000B") << "decimal units would not be canonical";
  EXPECT_EQ(format_bytes({0}), "0");
  EXPECT_FALSE(parse_bytes("12").has_value());
  EXPECT_FALSE(parse_bytes("12 mib").has_value());
  EXPECT_FALSE(parse_bytes("16777216TiB").has_value()) << "2^64";
}

TEST(SettingsText, ReadsNumbersListsAndTruths) {
  EXPECT_EQ(parse_count("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(parse_count("18446744073709551616").error(), "'18446744073709551616' is too large");
  EXPECT_EQ(parse_count("-1").error(), "'-1' is negative");
  EXPECT_EQ(parse_count("2.5").error(), "'2.5' is not a whole number");
  EXPECT_EQ(parse_number("0.2"), 0.2);
  EXPECT_EQ(format_number(0.2), "0.2");
  EXPECT_FALSE(parse_number("nan").has_value());
  EXPECT_FALSE(parse_number("inf").has_value());
  EXPECT_EQ(parse_list(" a, b ,c"), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(parse_list(""), std::vector<std::string>{});
  EXPECT_FALSE(parse_list("a,,b").has_value());
  EXPECT_FALSE(parse_list("a,").has_value());
  EXPECT_EQ(format_list({"a", "b"}), "a,b");
  EXPECT_EQ(parse_bool("true"), true);
  EXPECT_EQ(parse_bool("false"), false);
  EXPECT_FALSE(parse_bool("yes").has_value());
}

// Goal: a table survives being written, whatever its texts hold.
TEST(SettingsText, ReadsTablesAndWritesThemSoThatTheyReadBack) {
  EXPECT_EQ(parse_table(""), TextTable{});
  EXPECT_EQ(parse_table("A=1, B=x\\,y=z,C="), (TextTable{{"A", "1"}, {"B", "x,y=z"}, {"C", ""}}));
  EXPECT_EQ(parse_table("A= 1 ,B=2"), (TextTable{{"A", " 1 "}, {"B", "2"}})) << "blanks of a text";
  const TextTable odd = {{" a=b,c", "d\\,"}, {"\\", "=,="}, {"e", "\n\t"}};
  EXPECT_EQ(parse_table(format_table(odd)), odd);
  EXPECT_EQ(format_table({{"NO_PROXY", "a,b"}, {"PORT", "91{slot}"}}),
            "NO_PROXY=a\\,b,PORT=91{slot}");
  EXPECT_EQ(parse_table("A").error(), "'A' has no value: write NAME=TEXT");
  EXPECT_EQ(parse_table("A=1,").error(), "'' has no value: write NAME=TEXT");
  EXPECT_EQ(parse_table("=1").error(), "a name of the table is empty");
  EXPECT_EQ(parse_table("A=1,A=2").error(), "'A' is there twice");
}

TEST(SettingsText, NamesEveryEnumeratorAndTheNearestToAWrongOne) {
  EXPECT_EQ(setting_name(Affinity::kStrictQueue), "strict_queue");
  EXPECT_EQ(setting_name(Affinity::kHint), "hint");
  EXPECT_EQ(setting_name(SnapshotMode::kEachCall), "each_call");
  EXPECT_EQ(setting_name(LogLevel::kOff), "off");
  EXPECT_EQ(parse_choice("hint", setting_names<Affinity>()), 2u);
  EXPECT_EQ(parse_choice("strict_que", setting_names<Affinity>()).error(),
            "'strict_que' is not one of strict_queue, strict_fail_fast or hint; did you mean "
            "strict_queue?");
  EXPECT_EQ(parse_choice("zebra", setting_names<LogFormat>()).error(),
            "'zebra' is not one of text or json");
}

TEST(Nearest, CountsInsertionsOmissionsChangesAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("stauts", "status"), 1u) << "one swap of neighbours";
  EXPECT_EQ(edit_distance(std::string(1000, 'a'), std::string(500, 'a')), 0u) << "bounded work";
  const std::string_view known[] = {"serve", "run", "call", "status"};
  EXPECT_EQ(nearest("stats", known), "status");
  EXPECT_EQ(plausible("sevre", known), "serve");
  EXPECT_EQ(plausible("bananas", known), "");
  EXPECT_EQ(nearest("x", {}), "");
  EXPECT_EQ(did_you_mean("sevre", known), "; did you mean serve?");
  EXPECT_EQ(did_you_mean("bananas", known), "");
}

}  // namespace
}  // namespace keelback
