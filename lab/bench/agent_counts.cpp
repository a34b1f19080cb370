#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "bench/agent_orders.h"
#include "bench/signed_rank.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// What the library in front of libc has counted (allocation_counter.cpp); null: it is not there.
using AllocationCounter = std::uint64_t (*)();
AllocationCounter allocation_counter() {
  return reinterpret_cast<AllocationCounter>(::dlsym(RTLD_DEFAULT, "keelback_allocations"));
}

}  // namespace

Json memory(PoolUnderTest& pool, const Json&) {
  std::uint64_t workers = 0, zygote = 0;
  std::uint32_t living = 0;
  for (const host::WorkerInfo& worker : pool.driver().workers()) {
    if (worker.pid <= 0) continue;
    workers += pss_kb(worker.pid);
    ++living;
  }
  if (const auto pid = pool.driver().info().start.zygote_pid) zygote = pss_kb(pid);
  return {{"ok", true},
          {"pss_kb", pool.total_pss_kb()},
          {"supervisor_kb", pss_kb(::getpid())},
          {"zygote_kb", zygote},
          {"worker_kb", living ? static_cast<double>(workers) / living : 0.0},
          {"fds", os::count_open_fds().value_or(0)}};
}

// Theil and Sen's slope of memory over calls: the median of the slopes between all pairs of
// readings, so one page fault in the wrong place is no leak. kB per 1000 calls.
Json memory_growth(PoolUnderTest& pool, const Json& order) {
  const Call call = call_of(order);
  const auto rounds = std::max(3u, order.value("rounds", 6u));
  const auto calls = order.value("calls", 500u);
  std::vector<double> readings;
  for (std::uint32_t round = 0; round <= rounds; ++round) {
    readings.push_back(static_cast<double>(pool.total_pss_kb()));
    if (round == rounds) break;
    for (std::uint32_t i = 0; i < calls; ++i) {
      if (!pool.driver().call(call).ok()) return refusal("a call failed");
    }
  }
  std::vector<double> slopes;
  for (std::size_t i = 1; i < readings.size(); ++i) {  // the first one still warms up
    for (std::size_t j = i + 1; j < readings.size(); ++j)
      slopes.push_back((readings[j] - readings[i]) / (static_cast<double>(j - i) * calls) * 1000);
  }
  return {{"ok", true}, {"kb_per_1000_calls", median(slopes)}, {"readings_kb", readings}};
}

// What one call costs in things that can be counted, not timed.
Json counters(PoolUnderTest& pool, const Json& order) {
  const auto calls = order.value("calls", 2000u);
  const Call call = call_of(order);
  for (int i = 0; i < 200; ++i) (void)pool.driver().call(call);
  const AllocationCounter allocated = allocation_counter();
  // Both kinds together: it is chance whether a process sleeps before another takes its processor.
  const auto before = pool.worker_switches().all(), own_before = pool.own_switches().all();
  const std::uint64_t allocated_before = allocated ? allocated() : 0;
  for (std::uint32_t i = 0; i < calls; ++i) (void)pool.driver().call(call);
  const std::uint64_t allocated_after = allocated ? allocated() : 0;
  const auto per_call = [&](std::uint64_t n) { return static_cast<double>(n) / calls; };
  Json answer = {{"ok", true},
                 {"worker_switches", per_call(pool.worker_switches().all() - before)},
                 {"caller_switches", per_call(pool.own_switches().all() - own_before)},
                 {"fds", os::count_open_fds().value_or(0)},
                 {"processes", os::descendants_of(::getpid()).size()}};
  if (allocated) answer["allocations_per_call"] = per_call(allocated_after - allocated_before);
  return answer;
}

Json calls(PoolUnderTest& pool, const Json& order) {
  const Call call = call_of(order);
  for (auto left = order.value("calls", 500u); left > 0; --left) {
    Call one = call;
    if (order.value("sessions", false)) one.session = load::session_name(left);
    if (!pool.driver().call(std::move(one)).ok()) return refusal("a call failed");
  }
  return {{"ok", true}};
}

// What a pool costs without calls, with `sessions` open.
Json idle(PoolUnderTest& pool, const Json& order) {
  const auto sessions = order.value("sessions", 0u);
  for (std::uint32_t i = 0; i < sessions; ++i) {
    if (!pool.driver()
             .call({.function = "count",
                    .payload = "[]",
                    .session = load::session_name(i + 1, "idle-")})
             .ok())
      return refusal("a session could not be opened");
  }
  const Duration length = from_ms(order.value("ms", 1000.0));
  // A process that sleeps gives its processor up by itself.
  const auto sleeps = [&] {
    return pool.own_switches().voluntary + pool.worker_switches().voluntary;
  };
  const auto cpu = pool.cpu(), switches = sleeps();
  std::this_thread::sleep_for(length);
  const auto cpu_used = pool.cpu() - cpu;
  const auto woken = sleeps() - switches;
  const double seconds = std::chrono::duration<double>(length).count();
  return {{"ok", true},
          {"cpu_ms_per_s", static_cast<double>(cpu_used) / 1e6 / seconds},
          // One of them is our own sleep.
          {"wakeups_per_s", std::max(0.0, static_cast<double>(woken) - 1) / seconds}};
}

}  // namespace keelback::bench
