// What an agent can be told to do with a running pool; bench/agent.h lists the orders and their
// fields. Each blocks until it has its answer, and never throws except what nlohmann throws on a
// field of the wrong type.
#pragma once

#include <nlohmann/json.hpp>

#include "bench/pool_under_test.h"
#include "load/generator.h"

namespace keelback::bench {

// The call that an order is about, of `function` where it names none.
Call call_of(const nlohmann::json& order, const char* function = "noop");

// A run of either kind as JSON: rates, quantiles, outcomes, and the three histograms.
nlohmann::json figures(const load::Run& run);
// Latency over time, thinned to `most` points: [seconds, milliseconds, ok].
nlohmann::json points_of(const load::Run& run, std::size_t most);

nlohmann::json closed_window(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json open_window(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json wave(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json settle(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json affinity(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json neighbour(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json attachment(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json host_window(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json pile(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json queue_cost(PoolUnderTest& pool, const nlohmann::json& order);

nlohmann::json recover(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json kill_all(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json recycle(PoolUnderTest& pool, const nlohmann::json& order);

nlohmann::json memory(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json memory_growth(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json counters(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json calls(PoolUnderTest& pool, const nlohmann::json& order);
nlohmann::json idle(PoolUnderTest& pool, const nlohmann::json& order);

}  // namespace keelback::bench
