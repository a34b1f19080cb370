// What a round trip with an attachment costs, against the least it can cost: two C++ processes that
// share warm memory and wake each other over a socket pair; and against the same bytes inline: in
// the socket's frames (attachments that get no slab), and as base64 in the JSON. Interleaved
// blocks, all arms in one run; docs/performance.md holds the numbers. The base64 arms are favoured:
// nothing is encoded or decoded on our side of the socket.
//
// BYTES is by default one more than 1 MiB: no size of a slab, so that a budget of exactly so much
// carries the bytes and has no slab for them.
//
//   attachments_bench APP [BYTES [BLOCKS [CALLS]]]      APP: tests/apps/attachments.py
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "bench/shared_memory_peer.h"
#include "keelback/keelback.h"

namespace {

using Clock = std::chrono::steady_clock;

void check(bool fine, const char* what) {
  if (fine) return;
  std::perror(what);
  std::exit(1);
}

// Base64 of so many times 'x'.
std::string base64_of_x(std::size_t bytes) {
  std::string text;
  text.reserve((bytes + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes / 3; ++i) text += "eHh4";
  if (bytes % 3 == 1) text += "eA==";
  if (bytes % 3 == 2) text += "eHg=";
  return text;
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

struct Arm {
  const char* name;
  std::size_t reference;  // which arm it is compared with
  std::function<void()> once;
  std::vector<double> blocks = {};  // median of each, us
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "attachments_bench APP [BYTES [BLOCKS [CALLS]]]\n");
    return 2;
  }
  const std::size_t bytes = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : (1 << 20) + 1;
  const int blocks = argc > 3 ? std::atoi(argv[3]) : 30;
  const int calls = argc > 4 ? std::atoi(argv[4]) : 100;

  // Forked before the pool starts its thread.
  auto peer = keelback::bench::SharedMemoryPeer::start(bytes);
  check(peer.has_value(), "peer");
  const std::string source(bytes, 'x');
  std::string back(bytes, '\0');

  const auto pool_with = [&](const std::string& budget) {
    keelback::Config config(argv[1]);
    check(config.set("pool.workers", "1").has_value(), "config");
    check(config.set("attachments.budget", budget).has_value(), "config");
    auto pool = keelback::Pool::start(config);
    check(pool.has_value() && pool->wait_ready(std::chrono::seconds(20)).has_value(), "pool");
    return std::move(*pool);
  };
  keelback::Pool with_slabs = pool_with("256MiB");
  keelback::Pool without_slabs = pool_with(std::to_string(bytes) + "B");
  const auto call = [&](keelback::Pool& pool, const char* function) {
    keelback::Call made;
    made.function = function;
    made.payload = "{}";
    made.attachments.push_back(
        {"data", keelback::Buffer(std::as_bytes(std::span(source)), nullptr), "", {}});
    const auto result = pool.call(std::move(made));
    if (!result) {
      std::fprintf(stderr, "%s\n", result.error().describe().c_str());
      std::exit(1);
    }
    return result->attachments.empty() ? std::size_t{0} : result->attachments[0].data.size();
  };

  const std::string inlined = "{\"text\":\"" + base64_of_x(bytes) + "\"}";
  const auto call_inline = [&](const char* function) {
    keelback::Call made;
    made.function = function;
    made.payload = inlined;
    const auto result = with_slabs.call(std::move(made));
    if (result) return result->payload.size();
    std::fprintf(stderr, "%s\n", result.error().describe().c_str());
    std::exit(1);
  };
  const std::string counted = std::to_string(bytes);

  const auto there = [&](keelback::Pool& pool, const char* function) {
    return [&, function] { call(pool, function); };
  };
  const auto there_and_back = [&](keelback::Pool& pool) {
    return [&] {
      if (call(pool, "echo") != bytes) std::exit(1);
    };
  };

  constexpr std::size_t kBack = 5;
  Arm arms[] = {
      {"there: warm shared memory", 0, [&] { check(peer->send(source), "peer"); }},
      {"there: zero_copy", 0, there(with_slabs, "look")},
      {"there: slab, copied to bytes", 0, there(with_slabs, "take")},
      {"there: frames of the socket", 0, there(without_slabs, "take")},
      {"there: base64 in the JSON", 0,
       [&] {
         if (call_inline("take_text") != counted.size()) std::exit(1);
       }},
      {"and back: warm shared memory", kBack, [&] { check(peer->echo(source, back), "peer"); }},
      {"and back: slab", kBack, there_and_back(with_slabs)},
      {"and back: frames of the socket", kBack, there_and_back(without_slabs)},
      {"and back: base64 in the JSON", kBack,
       [&] {
         if (call_inline("echo_text") < bytes) std::exit(1);
       }},
  };
  for (int block = -1; block < blocks; ++block) {  // the first one warms up
    for (std::size_t i = 0; i < std::size(arms); ++i) {
      Arm& arm = arms[(i + static_cast<std::size_t>(block + 1)) % std::size(arms)];
      std::vector<double> times;
      for (int n = 0; n < calls; ++n) {
        const auto start = Clock::now();
        arm.once();
        times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
      }
      if (block >= 0) arm.blocks.push_back(median(std::move(times)));
    }
  }
  if (without_slabs.stats().attachments.slab_bytes != 0) {
    std::fprintf(stderr, "%zu bytes found a slab: choose no multiple of 64 KiB\n", bytes);
    return 1;
  }
  std::printf("%zu bytes, %d interleaved blocks of %d calls\n", bytes, blocks, calls);
  for (const Arm& arm : arms) {
    std::vector<double> ratios;
    for (std::size_t b = 0; b < arm.blocks.size(); ++b) {
      ratios.push_back(arm.blocks[b] / arms[arm.reference].blocks[b]);
    }
    std::ranges::sort(ratios);
    std::printf("%-36s p50 %8.1f us   ratio %.2f (quarters %.2f to %.2f)\n", arm.name,
                median(arm.blocks), median(ratios), ratios[ratios.size() / 4],
                ratios[ratios.size() * 3 / 4]);
  }
}
