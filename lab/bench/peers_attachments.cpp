#include "bench/peer_stages.h"

#include <fmt/format.h>

#include <chrono>

#include "bench/pinned.h"
#include "bench/pool_under_test.h"
#include "bench/shared_memory_peer.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr int kCalls = 60;  // with an attachment, a block

// Base64 of so many times 'x'.
std::string base64_of_x(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes / 3; ++i) text += "eHh4";
  return text + (bytes % 3 == 1 ? "eA==" : bytes % 3 == 2 ? "eHg=" : "");
}

// The median of so many exchanges with the other side.
template <typename Exchange>
double shared_memory_us(Block& block, Exchange exchange) {
  std::vector<double> took;
  for (int i = 0; i < kCalls; ++i) {
    const auto began = std::chrono::steady_clock::now();
    if (!exchange()) block.fail(1, "the shared memory's other side is gone");
    took.push_back(us(std::chrono::steady_clock::now() - began));
  }
  return median(took);
}

// A mebibyte to a worker's function, and back, against two processes that copy it through memory
// which both have mapped and touched. Both ends run where we say, on both sides.
std::string measure_attachment(PeersRun& run, const std::string& place, int other_end) {
  constexpr std::size_t kBytes = 1 << 20;
  const int here = Pinned::first_allowed(), there = *Pinned::allowed(other_end);
  auto floor = SharedMemoryPeer::start(kBytes);
  if (!floor) return floor.error();
  auto agent = run.lasting_pool(1);
  if (!agent) return agent.error();
  const Pinned pin(here);
  Pinned::put(floor->pid(), there);
  const std::string source(kBytes, 'x');
  std::string back(kBytes, '\0');
  const auto ours = [&](Block& block, const char* function) {
    return run.asked(block, run.kOurs, *agent,
                     {{"op", "attachment"},
                      {"function", function},
                      {"bytes", kBytes},
                      {"calls", kCalls},
                      {"here", here},
                      {"there", there}},
                     "p50_us");
  };
  const std::string way_there = "attachment.there." + place, way_back = "attachment.back." + place;
  const auto one = [&](Block& block) {
    for (const std::size_t step : block.order(4)) {
      if (step == 0) block.note(way_there, ours(block, "size"), run.kOurs);
      if (step == 1) block.note(way_back, ours(block, "noop"), run.kOurs);
      if (step == 2)
        block.note(way_there, shared_memory_us(block, [&] { return floor->send(source); }), 1);
      if (step == 3)
        block.note(way_back, shared_memory_us(block, [&] { return floor->echo(source, back); }), 1);
    }
  };
  const std::vector<Arm> arms = {{"ours", {}}, {"floor", {}}};
  Block warm(arms, run.prng());
  one(warm);
  if (!warm.error().empty()) return warm.error();
  return run.measure("attachments, " + place, arms, run.options().blocks, one);
}

}  // namespace

std::string measure_attachment(PeersRun& run) {
  if (auto error = measure_attachment(run, "pinned", 0); !error.empty()) return error;
  if (Pinned::allowed(1)) return measure_attachment(run, "apart", 1);
  run.not_measured("attachments between processors: there is one");
  return {};
}

// A mebibyte by every way that there is, against the least that it can cost. It is one byte more:
// no size of a slab, so that a budget of exactly so much carries the bytes and has no slab for
// them. Of what is inline, nothing is encoded or decoded on our side of the socket.
std::string measure_ways(PeersRun& run) {
  constexpr std::size_t kBytes = (1 << 20) + 1;
  auto floor = SharedMemoryPeer::start(kBytes);
  if (!floor) return floor.error();
  auto slabs = run.lasting_pool(1);
  auto none =
      run.lasting_pool(1, {{"settings", {{"attachments.budget", fmt::format("{}B", kBytes)}}}});
  if (!slabs || !none) return slabs ? none.error() : slabs.error();
  const auto beside = [&](const char* function) -> Json {
    return {{"op", "attachment"}, {"function", function}, {"bytes", kBytes}, {"calls", kCalls}};
  };
  const auto inside = [text = "[\"" + base64_of_x(kBytes) + "\"]"](const char* function) -> Json {
    return {{"op", "window"}, {"function", function}, {"payload", text}, {"ms", 10 * kCalls}};
  };
  struct Way {
    const char* row;
    LineProcess* process;
    Json order;
    bool back = false;
  };
  const Way all[] = {{"ways.there.zero_copy", &*slabs, beside("look")},
                     {"ways.there.slab", &*slabs, beside("size")},
                     {"ways.there.frames", &*none, beside("size")},
                     {"ways.there.inline", &*slabs, inside("text_size")},
                     {"ways.back.slab", &*slabs, beside("noop"), true},
                     {"ways.back.frames", &*none, beside("noop"), true},
                     {"ways.back.inline", &*slabs, inside("text_back"), true}};
  const std::string source(kBytes, 'x');
  std::string back(kBytes, '\0');
  const std::vector<Arm> arms = {{"ours", {}}, {"floor", {}}};
  return run.measure("attachments, every way", arms, run.options().blocks, [&](Block& block) {
    for (const std::size_t i : block.order(std::size(all)))
      block.note(all[i].row, run.asked(block, run.kOurs, *all[i].process, all[i].order, "p50_us"));
    const double there = shared_memory_us(block, [&] { return floor->send(source); });
    const double there_and_back =
        shared_memory_us(block, [&] { return floor->echo(source, back); });
    for (const Way& way : all) block.note(way.row, way.back ? there_and_back : there, 1);
  });
}

}  // namespace keelback::bench
