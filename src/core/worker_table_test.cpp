#include "core/worker_table.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

// Goal: generations count up over the whole pool, so nothing late ever finds somebody else.
TEST(WorkerTable, GenerationsNeverRepeat) {
  WorkerTable table;
  table.resize(2);
  Worker& first = table.make(*table.slot(1), Time{});
  Worker& second = table.make(*table.slot(2), Time{});
  EXPECT_EQ(first.id, (WorkerId{1, 1}));
  EXPECT_EQ(second.id, (WorkerId{2, 2}));
  const WorkerId gone = first.id;
  table.erase(first);
  EXPECT_EQ(table.find(gone), nullptr);
  EXPECT_EQ(table.make(*table.slot(1), Time{}).id, (WorkerId{1, 3}));
  EXPECT_EQ(table.find(WorkerId{2, 3}), nullptr) << "the slot belongs to the name";
}

// Goal: states are counted as they change, and `up` is what serves.
TEST(WorkerTable, CountsStates) {
  WorkerTable table;
  table.resize(1);
  Worker& worker = table.make(*table.slot(1), Time{});
  EXPECT_EQ(table.count(WorkerState::kStarting), 1u);
  EXPECT_EQ(table.up(), 0u);
  table.set(worker, Worker::Ready{});
  EXPECT_EQ(table.count(WorkerState::kStarting), 0u);
  EXPECT_EQ(table.up(), 1u);
  table.erase(worker);
  EXPECT_EQ(table.up(), 0u);
}

// Goal: a smaller pool unwants its highest slots and keeps their numbers for later.
TEST(WorkerTable, ResizesFromTheEnd) {
  WorkerTable table;
  table.resize(3);
  table.resize(1);
  EXPECT_TRUE(table.slot(1)->wanted);
  EXPECT_FALSE(table.slot(3)->wanted);
  EXPECT_EQ(table.slot(4), nullptr);
  EXPECT_EQ(table.slot(0), nullptr);
  table.resize(3);
  EXPECT_TRUE(table.slot(3)->wanted);
  EXPECT_EQ(table.slots().size(), 3u);
}

}  // namespace
}  // namespace keelback::core
