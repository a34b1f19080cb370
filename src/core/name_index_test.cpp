#include "core/name_index.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "base/prng.h"
#include "core/id_index.h"
#include "core/slab.h"

namespace keelback::core {
namespace {

struct Item {
  std::string id;
  std::string_view name() const { return id; }
};

// Goal: names are found whatever their length, and only they.
TEST(NameIndex, FindsEveryNameAndNoOther) {
  NameIndex<Item> index(42);
  std::vector<Item> items;
  for (std::size_t length = 0; length < 300; ++length) items.push_back({std::string(length, 'x')});
  for (Item& item : items) index.insert(item);
  for (Item& item : items) EXPECT_EQ(index.find(item.id), &item);
  EXPECT_EQ(index.find(std::string(300, 'x')), nullptr);
  EXPECT_EQ(index.find("y"), nullptr);
  for (std::size_t i = 0; i < items.size(); i += 2) index.erase(items[i]);
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(index.find(items[i].id), i % 2 == 0 ? nullptr : &items[i]);
  }
}

// Goal: whatever comes and goes, and however full it is, the index says what an ordered set says.
TEST(NameIndex, AgreesWithAnOrderedSetWhileNamesComeAndGo) {
  constexpr std::uint64_t kNames = 3000;
  std::vector<Item> items;
  for (std::uint64_t i = 0; i < kNames; ++i) items.push_back({std::to_string(i)});
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    NameIndex<Item> index(seed);
    std::set<std::uint64_t> model;
    Prng prng(seed);
    for (int step = 0; step < 30'000; ++step) {
      // Filled to nine tenths, then emptied to one, and again: it grows, and long probes shrink.
      const bool fill = (step / 5000) % 2 == 0;
      const std::uint64_t i = prng.below(kNames);
      if (model.contains(i) && prng.chance(fill ? 0.1 : 0.9)) {
        index.erase(items[i]);
        model.erase(i);
      } else if (!model.contains(i) && prng.chance(fill ? 0.9 : 0.1)) {
        index.insert(items[i]);
        model.insert(i);
      }
      const std::uint64_t asked = prng.below(kNames);
      ASSERT_EQ(index.find(items[asked].id), model.contains(asked) ? &items[asked] : nullptr);
    }
    ASSERT_EQ(index.size(), model.size());
    for (std::uint64_t i = 0; i < kNames; ++i) {
      ASSERT_EQ(index.find(items[i].id), model.contains(i) ? &items[i] : nullptr) << i;
    }
    ASSERT_LE(index.size() * sizeof(void*) * 2, index.bytes() * 3 / 4);
  }
}

struct Numbered {
  struct Id {
    std::uint64_t value = 0;
  } id;
};

// Goal: a window of numbers that moves on, as calls do, is found whole and nothing beside it; what
// has gone leaves nothing behind that later ones would have to step over.
TEST(IdIndex, FindsAWindowOfNumbersThatMovesOn) {
  constexpr std::uint64_t kWindow = 100;
  IdIndex<Numbered> index;
  std::vector<Numbered> items(kWindow);
  for (std::uint64_t id = 1; id <= 100'000; ++id) {
    Numbered& item = items[id % kWindow];
    if (id > kWindow) {
      ASSERT_EQ(index.find(id - kWindow), &item);
      index.erase(item);
    }
    item.id.value = id;
    index.insert(item);
    ASSERT_FALSE(index.contains(id + 1));
    ASSERT_FALSE(id > kWindow && index.contains(id - kWindow));
  }
  EXPECT_EQ(index.size(), kWindow);
  std::set<std::uint64_t> left;
  index.each([&](const Numbered& item) { left.insert(item.id.value); });
  EXPECT_EQ(left.size(), kWindow);
  EXPECT_EQ(*left.rbegin(), 100'000u);
}

// Goal: the hash depends on the seed and on every byte, the length included.
TEST(SeededHash, DependsOnSeedAndOnEveryByte) {
  std::set<std::uint64_t> hashes;
  const std::string base(40, 'a');
  for (std::size_t i = 0; i < base.size(); ++i) {
    std::string text = base;
    text[i] = 'b';
    hashes.insert(seeded_hash(text, 1));
    hashes.insert(seeded_hash(base.substr(0, i), 1));
    hashes.insert(seeded_hash(base, i + 1));
  }
  EXPECT_EQ(hashes.size(), 3 * base.size());
  EXPECT_NE(seeded_hash(std::string("\0", 1), 1), seeded_hash("", 1));
}

// Goal: a slab hands out live, distinct, stable objects and takes them back.
TEST(Slab, ReusesWhatIsFreed) {
  Slab<Item> slab;
  std::vector<Item*> items;
  for (int i = 0; i < 1000; ++i) items.push_back(slab.make(Item{std::to_string(i)}));
  EXPECT_EQ(slab.live(), 1000u);
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(items[static_cast<std::size_t>(i)]->id, std::to_string(i));
  EXPECT_EQ(std::set<Item*>(items.begin(), items.end()).size(), 1000u);
  for (Item* item : items) slab.free(item);
  EXPECT_EQ(slab.live(), 0u);
}

}  // namespace
}  // namespace keelback::core
