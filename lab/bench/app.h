// `bench app`: the capacity question about a user's own function: how many calls a second at which
// p99 with how many calls at once in a worker and with how many workers, where the knees are, what
// to set. Schema keelback-bench-app/1.
#pragma once

#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/family.h"
#include "bench/progress.h"

namespace keelback::bench {

struct AppPlan {
  std::string program;
  std::string python = "python3";
  std::string app, function, payload = "[]";
  std::vector<std::string> expose;
  std::vector<std::uint32_t> workers = {1, 2, 4};
  // Calls at once in a worker to try. Empty: 1, 2, 4 … up to what the function declares.
  std::vector<std::uint32_t> concurrency;
  std::uint32_t sessions = 0;  // calls go to so many sessions, by Zipf(1); 0: stateless
  double objective_ms = 0;     // of p99; 0: five times what a call takes alone
  double rate = 0;             // wanted; 0: the most
  Profile profile = Profile::kPr;
  std::uint64_t seed = 1;
  Progress progress;
};

// The error: the application does not start, or the function does not answer.
std::expected<nlohmann::json, std::string> measure_app(const AppPlan& plan);

// Of a document: 0, or 1 where the wanted rate is not carried, 3 void.
int exit_code_of_app(const nlohmann::json& document);

}  // namespace keelback::bench
