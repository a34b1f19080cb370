#include "core/name_index.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

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
