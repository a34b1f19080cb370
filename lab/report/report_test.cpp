#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "report/chart.h"
#include "report/page.h"

namespace keelback::report {
namespace {

using testing::HasSubstr;
using testing::Not;

// Goal: whatever an application prints ends up in a report as text, never as markup.
TEST(Page, EverythingButChartsIsEscaped) {
  Page page("<t>", "\"s\"");
  page.banner(Tone::kBad, "<b>", "a & b", {{"<k>", "<v>"}});
  page.tiles({{"<1>", "<label>"}});
  page.section("<h>", "<lead>");
  page.table({.head = {"<th>"}, .rows = {{Cell("<script>alert(1)</script>")}}});
  page.code("<pre>");
  const std::string html = page.html();
  EXPECT_THAT(html, Not(HasSubstr("<script>")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;"));
  EXPECT_THAT(html, HasSubstr("a &amp; b"));
}

// Goal: the file is complete: nothing is fetched from anywhere.
TEST(Page, IsOffline) {
  Page page("t", "s");
  page.section("one");
  page.figure(draw(Chart{.x = {.label = "s"},
                         .y = {.label = "n"},
                         .series = {{.name = "a", .points = {{0, 1}, {1, 2}}}}}),
              "c");
  const std::string html = page.html();
  for (const char* word : {"http://", "https://", "src=", "@import", "url("}) {
    EXPECT_THAT(html, Not(HasSubstr(word))) << word;
  }
}

// Goal: every chart survives data nobody planned for, and never writes "nan" or "inf" into a path.
TEST(Chart, AwkwardDataStayDrawable) {
  const std::vector<std::vector<std::pair<double, double>>> awkward = {{},
                                                                       {{0, 0}},
                                                                       {{1, 1}, {1, 1}},
                                                                       {{0, NAN}, {1, 2}},
                                                                       {{0, 1e300}, {1, -1e300}},
                                                                       {{5, 3}, {6, 3}}};
  for (const auto& points : awkward) {
    for (Scale scale : {Scale::kLinear, Scale::kLog}) {
      for (auto kind : {Series::Kind::kLine, Series::Kind::kSteps, Series::Kind::kArea}) {
        const std::string svg =
            draw(Chart{.x = {.label = "x"},
                       .y = {.label = "y", .scale = scale},
                       .series = {{.name = "s", .points = points, .kind = kind}}});
        EXPECT_EQ(svg.find("nan"), std::string::npos);
        EXPECT_EQ(svg.find("inf"), std::string::npos);
        EXPECT_NE(svg.find("</svg>"), std::string::npos);
        EXPECT_LT(svg.size(), 20'000u) << "a readable number of ticks";
      }
    }
  }
  EXPECT_THAT(draw(Lanes{}), HasSubstr("no data"));
  EXPECT_THAT(draw(Ladders{}), HasSubstr("no data"));
  EXPECT_THAT(draw(Forest{}), HasSubstr("no data"));
  EXPECT_THAT(draw(Heat{}), HasSubstr("no data"));
  EXPECT_THAT(draw(Waterfall{}), HasSubstr("no data"));
}

// Goal: stacked areas add up: the second one's top is the sum.
TEST(Chart, StackedAreasAddUp) {
  Chart chart{.x = {.label = "x"}, .y = {.label = "y", .low = 0.0, .high = 10.0}, .stacked = true};
  chart.series = {
      {.name = "a", .points = {{0, 4}, {1, 4}}, .kind = Series::Kind::kArea},
      {.name = "b", .colour = 1, .points = {{0, 6}, {1, 6}}, .kind = Series::Kind::kArea}};
  // 10 of 10 is the top of the plot, at y = 22.
  EXPECT_THAT(draw(chart), HasSubstr("M92.0 22.0L944.0 22.0"));
}

// Goal: names that would cover each other stand on different levels.
TEST(Chart, LaddersKeepCloseNamesApart) {
  const std::string svg =
      draw(Ladders{.rows = {{"k", {{"detect", 1.0}, {"contain", 1.01}, {"late", 5000}}, "never"}}});
  const auto y_of = [&](const std::string& name) {
    const std::size_t end = svg.find(">" + name + " ");
    const std::size_t y = svg.rfind(" y=\"", end);
    return svg.substr(y, svg.find('"', y + 4) - y);
  };
  EXPECT_NE(y_of("detect"), y_of("contain"));
  EXPECT_EQ(y_of("detect"), y_of("late"));
  EXPECT_THAT(svg, HasSubstr(">never<"));
}

TEST(Page, WhatStandsBetweenBackticksIsCode) {
  Page page("t", "s");
  page.note(Tone::kWarn, "`<f>` is here, ` is not");
  EXPECT_THAT(page.html(), HasSubstr("<code>&lt;f&gt;</code> is here, ` is not"));
}

// Goal: a page with one of each chart, for looking at. Written when KEELBACK_GALLERY names a file.
TEST(Chart, Gallery) {
  Page page("Gallery", "one of each chart");
  page.banner(Tone::kGood, "PASS", "every chart drew", {{"seed", "42"}, {"commit", "abc"}});
  page.section("Curve", "offered, good and p99 with a fault's window and its ladder");
  Chart curve{.x = {.label = "seconds"}, .y = {.label = "calls a second"}, .stacked = true};
  Series good{.name = "ok", .colour = 2, .kind = Series::Kind::kArea},
      bad{.name = "lost", .colour = 6, .kind = Series::Kind::kArea},
      p99{.name = "p99 ms", .colour = 0, .kind = Series::Kind::kLine};
  for (int i = 0; i <= 100; ++i) {
    const double t = i / 10.0, dip = t > 4 && t < 5 ? 60 : 0;
    good.points.emplace_back(t, 100 - dip);
    bad.points.emplace_back(t, dip);
    p99.points.emplace_back(t, 5 + dip / 4);
  }
  curve.series = {good, bad, p99};
  curve.shades = {{4, 5, "worker-kill"}};
  curve.marks = {{4.01, "detected"}, {4.05, "replaced"}, {5.0, "service"}};
  page.figure(draw(curve), "Degradation");
  Lanes lanes{
      .x = {.label = "seconds"},
      .lanes = {{"slot 0", {{0, 4, 0, "generation 1"}, {4.05, 10, 1, "generation 5"}}, {1, 2, 3}},
                {"slot 1", {{0, 10, 0, "generation 2"}}, {}}},
      .shades = {{4, 5, "kill"}}};
  page.figure(draw(lanes), "Slots");
  page.figure(
      draw(Ladders{.x = {.label = "ms"},
                   .rows = {{"k proc.kill",
                             {{"detect", 1.2}, {"contain", 1.3}, {"respawn", 4}, {"service", 800}},
                             "drained: never"}}}),
      "Ladders");
  page.figure(draw(Forest{.label = "head against base, %",
                          .rows = {{"no-op p50", 0.3, -0.4, 1.1, 1, 4, 2, "OK"},
                                   {"startup", 8.1, 6.2, 9.8, 1, 4, 6, "REGRESSED"}}}),
              "Forest");
  Heat heat{.x = {.label = "s"}, .y = {.label = "ms"}, .x_step = 0.2};
  for (int i = 0; i < 2000; ++i) heat.points.emplace_back(i / 200.0, 1 + (i * 7919 % 100) / 20.0);
  page.figure(draw(heat), "Heat");
  page.figure(
      draw(Waterfall{.unit = "ms",
                     .rows = {{"fork start", {{"fork", 3.2}, {"hello", 0.8}, {"setup", 0.4}}},
                              {"exec start", {{"exec", 12}, {"import", 40}, {"setup", 0.4}}}}}),
      "Start-up");
  page.table(
      {.head = {"metric", "value"}, .rows = {{Cell("p50"), Cell("12.3 µs", Tone::kGood, true)}}});
  const std::string html = page.html();
  EXPECT_THAT(html, HasSubstr("</html>"));
  if (const char* path = std::getenv("KEELBACK_GALLERY")) std::ofstream(path) << html;
}

}  // namespace
}  // namespace keelback::report
