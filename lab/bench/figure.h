// Figures of a document (bench/family.h makes them) as charts on a page.
#pragma once

#include <nlohmann/json.hpp>

#include "report/chart.h"
#include "report/page.h"

namespace keelback::bench {

void add_figure(report::Page& page, const nlohmann::json& figure);
// Cumulative latencies on an axis of nines. buckets: [ns, finished, censored], ascending.
report::Chart percentile_chart(const nlohmann::json& series);

}  // namespace keelback::bench
