#include "core/idempotency.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
constexpr Duration kTtl = 10min;

void keep(Idempotency& keys, IdempotencyEntry& entry, Time now, std::uint64_t bytes = 1) {
  keys.keep(entry, now, OutcomeKind::kOk, Effect::kDone, bytes);
}

// Goal: an answer is found for the ttl after it was given, and not a tick longer.
TEST(Idempotency, AnAnswerLivesForItsTtl) {
  Idempotency keys(1);
  IdempotencyEntry& entry = keys.lead("k", 7, CallId{1});
  EXPECT_EQ(keys.find(at(1h), "k", kTtl), &entry) << "in flight: no ttl yet";
  keep(keys, entry, at(1h));
  EXPECT_EQ(keys.find(at(1h) + kTtl - 1ns, "k", kTtl), &entry);
  EXPECT_EQ(keys.find(at(1h) + kTtl, "k", kTtl), nullptr);
  EXPECT_EQ(keys.next_deadline(kTtl), at(1h) + kTtl);
  EXPECT_EQ(keys.to_forget(at(1h), kTtl), nullptr);
  EXPECT_EQ(keys.to_forget(at(1h) + kTtl, kTtl), &entry);
  keys.drop(entry);
  EXPECT_EQ(keys.size(), 0u);
}

// Goal: bounded in keys and in retained bytes; the oldest answer goes first.
TEST(Idempotency, TheOldestAnswerMakesRoom) {
  Idempotency keys(1);
  IdempotencyEntry& old = keys.lead("old", 1, CallId{1});
  IdempotencyEntry& young = keys.lead("young", 2, CallId{2});
  keep(keys, old, at(1s), Idempotency::kBytesMax);
  EXPECT_EQ(keys.to_forget(at(1s), kTtl), nullptr) << "at the maximum";
  keep(keys, young, at(2s), 1);
  EXPECT_EQ(keys.to_forget(at(2s), kTtl), &old) << "one past it";
  keys.drop(old);
  EXPECT_EQ(keys.to_forget(at(2s), kTtl), nullptr);
  EXPECT_EQ(keys.bytes(), 1u);
}

TEST(Idempotency, IsFullWhenEveryKeyIsInFlight) {
  Idempotency keys(1);
  for (std::size_t i = 0; i < Idempotency::kEntriesMax; ++i) {
    ASSERT_FALSE(keys.full());
    keys.lead(std::to_string(i), 1, CallId{i + 1});
  }
  EXPECT_TRUE(keys.full());
  keep(keys, *keys.find(at(0s), "5", kTtl), at(0s));
  EXPECT_FALSE(keys.full());
  keys.lead("one more", 1, CallId{99'999});
  EXPECT_NE(keys.to_forget(at(0s), kTtl), nullptr);
}

}  // namespace
}  // namespace keelback::core
