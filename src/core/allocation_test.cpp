// A program of its own, because it counts every allocation of its process.
#include <gtest/gtest.h>

#include <cstdlib>
#include <deque>
#include <new>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/pool.h"
#include "core/slab.h"

namespace {
std::uint64_t allocations = 0;
}  // namespace

// Not inlined: a compiler that sees `free` but not its `malloc` takes them for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto unit = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(unit, (size + unit - 1) / unit * unit)) return memory;
  std::abort();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace keelback::core {
namespace {

// A pool whose workers answer in the order in which they were asked.
class PaperPool {
 public:
  PaperPool() : pool_(settings(), 1) {
    FunctionsAnnounced functions;
    functions.functions.emplace_back();
    functions.functions.back().name = "f";
    pool_.handle(now_, functions, actions_);
    const Actions starting = std::move(actions_);
    actions_.clear();
    for (const Action& action : starting) {
      if (const auto* start = std::get_if<StartWorker>(&action)) {
        pool_.handle(now_, WorkerReady{start->worker}, actions_);
      }
    }
    collect();
    for (int i = 0; i < 100; ++i) sessions_.push_back("session " + std::to_string(i));
  }

  // `waiting` calls are kept in the queue; every third belongs to no session.
  void run(std::size_t calls, std::size_t waiting) {
    for (std::size_t i = 0; i < calls; ++i) {
      submit(i % 3 == 0 ? std::string_view{} : sessions_[i % sessions_.size()]);
      if (submitted_ - replied_ > waiting) reply();
    }
    while (replied_ < submitted_) reply();
  }

 private:
  static Pool::Config settings() {
    Settings settings;
    settings.pool.workers = 2;
    return settings;
  }
  void submit(std::string_view session) {
    now_ += std::chrono::microseconds(1);
    CallSubmitted event;
    event.call = CallId{++submitted_};
    event.function = "f";
    event.session = session;
    event.fingerprint = submitted_;
    event.payload_bytes = 100;
    pool_.handle(now_, event, actions_);
    collect();
  }
  void reply() {
    ASSERT_FALSE(running_.empty());
    const auto [worker, call] = running_[next_++];
    if (next_ == running_.size()) running_.clear(), next_ = 0;
    ++replied_;
    pool_.handle(now_, WorkerReplied{worker, call}, actions_);
    collect();
  }
  void collect() {
    for (const Action& action : actions_) {
      if (const auto* dispatch = std::get_if<Dispatch>(&action)) {
        running_.emplace_back(dispatch->worker, dispatch->call);
      }
    }
    actions_.clear();
  }

  Pool pool_;
  Actions actions_;
  Time now_{};
  std::uint64_t submitted_ = 0, replied_ = 0;
  std::vector<std::pair<WorkerId, CallId>> running_;
  std::size_t next_ = 0;
  std::vector<std::string> sessions_;
};

// Goal: once its tables have their size, the core allocates nothing, whether calls find a worker
// free, wait in the queue, or belong to sessions.
TEST(Allocations, NoneInTheSteadyState) {
  if (kSlabUsesHeap) GTEST_SKIP() << "under AddressSanitizer every object is a block of its own";
  PaperPool pool;
  for (const std::size_t waiting : {0, 1, 50}) {
    pool.run(20'000, waiting);  // the tables grow
    const std::uint64_t before = allocations;
    pool.run(20'000, waiting);
    EXPECT_EQ(allocations - before, 0u) << waiting << " calls wait";
  }
}

}  // namespace
}  // namespace keelback::core
