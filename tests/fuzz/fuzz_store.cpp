// A store of which one file has been damaged in any way. Every input is a list of patches (three
// bytes of place, one of value) on a good file; the two lowest bits of the first byte say which: 0
// the database, 1 and 3 the list of stale rows, 2 the anchor. Beyond "does not crash": the store
// opens, it finds each session as it was written or tells that it is lost, and it stores again.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <map>
#include <string>

#include "base/check.h"
#include "store/sqlite_store.h"
#include "store/test_directory.h"

namespace {

using namespace keelback;
using namespace keelback::store;

Record record_of(std::uint64_t number) {
  Record record;
  record.session = "session-" + std::to_string(number);
  record.birth = 1000 + number;
  record.epoch = static_cast<std::uint32_t>(number);
  record.number = number;
  record.mode = static_cast<Affinity>(number % 3);
  record.opened_ms = 5000;
  record.used_ms = static_cast<std::int64_t>(6000 + number);
  record.snapshot.format = number % 2 == 0 ? Format::kJson : Format::kBytes;
  record.snapshot.state = std::make_shared<const std::string>(std::string(number * 900, 's'));
  record.answer = {"key-" + std::to_string(number), number, OutcomeKind::kOk, "[1]", "", "", ""};
  return record;
}

bool keep(Store& store, Record record) {
  std::promise<bool> done;
  const auto now = store.keep(std::move(record), [&](bool kept) { done.set_value(kept); });
  return now ? *now : done.get_future().get();
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

struct Place {
  Place() {
    directory = store::make_test_directory();
    CHECK(!directory.empty());
    path = directory + "/store.db";
    {
      auto store = SqliteStore::open({.path = path, .bytes_max = 1 << 20, .notice = nullptr});
      CHECK(store.has_value());
      for (std::uint64_t number = 1; number <= 5; ++number) {
        CHECK(keep(**store, record_of(number)));
      }
    }
    file = read_file(path);
    stale = read_file(path + "-stale");
    anchor = read_file(path + "-anchor");
  }
  ~Place() { std::filesystem::remove_all(directory); }
  std::string directory, path, file, stale, anchor;
};

void check_record(Store& store, const Record& found) {
  CHECK(found.number >= 1 && found.number <= 6);
  const Record written = record_of(found.number);
  CHECK(found.session == written.session && found.birth == written.birth);
  CHECK(found.epoch == written.epoch && found.mode == written.mode);
  CHECK(found.opened_ms == written.opened_ms && found.used_ms == written.used_ms);
  CHECK(found.answer.key == written.answer.key && found.answer.payload == written.answer.payload);
  std::promise<Fetched> done;
  auto now = store.fetch(found.session, found.birth, found.number,
                         [&](Fetched fetched) { done.set_value(std::move(fetched)); });
  const Fetched fetched = now ? std::move(*now) : done.get_future().get();
  if (!fetched.snapshot) return;
  CHECK(fetched.snapshot->format == written.snapshot.format);
  CHECK(*fetched.snapshot->state == *written.snapshot.state);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Place place;
  std::string file = place.file;
  std::string stale = place.stale;
  std::string anchor = place.anchor;
  const int which = size > 0 ? data[0] & 3 : 0;
  std::string& patched = which == 0 ? file : which == 2 ? anchor : stale;
  for (std::size_t at = 1; at + 4 <= size; at += 4) {
    const std::size_t where = (data[at] | data[at + 1] << 8 | data[at + 2] << 16) % patched.size();
    patched[where] = static_cast<char>(data[at + 3]);
  }
  for (const auto& entry : std::filesystem::directory_iterator(place.directory)) {
    std::filesystem::remove(entry.path());
  }
  write_file(place.path, file);
  write_file(place.path + "-stale", stale);
  write_file(place.path + "-anchor", anchor);
  auto store = SqliteStore::open({.path = place.path, .bytes_max = 1 << 20, .notice = nullptr});
  CHECK(store.has_value());
  const auto all = (*store)->take_found();
  CHECK(all.size() + (*store)->take_lost().size() == 5);
  for (const Record& found : all) check_record(**store, found);
  if (keep(**store, record_of(6))) check_record(**store, record_of(6));
  return 0;
}
