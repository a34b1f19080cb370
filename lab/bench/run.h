// `bench run`: families in blocks of fresh processes, with the reference arm measured in each
// block. The result is a document (schema keelback-bench-run/1) from which bench/report.h makes
// everything that people read.
#pragma once

#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/family.h"
#include "bench/progress.h"

namespace keelback::bench {

struct RunPlan {
  FamilyOptions family;
  std::vector<std::string> families;  // empty: all
  int blocks = 0;                     // 0: by profile
  std::uint64_t seed = 1;
  Progress progress;
};

int blocks_of(Profile profile);  // quick 3, pr 6, nightly 15

// The error is usage: no such family. A family that cannot be measured says so in the document.
std::expected<nlohmann::json, std::string> run_families(const RunPlan& plan);

// Of a document: 0 ok, 1 a promise was broken or a family failed, 3 void.
int exit_code_of_run(const nlohmann::json& document);
// What makes two documents' numbers the same question: metrics, profile-independent.
std::string suite_hash();

}  // namespace keelback::bench
