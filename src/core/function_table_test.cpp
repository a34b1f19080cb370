#include "core/function_table.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

FunctionSpec named(std::string name) {
  FunctionSpec spec;
  spec.name = std::move(name);
  return spec;
}

// Goal: before the announcement a name lives as long as a call of it; after it, as long as the
// application has it or a call still runs.
TEST(FunctionTable, TrustsNamesUntilTheAnnouncement) {
  FunctionTable table(1);
  Function& guess = table.trust("guess");
  table.acquire(guess);
  EXPECT_EQ(&table.trust("guess"), &guess);
  table.release(guess);
  EXPECT_EQ(table.find("guess"), nullptr) << "nobody waits for it any more";

  Function& kept = table.trust("f");
  table.acquire(kept);
  Function& wrong = table.trust("nosuch");
  table.acquire(wrong);
  table.announce({named("f"), named("g")});
  EXPECT_TRUE(table.announced());
  EXPECT_EQ(table.find("f"), &kept);
  EXPECT_TRUE(kept.known);
  EXPECT_FALSE(wrong.known);
  table.release(wrong);
  EXPECT_EQ(table.find("nosuch"), nullptr);
  table.announce({named("g")});  // a reload took f away
  EXPECT_FALSE(kept.known);
  table.release(kept);
  EXPECT_EQ(table.find("f"), nullptr);
  EXPECT_TRUE(table.find("g")->known);
}

// Goal: the bulkhead has room for max_workers, or for all when it is 0.
TEST(FunctionTable, TheBulkheadCountsWhatRuns) {
  Function function;
  EXPECT_TRUE(function.has_room());
  function.spec.max_workers = 2;
  function.workers = 1;
  EXPECT_TRUE(function.has_room());
  function.workers = 2;
  EXPECT_FALSE(function.has_room());
}

}  // namespace
}  // namespace keelback::core
