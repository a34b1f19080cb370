// What a commit of the session store costs. Run by hand on an idle machine, once on a disk and once
// in memory, where no sync hides the rest:
//   store_bench --benchmark_repetitions=5
//   TMPDIR=/dev/shm store_bench --benchmark_repetitions=5
// items_per_second counts snapshots that were answered as kept. Numbers belong to a machine and a
// commit; the ratios between two builds are what travels.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <semaphore>
#include <string>

#include "store/sqlite_store.h"

namespace keelback::store {
namespace {

constexpr std::uint64_t kSessions = 1000;

// A store with a snapshot of each of kSessions sessions.
struct StoreBench {
  explicit StoreBench(std::size_t state_bytes)
      : state(std::make_shared<const std::string>(state_bytes, 's')) {
    std::string pattern = std::filesystem::temp_directory_path() / "keelback-store-bench-XXXXXX";
    directory = ::mkdtemp(pattern.data());
    auto opened = SqliteStore::open(
        {.path = directory + "/sessions.db", .bytes_max = 1ULL << 30, .notice = nullptr});
    if (!opened) return;
    store = std::move(*opened);
    for (std::uint64_t i = 0; i < kSessions; ++i) keep();
    for (std::uint64_t i = 0; i < kSessions; ++i) answered.acquire();
  }
  ~StoreBench() {
    store.reset();
    std::filesystem::remove_all(directory);
  }
  // The next session's next snapshot.
  void keep() {
    const std::uint64_t session = ++number % kSessions;
    Record record;
    record.session = "a-session-as-people-name-them-" + std::to_string(session);
    record.birth = session + 1;
    record.epoch = 1;
    record.number = number;
    record.snapshot.state = state;
    record.answer.key = "key";
    record.answer.payload = "{\"answer\":42}";
    store->keep(std::move(record), [this](bool) { answered.release(); });
  }

  std::shared_ptr<const std::string> state;
  std::string directory;
  std::unique_ptr<SqliteStore> store;
  std::counting_semaphore<> answered{0};
  std::uint64_t number = 0;
};

// `range(0)` snapshots are under way at once; a state has `range(1)` bytes.
void keep_snapshots(benchmark::State& run) {
  StoreBench bench(static_cast<std::size_t>(run.range(1)));
  if (bench.store == nullptr) return run.SkipWithError("the store cannot be opened");
  for (std::int64_t i = 0; i < run.range(0); ++i) bench.keep();
  for (auto each : run) {
    bench.answered.acquire();
    bench.keep();
  }
  for (std::int64_t i = 0; i < run.range(0); ++i) bench.answered.acquire();
  run.SetItemsProcessed(run.iterations());
}
BENCHMARK(keep_snapshots)
    ->ArgNames({"at_once", "bytes"})
    ->Args({1, 200})
    ->Args({1, 8000})
    ->Args({32, 200})
    ->Args({32, 8000})
    ->UseRealTime();

}  // namespace
}  // namespace keelback::store

BENCHMARK_MAIN();
