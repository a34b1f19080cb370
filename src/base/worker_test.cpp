#include "keelback/worker.h"

#include <gtest/gtest.h>

#include "base/id.h"

namespace keelback {
namespace {

// Goal: one type names a worker everywhere, and is written in one way.
TEST(WorkerRef, IsWrittenAsSlotAndGeneration) {
  EXPECT_EQ(to_string(WorkerRef{2, 17}), "2.17");
  EXPECT_FALSE(WorkerRef{}) << "no worker";
  EXPECT_TRUE((WorkerRef{1, 1}));
  EXPECT_LT((WorkerRef{1, 9}), (WorkerRef{2, 3})) << "by slot first";
  EXPECT_EQ(std::hash<WorkerId>{}({1, 2}), std::hash<WorkerId>{}({1, 2}));
}

}  // namespace
}  // namespace keelback
